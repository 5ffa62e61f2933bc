"""What a survey says of each region: RTT, fibre floor, inflation, failures. Connections and the inventory in, rows out; no I/O.

Where the host is, is told (`--from`) or bounded, never looked up at anybody's. An RTT to a region whose place is known
bounds the host's distance from it: no signal is faster than light in fibre. So for any other region j the floor is at
least the floor between i and j less the RTT to i, by the triangle inequality on the sphere, and the greatest of these
over all i holds. The nearest regions decide; far ones give nothing. A bound is marked so (>=), and an inflation over it
is an upper bound (<=).

Two regions i and k answer faster than light together when the RTTs to both do not even cover the floor between them:
then one of the names leads elsewhere (a front end near the host). The one that contradicts the most others (of equals
the faster) is put aside, until none do; it is marked, bounds nothing and has no inflation. With `--from` that is so of a
region below 98 % of its own floor.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inventory.continents import continent_of
from inventory.model import Inventory
from probes.http.config import WebEndpoint
from probes.http.survey import Spot
from records.errors import UserError
from records.measurement import HttpResult
from records.place import Site, fibre_floor_ns
from records.units import ms

__all__ = ["Failed", "RegionRow", "place_of", "region_json", "rows", "spots"]

#: How far below the fibre floor an RTT may lie: coordinates are city accurate (as routing's gate allows).
FIBRE_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Connections that failed in one way."""

    outcome: str
    phase: str
    source: str
    error: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRow:
    """One region of a survey. Times in ns; None is not known.

    url              the endpoint kept to; terminates says where a connection to it ends (records.access)
    tried, failed    connections in all, and those that ended in no answer in whatever phase
    rtt_min_ns       least RTT of the TCP hand-shakes by the kernel; rtt_median_ns their median
    tls_ns, tls_resumed_ns   least hand-shake in full and resumed
    floor_ns         fibre floor from the host; floor_is_bound: the true one is that or more, and inflation that or less
    is_impossible    answered faster than light in fibre: the name leads elsewhere, or the host's place is wrong
    """

    site: Site
    continent: str | None
    jurisdiction: str | None
    url: str
    terminates: str | None
    address: str | None
    tried: int
    failed: int
    rtt_min_ns: int | None
    rtt_median_ns: int | None
    dns_ns: int | None
    tls_ns: int | None
    tls_resumed_ns: int | None
    tls_version: str | None
    tls_error: str | None
    http_status: int | None
    floor_ns: int | None
    floor_is_bound: bool
    inflation: float | None
    is_impossible: bool
    failures: tuple[Failed, ...]


def place_of(text: str, inventory: Inventory) -> Site:
    """Where a person says they are: a site's name, ``LAT,LON``, or ``NAME=LAT,LON`` for a place with an id of its own.

    Raises UserError, UnknownSite.
    """
    name, equals, numbers = text.rpartition("=")
    if "," not in numbers:
        return inventory.site(text)
    try:
        lat, lon = (float(part) for part in numbers.split(","))
    except ValueError:
        raise UserError(f"--from {text!r} is no place; give a site such as fra, LAT,LON such as 47.4,8.5, or NAME=LAT,LON") from None
    return Site(id=name.strip() if equals else "here", kind="pop", name=name.strip() if equals else "here", lat=lat, lon=lon)


def spots(regions: Iterable[Site], inventory: Inventory) -> tuple[list[Spot], list[Site]]:
    """What to measure, and the regions of which no endpoint is known, which are not measurable."""
    found, without = [], []
    for region in regions:
        endpoints = tuple(
            WebEndpoint(protocol="https", host=e.host, port=e.port, path="/")
            if e.protocol == "https"
            else WebEndpoint(protocol="tcp", host=e.host, port=e.port)
            for e in inventory.endpoints_of(region.id)
        )
        if endpoints:
            found.append(Spot(site=region.id, provider=region.provider or "", endpoints=endpoints))
        else:
            without.append(region)
    return found, without


def rows(results: Sequence[HttpResult], inventory: Inventory, place: Site | None) -> list[RegionRow]:
    """One row for each region of the results, by RTT; those without one come last, by id."""
    of: dict[str, list[HttpResult]] = {}
    for result in results:
        of.setdefault(result.dst, []).append(result)
    known = {region: min(rtts) for region, some in of.items() if (rtts := _rtts(some))}
    sites = {region: inventory.sites[region] for region in of}
    hosts = {(e.region, e.host): e.terminates for e in inventory.endpoints}
    if place is None:
        # An endpoint that is not known to end in its region says nothing of where the host is.
        sure = {region: rtt for region, rtt in known.items() if hosts.get((region, _host(of[region]))) == "region"}
        trusted = _consistent(sure, sites)
        impossible = sure.keys() - trusted.keys()
        floors: Mapping[str, int | None] = {region: _bound_ns(sites[region], trusted, sites) for region in of}
    else:
        floors = {region: fibre_floor_ns(place, site) for region, site in sites.items()}
        impossible = {region for region, rtt in known.items() if rtt < (1 - FIBRE_TOLERANCE) * (floors[region] or 0)}
    made = [
        _row(
            sites[region],
            some,
            inventory,
            terminates=hosts.get((region, _host(some))),
            floor_ns=floors[region],
            is_bound=place is None,
            is_impossible=region in impossible,
        )
        for region, some in of.items()
    ]
    return sorted(made, key=lambda row: (row.rtt_min_ns is None, row.rtt_min_ns or 0, row.site.id))


def _rtts(results: Iterable[HttpResult]) -> list[int]:
    return [result.tcp_rtt_ns for result in results if result.tcp_rtt_ns is not None]


def _kept(results: Sequence[HttpResult]) -> HttpResult:
    """The result whose endpoint the survey kept to: the first that answered, else the first of all."""
    return next((result for result in results if result.outcome == "ok"), results[0])


def _host(results: Sequence[HttpResult]) -> str:
    return _kept(results).target.partition("://")[2].partition("/")[0].partition(":")[0]


def _consistent(rtts: Mapping[str, int], sites: Mapping[str, Site]) -> dict[str, int]:
    """The RTTs that can all be true of one host; see the module's text."""
    left = dict(rtts)
    clashes: dict[str, set[str]] = {region: set() for region in rtts}
    for a, b in itertools.combinations(rtts, 2):
        if rtts[a] + rtts[b] < (1 - FIBRE_TOLERANCE) * fibre_floor_ns(sites[a], sites[b]):
            clashes[a].add(b)
            clashes[b].add(a)
    while clashes and (worst := max(clashes, key=lambda region: (len(clashes[region]), -rtts[region]))) and clashes[worst]:
        for other in clashes.pop(worst):
            clashes[other].discard(worst)
        del left[worst]
    return left


def _bound_ns(site: Site, rtts: Mapping[str, int], sites: Mapping[str, Site]) -> int | None:
    """The floor is this or more; None where nothing can be said."""
    least = max((fibre_floor_ns(sites[other], site) - rtt for other, rtt in rtts.items()), default=0)
    return least if least > 0 else None


def _row(
    site: Site,
    results: Sequence[HttpResult],
    inventory: Inventory,
    *,
    terminates: str | None,
    floor_ns: int | None,
    is_bound: bool,
    is_impossible: bool,
) -> RegionRow:
    kept, rtts = _kept(results), _rtts(results)
    full = [r.tls_ns for r in results if r.tls_ns is not None and r.tls_resumed is not True]
    resumed = [r.tls_ns for r in results if r.tls_ns is not None and r.tls_resumed]
    failed = Counter((r.outcome, r.failed_phase or "", r.failure_source or "", r.error or "") for r in results if r.outcome != "ok")
    rtt_min = min(rtts, default=None)
    return RegionRow(
        site=site,
        continent=continent_of(site.country),
        jurisdiction=inventory.jurisdiction_of(site),
        url=kept.target,
        terminates=terminates,
        address=kept.address,
        tried=len(results),
        failed=failed.total(),
        rtt_min_ns=rtt_min,
        rtt_median_ns=statistics.median_low(rtts) if rtts else None,
        dns_ns=kept.dns_ns,
        tls_ns=min(full, default=None),
        tls_resumed_ns=min(resumed, default=None),
        tls_version=kept.tls_version,
        tls_error=kept.tls_error,
        http_status=kept.http_status,
        floor_ns=floor_ns,
        floor_is_bound=is_bound and floor_ns is not None,
        inflation=None if rtt_min is None or not floor_ns or is_impossible else rtt_min / floor_ns,
        is_impossible=is_impossible,
        failures=tuple(Failed(outcome=o, phase=p, source=s, error=e, count=n) for (o, p, s, e), n in failed.items()),
    )


def region_json(row: RegionRow) -> dict[str, Any]:
    """A row as `isochrone survey --json` lists it."""

    def rounded(value_ns: int | None) -> float | None:
        value = ms(value_ns)
        return None if value is None else round(value, 6)

    return {
        "region": row.site.id,
        "provider": row.site.provider,
        "name": row.site.name,
        "metro": row.site.metro,
        "country": row.site.country,
        "continent": row.continent,
        "jurisdiction": row.jurisdiction,
        "endpoint": row.url,
        "terminates": row.terminates,
        "address": row.address,
        "rtt_ms": {"min": rounded(row.rtt_min_ns), "median": rounded(row.rtt_median_ns)},
        "fibre_floor_ms": rounded(row.floor_ns),
        "fibre_floor_is_bound": row.floor_is_bound,
        "inflation": row.inflation,
        "is_impossible": row.is_impossible,
        "tried": row.tried,
        "failed": row.failed,
        "failed_ratio": row.failed / row.tried,
        "dns_ms": rounded(row.dns_ns),
        "tls_ms": rounded(row.tls_ns),
        "tls_resumed_ms": rounded(row.tls_resumed_ns),
        "tls_version": row.tls_version,
        "tls_error": row.tls_error,
        "http_status": row.http_status,
        "failures": [
            {"outcome": f.outcome, "phase": f.phase, "source": f.source, "error": f.error, "count": f.count} for f in row.failures
        ],
    }
