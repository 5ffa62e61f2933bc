"""The tables of places: cloud regions, PoPs, metros, and the other names people give them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inventory.rows import BadRow, Faults, Row, read_table
from records.place import PROVIDERS, Site, SiteKind

__all__ = ["ATTACHMENTS", "NODE_CLASSES", "Alias", "Metro", "Pop", "read_aliases", "read_metros", "read_pops", "read_regions", "site_from"]

#: What a PoP can run work on.
NODE_CLASSES = ("bare-metal", "vm", "edge-gpu")

#: How a PoP is joined to the others: by circuits of the fleet's own, or by transit over the internet only.
ATTACHMENTS = ("backbone", "transit")

REGION_COLUMNS = ("id", "name", "metro", "country", "lat", "lon", "source", "as_of")
POP_COLUMNS = ("id", "name", "metro", "country", "lat", "lon", "node_classes", "source", "as_of")
POP_OPTIONAL = ("attachment",)
METRO_COLUMNS = ("id", "name", "country", "lat", "lon", "population", "source", "as_of")
ALIAS_COLUMNS = ("alias", "id", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pop:
    """A PoP, the classes of nodes it has (of NODE_CLASSES) and how it is attached (of ATTACHMENTS; None: not known)."""

    site: Site
    node_classes: tuple[str, ...]
    attachment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metro:
    """A metro and how many people live there: the weight of its demand where nothing better is known."""

    site: Site
    population: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """Another name under which a site is known, such as a provider's short name."""

    alias: str
    id: str


def site_from(row: Row, kind: SiteKind, *, provider: str | None = None, metro: str | None = None) -> Site:
    """The site of a row with id, name, lat, lon and, where there is one, country; raises BadRow or UserError."""
    return Site(
        id=row.text("id"),
        kind=kind,
        name=row.optional("name") or row.text("id"),
        lat=row.number("lat", -90, 90),
        lon=row.number("lon", -180, 180),
        country=row.country(),
        provider=provider,
        metro=metro,
    )


def provider_of(site_id: str) -> str | None:
    """The provider an id names before its colon; None for ids of PoPs and metros."""
    prefix, colon, _ = site_id.partition(":")
    return prefix if colon and prefix in PROVIDERS else None


def read_regions(path: Path, faults: Faults) -> list[Site]:
    """Cloud regions from CSV; faults are noted."""

    def make(row: Row) -> Site:
        provider = provider_of(row.text("id"))
        if provider is None:
            raise BadRow(
                f"id {row.text('id')!r} names no provider; write one of {', '.join(PROVIDERS)} and the region, as in aws:us-east-1"
            )
        _dated(row)
        row.text("country")
        return site_from(row, "region", provider=provider, metro=row.text("metro"))

    return read_table(path, REGION_COLUMNS, make, lambda site: site.id, faults)


def read_pops(path: Path, faults: Faults) -> list[Pop]:
    """PoPs with their node classes from CSV; faults are noted."""

    def make(row: Row) -> Pop:
        classes = tuple(row.text("node_classes").split())
        for name in classes:
            if name not in NODE_CLASSES:
                raise BadRow(f"node class {name!r} is not one of {', '.join(NODE_CLASSES)}")
        if ":" in row.text("id"):
            raise BadRow(f"id {row.text('id')!r}: a PoP's id has no colon; write it as in sin")
        if row.text("id") == "any":
            raise BadRow("id 'any' stands for every site in the table of links; write another")
        _dated(row)
        row.text("country")
        attachment = row.one_of("attachment", ATTACHMENTS) if row.optional("attachment") else None
        return Pop(site=site_from(row, "pop", metro=row.text("metro")), node_classes=classes, attachment=attachment)

    return read_table(path, POP_COLUMNS, make, lambda pop: pop.site.id, faults, optional=POP_OPTIONAL)


def read_metros(path: Path, faults: Faults) -> list[Metro]:
    """Metros with their population from CSV; faults are noted."""

    def make(row: Row) -> Metro:
        if not row.text("id").startswith("metro:"):
            raise BadRow(f"id {row.text('id')!r}: a metro's id begins with metro:, as in metro:lagos")
        _dated(row)
        row.text("country")
        return Metro(site=site_from(row, "metro", metro=row.text("name")), population=row.whole("population", 1))

    return read_table(path, METRO_COLUMNS, make, lambda metro: metro.site.id, faults)


def read_aliases(path: Path, known: set[str], faults: Faults) -> list[Alias]:
    """Other names of sites from CSV; each must point to a known site and be none itself; faults are noted."""

    def make(row: Row) -> Alias:
        alias, site_id = row.text("alias"), row.text("id")
        if site_id not in known:
            raise faults.missing(site_id, f"alias {alias!r} points to {site_id!r}, which is no site of the inventory")
        if alias in known:
            raise BadRow(f"alias {alias!r} is a site of its own")
        return Alias(alias=alias, id=site_id)

    return read_table(path, ALIAS_COLUMNS, make, lambda alias: alias.alias, faults)


def _dated(row: Row) -> None:
    """Every row of ours says where its facts are from and when they held."""
    row.text("source")
    row.as_of()
