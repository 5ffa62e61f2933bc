"""The network as the planner sees it: which legs there are, on what evidence, and the candidate paths over them.

Rules of evidence:

- Of a pair's link routing.evidence decides: measured (of parallel media each is a candidate for a direct leg, the fastest
  for a relay's legs), else assumed from its reverse, else modelled, unless the request refuses models.
- A relay is only ever sought over measured legs, as in routing.matrix: two modelled legs that undercut one measured
  link say something of the model and nothing of the network.
- A metro enters at a PoP; its access legs are modelled where nobody measured them. It reaches a serving site straight
  only where that was measured, in either direction,
  or where that is a PoP which may serve and is no ingress.
- Metros never relay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from records.errors import UnknownSite
from records.link import Gate, LinkEstimate
from records.place import Site
from records.units import MS
from routing.columns import LinkColumns, Pairs
from routing.distance import floors_between_ms, radians
from routing.engine import Best, Floats, prepared, solved_between
from routing.evidence import Evidence
from routing.kernel import INDEX
from routing.media import rank_rtt_ns, usable
from routing.modelled import INFLATION_P50, MODEL_LEAST_RTT_NS

__all__ = ["Network", "Path", "Way"]

#: A metro's ingress candidates for one serving site: this many by each of two orders (see Network._ingress).
INGRESS_CANDIDATES = 4
#: Single relays kept as candidates for one pair, beside the engine's best.
RELAY_CANDIDATES = 3


@dataclass(frozen=True)
class Path:
    """Legs from the source to the serving site; none when it serves itself. `access`: the first leg is a metro's."""

    origin: str
    legs: tuple[LinkEstimate, ...]
    access: bool = False

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Every site in order, source and serving site included."""
        return (self.origin, *(leg.dst for leg in self.legs))

    @cached_property
    def relays(self) -> tuple[str, ...]:
        """The sites that forward: between the ingress PoP (or the source) and the serving site."""
        return self.sites[2 if self.access else 1 : -1]

    @cached_property
    def rank_ns(self) -> int:
        """Sum of the legs' ranking RTTs, without what relays add."""
        return sum(rank_rtt_ns(leg) or 0 for leg in self.legs)

    @property
    def modelled(self) -> bool:
        """Whether any leg is a model."""
        return any(leg.evidence == "modelled" for leg in self.legs)

    @cached_property
    def key(self) -> tuple[tuple[str, str, str], ...]:
        """What makes two paths the same: their links."""
        return tuple(leg.key for leg in self.legs) or ((self.origin, self.origin, ""),)


class Way(NamedTuple):
    """Legs and what their sum is known by before a path is made of them: the first leg's ranking RTT, that of the others."""

    legs: tuple[LinkEstimate, ...]
    vias: tuple[str, ...]
    first_ns: int
    rest_ns: int
    relays: int
    access: bool = False


def _least(values: Floats, count: int) -> NDArray[np.intp]:
    """Indices of the `count` least values, in order; of equals the lower index."""
    if len(values) <= count:
        return np.argsort(values, kind="stable")
    few = np.flatnonzero(values <= np.partition(values, count - 1)[count - 1])  # a tenth of the time of sorting all
    return few[np.argsort(values[few], kind="stable")][:count]


def _way(legs: tuple[LinkEstimate, ...]) -> Way:
    ns = [rank_rtt_ns(leg) or 0 for leg in legs]
    return Way(legs, tuple(leg.dst for leg in legs[:-1]), ns[0], sum(ns[1:]), len(legs) - 1)


class Network:
    """Graded links and sites, indexed once for many questions; what it holds never changes after it is built."""

    def __init__(
        self,
        links: Iterable[LinkEstimate],
        sites: Mapping[str, Site],
        *,
        relay_sites: Collection[str] | None = None,
        relay_ms: float = 0.5,
        ingress_sites: Collection[str] | None = None,
        cut: Collection[tuple[str, str]] = (),
    ) -> None:
        self.sites = sites
        self.relay_ms = relay_ms
        #: PoPs at which a metro may enter; None for all of them.
        self._ingress_sites = ingress_sites
        #: Pairs that have no link and are not modelled either: cut, in a scenario.
        self._cut = frozenset(cut)
        #: Verdict on the pairs that were measured and have nothing usable, for the reasons of a route.
        self.kept_out: Callable[[tuple[str, str]], Gate | None]
        if not (isinstance(links, LinkColumns) and not self._cut):
            links = tuple(link for link in links if (link.src, link.dst) not in self._cut)
        self._evidence = Evidence(links, self._cut)
        self._measured = self._evidence.measured
        if isinstance(self._measured, Pairs):
            pairs = self._measured
            self._parallel = pairs.parallel
            self.kept_out = pairs.kept_out
            self._names = pairs.sites()
        else:
            parallel: dict[tuple[str, str], list[LinkEstimate]] = {}
            for link in links:
                if usable(link) and link.evidence != "modelled":
                    parallel.setdefault((link.src, link.dst), []).append(link)
            self._parallel = lambda pair: parallel.get(pair, [])
            self.kept_out = {
                (link.src, link.dst): link.gate for link in links if link.gate != "ok" and (link.src, link.dst) not in self._measured
            }.get
            self._names = sorted({name for pair in self._measured for name in pair})
        self._index = {name: i for i, name in enumerate(self._names)}
        may_relay = [name for name in self._names if self._may_relay(name) and (relay_sites is None or name in relay_sites)]
        self._relays = np.array([self._index[name] for name in may_relay], dtype=INDEX)
        self._best: dict[tuple[int, int], Best] = {}
        self._ways_of: dict[tuple[str, str, int, bool], list[Way]] = {}
        self._vias_of: dict[tuple[str, str, int], list[tuple[str, ...]]] = {}
        self._access_of: dict[tuple[str, bool], Floats] = {}
        self._onward_of: dict[tuple[str, int, bool], Floats] = {}

    def site(self, name: str) -> Site:
        """The site of an id; raises UnknownSite."""
        found = self.sites.get(name)
        if found is None:
            raise UnknownSite(name, self.sites)
        return found

    def measured_sites(self) -> list[str]:
        """Sites at an end of a usable measured link."""
        return list(self._names)

    def leg(self, src: str, dst: str, *, measured_only: bool = False) -> LinkEstimate | None:
        """The link that stands for a pair: measured, else assumed, else (unless refused) modelled."""
        if measured_only:
            return self._evidence.known(src, dst)
        return self._evidence.leg(src, dst, self.sites)

    def paths(self, source: str, destination: str, *, relays: int, measured_only: bool = False) -> list[Path]:
        """Candidate paths in the order of their median RTT: direct ones, and those over at most `relays` relays."""
        each_ns = round(self.relay_ms * MS)
        return self.shortlist(
            source,
            destination,
            relays=relays,
            measured_only=measured_only,
            cost=lambda way: way.first_ns + way.rest_ns + each_ns * way.relays,
        )

    def shortlist(
        self,
        source: str,
        destination: str,
        *,
        relays: int,
        measured_only: bool = False,
        cost: Callable[[Way], float],
        most: int | None = None,
    ) -> list[Path]:
        """The `most` candidate paths of least cost; of equals by median RTT, then by their sites."""
        if source == destination:
            return [Path(source, ())]
        found: list[Way] = []
        if self.site(source).kind == "metro":
            found += [_way((link,)) for link in self._straight(source, destination, measured_only=measured_only)]
            for access in self._ingress(source, destination, relays=relays, measured_only=measured_only):
                access_ns = rank_rtt_ns(access) or 0
                for onward in self._onward(access.dst, destination, relays=relays, measured_only=measured_only):
                    if source not in onward.vias:
                        vias = (access.dst, *onward.vias) if onward.legs else ()
                        found.append(
                            Way((access, *onward.legs), vias, access_ns, onward.first_ns + onward.rest_ns, onward.relays, access=True)
                        )
        else:
            found = self._onward(source, destination, relays=relays, measured_only=measured_only)
        # Where the metro may enter at the serving site itself that is one path, not two.
        entered = {way.legs[0].key for way in found if way.access and len(way.legs) == 1}
        if entered:
            found = [way for way in found if way.access or len(way.legs) > 1 or way.legs[0].key not in entered]
        each_ns = round(self.relay_ms * MS)
        order = sorted(
            (cost(way), way.first_ns + way.rest_ns + each_ns * way.relays, (*way.vias, destination), at) for at, way in enumerate(found)
        )
        return [Path(source, found[at].legs, found[at].access) for *_, at in order[:most]]

    @cached_property
    def _direct_ms(self) -> Floats:
        if isinstance(self._measured, Pairs):
            return self._measured.rank_table_ns(self._index) / MS
        direct = np.full((len(self._names), len(self._names)), np.inf)
        index = self._index
        rows, columns = ([index[pair[end]] for pair in self._measured] for end in (0, 1))
        direct[rows, columns] = np.array([rank_rtt_ns(link) or 0 for link in self._measured.values()], dtype=np.float64) / MS
        return direct

    def _may_relay(self, name: str) -> bool:
        site = self.sites.get(name)
        return site is not None and site.kind != "metro"

    def _onward(self, src: str, dst: str, *, relays: int, measured_only: bool) -> list[Way]:
        """Ways from a PoP or region to a serving site."""
        key = (src, dst, relays, measured_only)
        if key not in self._ways_of:
            self._ways_of[key] = self._sought_ways(src, dst, relays, measured_only)
        return self._ways_of[key]

    def _straight(self, metro: str, dst: str, *, measured_only: bool) -> Sequence[LinkEstimate]:
        """Every usable measured link to a serving site, else the one assumed from its reverse; else the model of a PoP that
        may serve and not pass on, where it is no ingress."""
        if links := self._parallel((metro, dst)):
            return links
        own = self.site(dst).kind == "pop" and self._ingress_sites is not None and dst not in self._ingress_sites
        leg = self.leg(metro, dst, measured_only=measured_only or not own)
        return [] if leg is None else [leg]

    def _sought_ways(self, src: str, dst: str, relays: int, measured_only: bool) -> list[Way]:
        if src == dst:
            return [Way((), (), 0, 0, 0)]
        found = [_way((link,)) for link in self._parallel((src, dst))]
        if not found:
            direct = self.leg(src, dst, measured_only=measured_only)
            found = [] if direct is None else [_way((direct,))]
        found += [
            _way(tuple(self._measured[pair] for pair in zip((src, *via), (*via, dst), strict=True))) for via in self._vias(src, dst, relays)
        ]
        return found

    def _vias(self, src: str, dst: str, relays: int) -> list[tuple[str, ...]]:
        """Relay sequences worth a look: the engine's best, and the best few single relays."""
        key = (src, dst, relays)
        if key not in self._vias_of:
            self._vias_of[key] = self._sought_vias(src, dst, relays)
        return self._vias_of[key]

    def _sought_vias(self, src: str, dst: str, relays: int) -> list[tuple[str, ...]]:
        i, j = self._index.get(src), self._index.get(dst)
        if relays == 0 or i is None or j is None or not self._relays.size:
            return []
        chosen = self._engine(relays, j).relays(i, 0)
        vias = [tuple(self._names[k] for k in chosen)] if chosen else []
        between = self._relays[(self._relays != i) & (self._relays != j)]
        cost = self._direct_ms[i, between] + self._direct_ms[between, j]
        for k in _least(cost, RELAY_CANDIDATES):
            via = (self._names[between[k]],)
            if np.isfinite(cost[k]) and via not in vias:
                vias.append(via)
        return vias

    def _ingress(self, metro: str, dst: str, *, relays: int, measured_only: bool) -> list[LinkEstimate]:
        """Access legs worth a look on the way to `dst`: the best few by RTT, and the best few by RTT with cold access.

        A cold client pays the access leg three times (two hand-shakes and the request), so a near PoP may win on
        TTFT where a far one wins on RTT. Ordered by medians: onward over at most `relays` relays where that is measured.
        """
        access_ns = self._access_ns(metro, measured_only=measured_only)
        onward_ns = self._onward_ns(dst, relays=relays, measured_only=measured_only)
        chosen: dict[str, LinkEstimate] = {}
        for weight in (1, 3):
            total = weight * access_ns + onward_ns
            for at in _least(total, INGRESS_CANDIDATES):  # of equals the lower id: PoPs are in order
                name = self._pops[at]
                if total[at] < math.inf and name not in chosen:
                    leg = self.leg(metro, name, measured_only=measured_only)
                    assert leg is not None
                    chosen[name] = leg
        return list(chosen.values())

    @cached_property
    def _pops(self) -> list[str]:
        """Where a metro may enter, by id."""
        may = self._ingress_sites
        return sorted(site.id for site in self.sites.values() if site.kind == "pop" and (may is None or site.id in may))

    @cached_property
    def _pop_radians(self) -> Floats:
        return radians([self.sites[name] for name in self._pops])

    @cached_property
    def _with_links(self) -> frozenset[str]:
        """Sites at an end of a link, measured or given as a model."""
        return frozenset(self._names).union(*self._evidence.given)

    def _access_ns(self, metro: str, *, measured_only: bool) -> Floats:
        """Median RTT from a metro to every PoP in ns, by the leg that would be used; inf for none."""
        key = (metro, measured_only)
        if key not in self._access_of:
            self._access_of[key] = self._medians_ns([(metro, pop) for pop in self._pops], self.site(metro), measured_only=measured_only)
        return self._access_of[key]

    def _onward_ns(self, dst: str, *, relays: int, measured_only: bool) -> Floats:
        """Median RTT from every PoP to a serving site in ns: the engine's where measured, else the model's; inf for none."""
        key = (dst, relays, measured_only)
        if key not in self._onward_of:
            found = self._medians_ns([(pop, dst) for pop in self._pops], self.site(dst), measured_only=measured_only)
            j = self._index.get(dst)
            if j is not None:
                column = self._engine(relays, j).cost[:, 0] * MS
                rows = np.array([self._index.get(pop, -1) for pop in self._pops], dtype=np.intp)
                np.minimum(found, np.where(rows >= 0, column[rows], np.inf), out=found)
            self._onward_of[key] = found
        return self._onward_of[key]

    def _medians_ns(self, pairs: list[tuple[str, str]], end: Site, *, measured_only: bool) -> Floats:
        """Median RTT in ns of the leg between each PoP and one end: known, else given, else modelled; 0 at itself, inf for none."""
        if not measured_only and not self._cut and end.id not in self._with_links and end.kind == "metro":
            return self._models_ns(end)  # as most metros: nobody measured them
        found = np.full(len(pairs), np.inf)
        unknown = []
        for at, (src, dst) in enumerate(pairs):
            leg = self._evidence.known(src, dst) or (None if measured_only else self._evidence.given.get((src, dst)))
            if src == dst:
                found[at] = 0.0
            elif leg is not None:
                found[at] = rank_rtt_ns(leg) or 0
            elif not measured_only and (src, dst) not in self._cut:
                unknown.append(at)
        if unknown:
            found[unknown] = self._models_ns(end)[unknown]
        return found

    def _models_ns(self, end: Site) -> Floats:
        """Modelled median RTT in ns between every PoP and one end."""
        floor_ns = floors_between_ms(radians([end]), self._pop_radians)[0] * MS
        return np.asarray(np.maximum(MODEL_LEAST_RTT_NS, np.rint(floor_ns * INFLATION_P50)), dtype=np.float64)

    @cached_property
    def _prepared(self) -> tuple[Floats, Any]:
        return prepared(self._direct_ms, relays=1, relay_ms=self.relay_ms, precision="float64")

    def _engine(self, relays: int, j: int) -> Best:
        """The best routes from every site to the one of index j: a route to few pools needs no more of the engine."""
        if (relays, j) not in self._best:
            direct, relay = self._prepared
            every = np.arange(len(direct), dtype=INDEX)
            self._best[relays, j] = solved_between(direct, every, np.array([j], dtype=INDEX), relays, relay, self._relays)
        return self._best[relays, j]
