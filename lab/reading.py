"""Reads a topology from TOML and checks all of it, so that a mistake is named before anything is started.

::

    name = "demo-14"                # a slug
    title = "..."                   # optional, one line for people
    seed = 14                       # optional, of loss and jitter

    [[sites]]
    id = "sin"                      # a slug, or provider:region
    kind = "pop"                    # pop, region or metro
    name = "Singapore"
    lat = 1.29
    lon = 103.85
    country = "SG"                  # optional; so are provider, metro
    serves = true                   # optional: run an inference server there

    [[routers]]
    id = "bb-sin"
    medium = "backbone"             # internet, backbone or direct-connect
    lat = 1.29                      # optional
    lon = 103.85
    silent = true                   # optional: never answers with ICMP
    icmp_per_s = 100                # optional: sends at most so many ICMP errors per second
    mpls = [16004, 24]              # optional: labels it reports in time exceeded, outermost first

    [[links]]                       # or links = [{...}, ...], one line each
    between = ["sin", "bb-sin"]
    medium = "backbone"             # only where both ends are sites; a router says its own
    delay_ms = 0.2                  # one way; or
    inflation = 1.3                 # delay = inflation x great circle / (2c/3), where both ends have coordinates
    jitter_ms = 0.1                 # optional: mean of an exponential wait
    loss = 0.001                    # optional: ratio 0..1
    rate = "1Gbit/s"                # optional
    queue_ms = 50                   # optional, with a rate: drops what would wait longer
    mtu = 1400                      # optional: bytes of the longest IP packet
    metric = 10                     # optional: routing weight; without it, the one-way delay in ns decides

Every number of a link, and its rate, may be a pair: [from the first end to the second, back]. Where several next hops
have the same least total weight, all are used, by a hash of the flow. Events and congestion: see lab/script.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from lab.addresses import MAX_ROUTERS, MAX_SITES
from lab.script import scripted
from lab.tables import Table, decoded, decoded_text
from lab.toml_lines import Path as TomlPath
from lab.topology import Link, Router, Topology, TopologySite
from records.errors import InputError, UserError
from records.link import MEDIA, Medium
from records.place import PROVIDERS, Site, fibre_floor_ns
from records.units import MS

__all__ = ["parse", "parse_file", "parse_text"]

DEFAULT_QUEUE_MS = 50.0
_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]*")
TOP_KEYS = ("name", "title", "seed", "sites", "routers", "links", "events", "congestion")
SITE_KEYS = ("id", "kind", "name", "lat", "lon", "country", "provider", "metro", "serves")
ROUTER_KEYS = ("id", "medium", "lat", "lon", "silent", "icmp_per_s", "mpls")
LINK_KEYS = ("between", "medium", "delay_ms", "inflation", "jitter_ms", "loss", "rate", "queue_ms", "mtu", "metric")
_MAX_DELAY_MS = 10_000.0
#: From the least that IPv6 asks of every link (RFC 8200, section 5) to the longest packet of IPv4.
_MTU_RANGE = (1280, 65535)
_METRIC_RANGE = (1, 10**12)
_MAX_ICMP_PER_S = 1_000_000
#: Labels have 20 bits, and 0..15 are reserved (RFC 3032); a stack this deep and 128 bytes of quote fit an ICMP error.
_LABEL_RANGE = (16, (1 << 20) - 1)
_MAX_LABELS = 8


def parse_file(path: Path) -> Topology:
    """The topology in a TOML file; raises InputError when it cannot be read or does not hold."""
    document, lines = decoded(path)
    return parse(document, str(path), lines)


def parse_text(text: str, source: str) -> Topology:
    """The topology in a TOML text; `source` is what messages call it."""
    document, lines = decoded_text(text, source)
    return parse(document, source, lines)


def parse(document: Mapping[str, object], source: str, lines: Mapping[TomlPath, int] = MappingProxyType({})) -> Topology:
    """The topology of a TOML document that is already decoded; `lines` says where things stand in its text.

    Raises InputError naming the file and the line, the table and the key, the value, and what is allowed.
    """
    top = Table(document, source, "", TOP_KEYS, lines=lines)
    name = top.text("name")
    if not _SLUG.fullmatch(name):
        top.fail("name", f"{name!r} is not a slug; use lower-case letters, digits, '.', '_', '-'")
    sites = [_site(table) for table in top.tables("sites", SITE_KEYS)]
    routers = [_router(table) for table in top.tables("routers", ROUTER_KEYS, required=False)]
    if not sites:
        top.fail("sites", "there is no site; add at least one [[sites]] table")
    if len(sites) > MAX_SITES:
        top.fail("sites", f"{len(sites)} sites are more than the {MAX_SITES} that have addresses")
    for medium in MEDIA:
        count = sum(router.medium == medium for router in routers)
        if count > MAX_ROUTERS:
            top.fail("routers", f"{count} {medium} routers are more than the {MAX_ROUTERS} that have addresses")
    _refuse_twice(top, "sites", [site.id for site in sites])
    _refuse_twice(top, "routers", [*(site.id for site in sites), *(router.id for router in routers)], skip=len(sites))
    places = _Places(sites, routers)
    links: list[Link] = []
    seen: dict[frozenset[str], dict[Medium, int]] = {}
    for number, table in enumerate(top.tables("links", LINK_KEYS, required=False), start=1):
        there, back = _link_pair(table, places)
        before = seen.setdefault(frozenset((there.src, there.dst)), {}).setdefault(there.medium, number)
        if before != number:
            table.fail("between", f"{there.src} and {there.dst} are already joined over {there.medium} by link {before}")
        links += (there, back)
    joined = {link.src for link in links}
    for site in sites:
        if site.id not in joined and len(sites) > 1:
            top.fail("links", f"site {site.id!r} has no link; nobody could reach it")
    topology = Topology(
        name=name,
        title=top.text("title", name),
        seed=top.integer("seed", 0),
        sites=tuple(sites),
        routers=tuple(routers),
        links=tuple(links),
    )
    return scripted(topology, top)


def _site(table: Table) -> TopologySite:
    provider = table.text("provider", None)
    if provider is not None and provider not in PROVIDERS:
        table.fail("provider", f"{provider!r} is not one of {', '.join(PROVIDERS)}")
    kind = table.one_of("kind", ("pop", "region", "metro"))
    try:
        place = Site(
            id=table.text("id"),
            kind=kind,  # type: ignore[arg-type]
            name=table.text("name"),
            lat=table.number("lat"),
            lon=table.number("lon"),
            country=table.text("country", None),
            provider=provider,
            metro=table.text("metro", None),
        )
    except InputError:
        raise
    except UserError as error:
        table.fail(None, str(error))
    return TopologySite(place=place, serves=table.flag("serves"))


def _router(table: Table) -> Router:
    router_id = table.text("id")
    if not _SLUG.fullmatch(router_id):
        table.fail("id", f"{router_id!r} is not a slug; use lower-case letters, digits, '.', '_', '-'")
    lat, lon = table.number("lat", None), table.number("lon", None)
    if (lat is None) != (lon is None):
        table.fail("lon" if lon is None else "lat", "missing; give both lat and lon, or neither")
    if lat is not None and lon is not None and not (-90 <= lat <= 90 and -180 <= lon <= 180):
        table.fail("lat", f"coordinates {lat}, {lon} are off the Earth; latitude -90..90, longitude -180..180")
    return Router(
        id=router_id,
        medium=table.medium("medium"),
        lat=lat,
        lon=lon,
        silent=table.flag("silent"),
        icmp_per_s=_whole_pair(table, "icmp_per_s", 1, _MAX_ICMP_PER_S)[0],
        mpls=_labels(table),
    )


def _labels(table: Table) -> tuple[int, ...]:
    given = table.values.get("mpls", [])
    least, most = _LABEL_RANGE
    if not isinstance(given, list) or len(given) > _MAX_LABELS:
        table.fail("mpls", f"{given!r} is not a list of at most {_MAX_LABELS} labels, outermost first; for example mpls = [16004]")
    for label in given:
        if not isinstance(label, int) or isinstance(label, bool) or not least <= label <= most:
            table.fail("mpls", f"{label!r} is not an MPLS label; whole numbers from {least} to {most} are allowed")
    return tuple(given)


def _whole_pair(table: Table, key: str, least: int, most: int) -> tuple[int | None, int | None]:
    """One whole number for both directions, or a list of two; None twice when the key is missing."""
    if key not in table:
        return None, None
    there, back = table.pair_of_numbers(key, None, least, most)
    if there != int(there) or back != int(back):
        table.fail(key, f"{table.values[key]!r} is not a whole number, or a pair of them")
    return int(there), int(back)


class _Places:
    """What a link's ends may be: node ids with their coordinates, and the medium of every router."""

    def __init__(self, sites: Iterable[TopologySite], routers: Iterable[Router]) -> None:
        self.at: dict[str, Site | None] = {site.id: site.place for site in sites}
        self.medium: dict[str, Medium] = {}
        for router in routers:
            self.medium[router.id] = router.medium
            here = None
            if router.lat is not None and router.lon is not None:
                here = Site(id=router.id, kind="pop", name=router.id, lat=router.lat, lon=router.lon)
            self.at[router.id] = here


def _link_pair(table: Table, places: _Places) -> tuple[Link, Link]:
    src, dst = _ends(table, places)
    medium = _medium_of(table, places, (src, dst))
    delay_ns = _delays_ns(table, places, (src, dst))
    jitter_ms = table.pair_of_numbers("jitter_ms", 0.0, 0.0, _MAX_DELAY_MS)
    loss = table.pair_of_numbers("loss", 0.0, 0.0, 1.0)
    rate_bps = table.pair_of_rates("rate")
    if rate_bps is None and "queue_ms" in table:
        table.fail("queue_ms", "a queue without a rate; add rate, or leave both out")
    queue_ms = table.pair_of_numbers("queue_ms", DEFAULT_QUEUE_MS, 0.001, _MAX_DELAY_MS)
    mtu = _whole_pair(table, "mtu", *_MTU_RANGE)
    metric = _whole_pair(table, "metric", *_METRIC_RANGE)

    def one_way(way: int) -> Link:
        a, b = (src, dst) if way == 0 else (dst, src)
        return Link(
            src=a,
            dst=b,
            medium=medium,
            delay_ns=delay_ns[way],
            jitter_ns=round(jitter_ms[way] * MS),
            loss_ratio=loss[way],
            rate_bps=None if rate_bps is None else rate_bps[way],
            queue_ns=None if rate_bps is None else round(queue_ms[way] * MS),
            mtu=mtu[way],
            metric=metric[way],
        )

    return one_way(0), one_way(1)


def _ends(table: Table, places: _Places) -> tuple[str, str]:
    ends = table.get("between")
    if not (isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, str) for end in ends)):
        table.fail("between", f'{ends!r} is not a pair of node ids; for example between = ["sin", "bb-sin"]')
    for end in ends:
        if end not in places.at:
            near = get_close_matches(end, places.at, n=3, cutoff=0.5)
            table.fail("between", f"there is no site or router {end!r}" + (f"; did you mean {', '.join(near)}" if near else ""))
    if ends[0] == ends[1]:
        table.fail("between", f"joins {ends[0]!r} to itself; give two different nodes")
    return ends[0], ends[1]


def _medium_of(table: Table, places: _Places, ends: tuple[str, str]) -> Medium:
    given: Medium | None = table.medium("medium") if "medium" in table else None
    routers = {end: places.medium[end] for end in ends if end in places.medium}
    media = set(routers.values())
    if len(media) > 1:
        said = ", ".join(f"{router} is {medium}" for router, medium in routers.items())
        table.fail("between", f"joins two media ({said}); a packet cannot change media at a router")
    if not media:
        if given is None:
            table.fail("medium", f"missing; both ends are sites, so say one of {', '.join(MEDIA)}")
        return given
    medium = media.pop()
    if given not in (None, medium):
        table.fail("medium", f"{given!r} does not fit the router, which is {medium}; leave it out")
    return medium


def _delays_ns(table: Table, places: _Places, ends: tuple[str, str]) -> tuple[int, int]:
    if ("delay_ms" in table) == ("inflation" in table):
        table.fail("delay_ms", "give exactly one of delay_ms and inflation")
    if "delay_ms" in table:
        there, back = table.pair_of_numbers("delay_ms", None, 0.0, _MAX_DELAY_MS)
        return round(there * MS), round(back * MS)
    there, back = table.pair_of_numbers("inflation", None, 1.0, 1000.0)
    a, b = places.at[ends[0]], places.at[ends[1]]
    if a is None or b is None:
        table.fail("inflation", f"{ends[0] if a is None else ends[1]} has no lat and lon to take the great circle from; give delay_ms")
    one_way_ns = fibre_floor_ns(a, b) / 2
    # Rounded up: a delay derived from the floor must never come out below it.
    return math.ceil(there * one_way_ns), math.ceil(back * one_way_ns)


def _refuse_twice(top: Table, key: str, ids: Sequence[str], skip: int = 0) -> None:
    seen: set[str] = set()
    for number, node in enumerate(ids):
        if node in seen:
            top.fail(f"{key}[{number - skip + 1}].id", f"{node!r} is already the id of another site or router")
        seen.add(node)
