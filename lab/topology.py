"""What an emulated WAN consists of: sites, routers and directed links, as frozen records.

A topology is written in TOML (see lab/reading.py for the keys and lab/worlds/ for examples) and checked as a whole
when it is read, so everything behind this module may rely on it. A site is a host with a stack of its own and never
forwards; a router belongs to one medium and only forwards. Each medium is a plane of its own: a packet never
changes planes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from records.errors import UnknownSite, UserError
from records.link import Medium
from records.place import Site
from records.units import MS

if TYPE_CHECKING:
    from lab.actions import Action
    from lab.rules import Rule
    from lab.timeline import Event

__all__ = ["Link", "LinkKey", "Router", "Topology", "TopologySite", "available", "builtin", "load"]

#: (src, dst, medium): what makes a directed link one link.
LinkKey = tuple[str, str, Medium]

_WORLDS = Path(__file__).with_name("worlds")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologySite:
    """A host of the lab: where it is, and whether it serves a model.

    place   the site as the rest of Isochrone knows it (id, kind, name, coordinates, country, provider, metro)
    serves  whether the lab runs an inference server there
    """

    place: Site
    serves: bool = False

    @property
    def id(self) -> str:
        """The site id, such as ``sin`` or ``aws:us-east-1``."""
        return self.place.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A node that forwards within one medium.

    lat, lon    coordinates in degrees, None where they are not given
    silent      never sends ICMP: a traceroute sees nothing at its hop, and a ping of its address gets no answer
    icmp_per_s  ICMP errors per second that it sends at most; None is not limited (echo replies never are)
    mpls        labels, outermost first, that it reports in its time-exceeded messages (RFC 4950); empty for none
    """

    id: str
    medium: Medium
    lat: float | None = None
    lon: float | None = None
    silent: bool = False
    icmp_per_s: int | None = None
    mpls: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One direction of a link between two nodes (sites or routers).

    delay_ns    one-way propagation delay
    jitter_ns   mean of an exponentially distributed wait added to every packet; 0 is none
    loss_ratio  probability that a packet is lost on it
    rate_bps    bits of IP packets per second; None is not limited
    queue_ns    the longest wait at `rate_bps` before packets are dropped; None exactly when there is no rate
    mtu         bytes of the longest IP packet it carries; None is not limited
    metric      what routing weighs it with; None: its `delay_ns`
    """

    src: str
    dst: str
    medium: Medium
    delay_ns: int
    jitter_ns: int = 0
    loss_ratio: float = 0.0
    rate_bps: int | None = None
    queue_ns: int | None = None
    mtu: int | None = None
    metric: int | None = None

    @property
    def weight(self) -> int:
        """What routing adds up along a path; at least 1, so that every link of a best path leads nearer to its end."""
        return max(1, self.delay_ns if self.metric is None else self.metric)

    @property
    def key(self) -> tuple[str, str, Medium]:
        """(src, dst, medium): what makes a link one link."""
        return (self.src, self.dst, self.medium)


@dataclass(frozen=True)
class Topology:
    """A whole world: its sites in the order of their host numbers, its routers, and both directions of every link.

    Links come in pairs: ``links[2 * i + 1]`` is the opposite direction of ``links[2 * i]``. `seed` starts the random
    numbers of loss and jitter, so that a run can be repeated. `events` is what happens when, `congestion` which links are
    busy when; times of both count from the start of the lab.
    """

    name: str
    title: str
    seed: int
    sites: tuple[TopologySite, ...]
    routers: tuple[Router, ...]
    links: tuple[Link, ...]
    events: tuple[Event[Action], ...] = ()
    congestion: tuple[Rule, ...] = ()

    @cached_property
    def by_id(self) -> Mapping[str, TopologySite]:
        """Site id -> site."""
        return {site.id: site for site in self.sites}

    @cached_property
    def router_by_id(self) -> Mapping[str, Router]:
        """Router id -> router."""
        return {router.id: router for router in self.routers}

    @cached_property
    def link_by_key(self) -> Mapping[tuple[str, str, Medium], Link]:
        """(src, dst, medium) -> link."""
        return {link.key: link for link in self.links}

    def site(self, site_id: str) -> TopologySite:
        """The site of that id; raises UnknownSite with the nearest known ids."""
        try:
            return self.by_id[site_id]
        except KeyError:
            raise UnknownSite(site_id, self.by_id) from None

    def document(self) -> dict[str, object]:
        """The topology as the tables of its TOML form, ready for JSON; `lab.reading.parse` reads it back the same."""
        from lab.script import event_table

        document: dict[str, object] = {
            "name": self.name,
            "title": self.title,
            "seed": self.seed,
            "sites": [_site_table(site) for site in self.sites],
            "routers": [_router_table(router) for router in self.routers],
            "links": [_link_table(there, back) for there, back in zip(self.links[::2], self.links[1::2], strict=True)],
        }
        if self.events:
            document["events"] = [event_table(event) for event in self.events]
        if self.congestion:
            document["congestion"] = [rule.table() for rule in self.congestion]
        return document


def _site_table(site: TopologySite) -> dict[str, object]:
    place = site.place
    table: dict[str, object] = {"id": place.id, "kind": place.kind, "name": place.name, "lat": place.lat, "lon": place.lon}
    optional = {"country": place.country, "provider": place.provider, "metro": place.metro, "serves": site.serves or None}
    return table | {key: value for key, value in optional.items() if value is not None}


def _router_table(router: Router) -> dict[str, object]:
    optional = {
        "lat": router.lat,
        "lon": router.lon,
        "silent": router.silent or None,
        "icmp_per_s": router.icmp_per_s,
        "mpls": list(router.mpls) or None,
    }
    return {"id": router.id, "medium": router.medium} | {key: value for key, value in optional.items() if value is not None}


def _link_table(there: Link, back: Link) -> dict[str, object]:
    table: dict[str, object] = {
        "between": [there.src, there.dst],
        "medium": there.medium,
        "delay_ms": [there.delay_ns / MS, back.delay_ns / MS],
        "jitter_ms": [there.jitter_ns / MS, back.jitter_ns / MS],
        "loss": [there.loss_ratio, back.loss_ratio],
    }
    if there.rate_bps is not None and back.rate_bps is not None:
        assert there.queue_ns is not None
        assert back.queue_ns is not None
        table["rate"] = [f"{there.rate_bps}bit/s", f"{back.rate_bps}bit/s"]
        table["queue_ms"] = [there.queue_ns / MS, back.queue_ns / MS]
    if there.mtu is not None and back.mtu is not None:
        table["mtu"] = [there.mtu, back.mtu]
    if there.metric is not None and back.metric is not None:
        table["metric"] = [there.metric, back.metric]
    return table


def available() -> tuple[str, ...]:
    """Names of the built-in worlds, sorted."""
    return tuple(sorted(path.stem for path in _WORLDS.glob("*.toml")))


def builtin(name: str) -> Topology:
    """A built-in world by name; raises UserError naming the ones there are."""
    from lab.reading import parse_text

    if name not in available():
        raise UserError(f"there is no built-in world {name!r}; there are {', '.join(available())}, or give the path of a TOML file")
    return parse_text((_WORLDS / f"{name}.toml").read_text("utf-8"), f"{name}.toml")


def load(name_or_path: str) -> Topology:
    """A topology by the name of a built-in world or the path of a TOML file.

    Raises InputError (file, line or key, what is wrong and what is allowed) and UserError when there is no such world.
    """
    from lab.reading import parse_file

    if name_or_path in available():
        return builtin(name_or_path)
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.exists() or "/" in name_or_path:
        return parse_file(path)
    return builtin(name_or_path)
