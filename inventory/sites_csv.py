"""SITES.csv: a user's own places beside the built-in ones, for imports and for what-if questions."""

from __future__ import annotations

from pathlib import Path

from inventory.places import provider_of, site_from
from inventory.rows import BadRow, Faults, Row, read_table
from records.place import PROVIDERS, Site, SiteKind

__all__ = ["OPTIONAL_COLUMNS", "REQUIRED_COLUMNS", "read", "read_addresses", "read_sites"]

REQUIRED_COLUMNS = ("id", "name", "lat", "lon")
OPTIONAL_COLUMNS = ("kind", "provider", "country", "metro", "address")

_KINDS: dict[str, SiteKind] = {"pop": "pop", "region": "region", "metro": "metro"}


def read(path: str | Path) -> list[Site]:
    """The sites of a CSV file with the header ``id,name,lat,lon`` and optionally ``kind,provider,country,metro,address``.

    kind      pop, region or metro; where empty, the id says it: ``aws:...`` is a region, ``metro:...`` a metro
    provider  where empty, the id says it
    country   ISO 3166-1 alpha-2
    address   hosts that are at the site, for `read_addresses`

    Raises InputError that names every bad row as file:line, one on each line of its message.
    """
    faults = Faults()
    sites = read_sites(Path(path), faults)
    faults.fail()
    return sites


def read_addresses(path: str | Path) -> dict[str, str]:
    """The hosts of a file of sites -> the site each is at: the column ``address``, in which ``;`` stands between several.

    A host is an address, a network (``192.0.2.0/24``), a host name, or whatever a file of measurements calls it, such as
    ``probe:6025``. Raises InputError when one host is at two sites, or as `read` does.
    """
    faults = Faults()
    found: dict[str, str] = {}
    for site_id, line, text in read_table(Path(path), REQUIRED_COLUMNS, _addresses, lambda row: row[0], faults, optional=OPTIONAL_COLUMNS):
        for host in filter(None, (part.strip() for part in text.split(";"))):
            if found.setdefault(host, site_id) != site_id:
                faults.add(Path(path), line, f"host {host!r} is at {found[host]} already; a host is at one site")
    faults.fail()
    return found


def _addresses(row: Row) -> tuple[str, int, str]:
    return row.text("id"), row.line, row.optional("address") or ""


def read_sites(path: Path, faults: Faults) -> list[Site]:
    """As `read`, with the faults noted instead of raised and the good rows returned."""
    return read_table(path, REQUIRED_COLUMNS, _site, lambda site: site.id, faults, optional=OPTIONAL_COLUMNS)


def _site(row: Row) -> Site:
    site_id = row.text("id")
    provider = row.optional("provider") or provider_of(site_id)
    if provider is not None and provider not in PROVIDERS:
        raise BadRow(f"provider {provider!r} is not one of {', '.join(PROVIDERS)}")
    named = row.optional("kind")
    if named is not None and named not in _KINDS:
        raise BadRow(f"kind {named!r} is not one of {', '.join(_KINDS)}")
    kind: SiteKind = _KINDS[named] if named else "region" if provider else "metro" if site_id.startswith("metro:") else "pop"
    return site_from(row, kind, provider=provider, metro=row.optional("metro"))
