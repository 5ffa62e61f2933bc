"""The tables of access: hosts of a region that may be measured, on-ramps of private links, and the media between sites."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from inventory.places import provider_of
from inventory.rows import BadRow, Faults, Row, read_table
from records.access import BASES, PROTOCOLS, TERMINATIONS, Basis, Endpoint, MediumLink, OnRamp, Protocol, Termination
from records.link import MEDIA, Medium
from records.place import PROVIDERS, Site

__all__ = ["ANY", "read_endpoints", "read_links", "read_onramps"]

#: Stands for every site, or every region of a provider.
ANY = "any"

ENDPOINT_COLUMNS = ("region", "host", "port", "protocol", "terminates", "basis", "source", "as_of", "note")
ONRAMP_COLUMNS = ("provider", "product", "metro", "country", "lat", "lon", "regions", "source", "as_of")
LINK_COLUMNS = (
    *("src", "dst", "medium", "capacity_gbps", "port_usd_per_month", "usd_per_gb", "commitment_months"),
    *("currency", "source", "as_of"),
)

_HOST = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_CURRENCY = re.compile(r"[A-Z]{3}")


def read_endpoints(path: Path, regions: Container[str], faults: Faults) -> list[Endpoint]:
    """Hosts of regions from CSV, the ones to prefer first; faults are noted."""

    def make(row: Row) -> Endpoint:
        region, host = row.text("region"), row.text("host")
        if region not in regions:
            raise faults.missing(region, f"region {region!r} is not in the inventory; `isochrone inventory list regions` names them")
        if not _HOST.fullmatch(host):
            raise BadRow(f"host {host!r} is not a DNS name in lower case, as in dynamodb.us-east-1.amazonaws.com")
        return Endpoint(
            region=region,
            host=host,
            port=row.whole("port", 1, 65535),
            protocol=cast("Protocol", row.one_of("protocol", PROTOCOLS)),
            terminates=cast("Termination", row.one_of("terminates", TERMINATIONS)),
            basis=cast("Basis", row.one_of("basis", BASES)),
            source=row.text("source"),
            as_of=row.as_of(),
            note=row.optional("note"),
        )

    return read_table(path, ENDPOINT_COLUMNS, make, lambda found: (found.region, found.host, found.port), faults)


def read_onramps(path: Path, regions: Iterable[str], faults: Faults) -> list[OnRamp]:
    """On-ramps of private link products from CSV; faults are noted."""
    of_provider: dict[str | None, list[str]] = {}
    for region in regions:
        of_provider.setdefault(provider_of(region), []).append(region)

    def make(row: Row) -> OnRamp:
        provider = row.one_of("provider", tuple(PROVIDERS))
        row.text("country")
        return OnRamp(
            provider=provider,
            product=row.text("product"),
            metro=row.text("metro"),
            country=row.country() or "",
            lat=row.number("lat", -90, 90),
            lon=row.number("lon", -180, 180),
            regions=_reached(row.text("regions"), provider, of_provider.get(provider, []), faults),
            source=row.text("source"),
            as_of=row.as_of(),
        )

    return read_table(path, ONRAMP_COLUMNS, make, lambda found: (found.provider, found.product, found.metro, found.country), faults)


def _reached(text: str, provider: str, regions: Sequence[str], faults: Faults) -> tuple[str, ...] | None:
    """The regions that a list of ids means, where ``any`` is every one of the provider and ``-X`` takes X out."""
    if text == ANY:
        return None
    found: dict[str, None] = {}
    for word in text.split():
        region = word.removeprefix("-")
        problem = f"regions: {region!r} is no region of {provider}; write ids as in aws:us-east-1, or any, or any -aws:cn-north-1"
        if region != ANY and provider_of(region) != provider:
            raise BadRow(problem)
        if region != ANY and region not in regions:
            raise faults.missing(region, problem)
        meant = regions if region == ANY else [region]
        for known in meant:
            if word.startswith("-"):
                found.pop(known, None)
            else:
                found[known] = None
    if not found:
        raise BadRow(f"regions {text!r} leaves no region")
    return tuple(found)


def read_links(path: Path, sites: Mapping[str, Site], faults: Faults) -> list[MediumLink]:
    """Which media join which sites from CSV, and what they cost; one row serves both directions; faults are noted."""

    def make(row: Row) -> MediumLink:
        src, dst = row.text("src"), row.text("dst")
        medium = cast("Medium", row.one_of("medium", MEDIA))
        currency = row.optional("currency")
        if currency is not None and not _CURRENCY.fullmatch(currency):
            raise BadRow(f"currency {currency!r} is not an ISO 4217 code, such as USD")
        capacity_gbps = row.optional_number("capacity_gbps", 0.001)
        port = row.optional_number("port_usd_per_month", 0)
        per_gb = row.optional_number("usd_per_gb", 0)
        if currency is None and (port is not None or per_gb is not None):
            raise BadRow("currency is empty though there is a price; write that of the list it was read from, such as USD")
        _ends(src, dst, medium, sites, faults)
        return MediumLink(
            src=src,
            dst=dst,
            medium=medium,
            capacity_bps=None if capacity_gbps is None else round(capacity_gbps * 1e9),
            port_usd_per_month=port,
            usd_per_gb=per_gb,
            commitment_months=row.whole("commitment_months") if row.optional("commitment_months") else None,
            currency=currency,
            source=row.text("source"),
            as_of=row.as_of(),
        )

    return read_table(path, LINK_COLUMNS, make, lambda found: (*sorted((found.src, found.dst)), found.medium), faults)


def _ends(src: str, dst: str, medium: Medium, sites: Mapping[str, Site], faults: Faults) -> None:
    """Raise BadRow where the two ends cannot be joined by the medium."""
    if ANY in {src, dst}:
        if src != dst:
            raise BadRow(f"{src} to {dst}: `any` stands on both sides or on none")
        if medium != "internet":
            raise BadRow(f"only the internet joins any two sites; {medium} names both ends")
        return
    if src == dst:
        raise BadRow(f"src and dst are both {src}")
    for column, end in (("src", src), ("dst", dst)):
        if end not in sites:
            raise faults.missing(end, f"{column} {end!r} is not in the inventory; `isochrone inventory list pops` names the PoPs")
    kinds = sorted(sites[end].kind for end in (src, dst))
    if medium == "direct-connect" and kinds != ["pop", "region"]:
        raise BadRow(f"direct-connect joins a PoP and a cloud region; {src} and {dst} are a {kinds[0]} and a {kinds[1]}")
    if medium == "backbone" and kinds != ["pop", "pop"]:
        raise BadRow(f"backbone joins two PoPs; {src} and {dst} are a {kinds[0]} and a {kinds[1]}")
