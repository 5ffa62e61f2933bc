"""The network as the planner sees it: which legs there are, on what evidence, and the candidate paths over them.

Rules of evidence:

- A pair with a usable measured link uses it (of parallel media each is a candidate for a direct leg, the fastest
  for a relay's legs). Without one the measured reverse is assumed. Without that the leg is modelled, unless the
  request refuses models.
- A relay is only ever sought over measured legs, as in routing.matrix: two modelled legs that undercut one measured
  link say something of the model and nothing of the network.
- A metro enters at a PoP; its access legs are modelled where nobody measured them. It reaches a serving site straight
  only where that was measured.
- Metros never relay.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from records.errors import UnknownSite
from records.link import Gate, LinkEstimate
from records.place import Site, fibre_floor_ns
from records.units import MS
from routing.engine import Best, best
from routing.media import fastest, rank_rtt_ns, usable
from routing.modelled import INFLATION_P50, MODEL_LEAST_RTT_NS, assumed_link, model_link

__all__ = ["Network", "Path"]

#: A metro's ingress candidates for one serving site: this many by each of two orders (see Network._ingress).
INGRESS_CANDIDATES = 4
#: Single relays kept as candidates for one pair, beside the engine's best.
RELAY_CANDIDATES = 3


@dataclass(frozen=True, slots=True)
class Path:
    """Legs from the source to the serving site; none when it serves itself. `access`: the first leg is a metro's."""

    origin: str
    legs: tuple[LinkEstimate, ...]
    access: bool = False

    @property
    def sites(self) -> tuple[str, ...]:
        """Every site in order, source and serving site included."""
        return (self.origin, *(leg.dst for leg in self.legs))

    @property
    def relays(self) -> tuple[str, ...]:
        """The sites that forward: between the ingress PoP (or the source) and the serving site."""
        return self.sites[2 if self.access else 1 : -1]

    @property
    def rank_ns(self) -> int:
        """Sum of the legs' ranking RTTs, without what relays add."""
        return sum(rank_rtt_ns(leg) or 0 for leg in self.legs)

    @property
    def modelled(self) -> bool:
        """Whether any leg is a model."""
        return any(leg.evidence == "modelled" for leg in self.legs)

    @property
    def key(self) -> tuple[tuple[str, str, str], ...]:
        """What makes two paths the same: their links."""
        return tuple(leg.key for leg in self.legs) or ((self.origin, self.origin, ""),)


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
        links = tuple(links)
        self.sites = sites
        self.relay_ms = relay_ms
        #: PoPs at which a metro may enter; None for all of them.
        self._ingress_sites = ingress_sites
        #: Pairs that have no link and are not modelled either: cut, in a scenario.
        self._cut = frozenset(cut)
        if self._cut:
            links = tuple(link for link in links if (link.src, link.dst) not in self._cut)
        known = [link for link in links if usable(link) and link.evidence != "modelled"]
        given = [link for link in links if usable(link) and link.evidence == "modelled"]
        self._measured = fastest(known)
        self._given_models = fastest(given)
        self._parallel: dict[tuple[str, str], list[LinkEstimate]] = {}
        for link in known:
            self._parallel.setdefault((link.src, link.dst), []).append(link)
        #: Verdict on the pairs that were measured and have nothing usable, for the reasons of a route.
        self.kept_out: dict[tuple[str, str], Gate] = {
            (link.src, link.dst): link.gate for link in links if link.gate != "ok" and (link.src, link.dst) not in self._measured
        }
        self._names = sorted({name for pair in self._measured for name in pair})
        self._index = {name: i for i, name in enumerate(self._names)}
        may_relay = [name for name in self._names if self._may_relay(name) and (relay_sites is None or name in relay_sites)]
        self._relays = np.array([self._index[name] for name in may_relay], dtype=np.intp)
        self._best: dict[int, Best] = {}
        self._access_of: dict[tuple[str, bool], list[LinkEstimate]] = {}

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
        leg = self._known(src, dst)
        if leg is not None or measured_only or (src, dst) in self._cut:
            return leg
        return self._given_models.get((src, dst)) or model_link(self.site(src), self.site(dst))

    def paths(self, source: str, destination: str, *, relays: int, measured_only: bool = False) -> list[Path]:
        """Candidate paths in the order of their median RTT: direct ones, and those over at most `relays` relays."""
        if source == destination:
            return [Path(source, ())]
        found: list[Path] = []
        if self.site(source).kind == "metro":
            found += [Path(source, (link,)) for link in self._parallel.get((source, destination), ())]
            for access in self._ingress(source, destination, relays=relays, measured_only=measured_only):
                found += [
                    Path(source, (access, *legs), access=True)
                    for legs in self._onward(access.dst, destination, relays=relays, measured_only=measured_only, avoid=source)
                ]
        else:
            found = [Path(source, legs) for legs in self._onward(source, destination, relays=relays, measured_only=measured_only)]
        distinct = {path.key: path for path in found}
        return sorted(distinct.values(), key=lambda path: (path.rank_ns + round(self.relay_ms * MS) * len(path.relays), path.sites))

    def _known(self, src: str, dst: str) -> LinkEstimate | None:
        """The measured link of a pair, else the one assumed from its measured reverse."""
        if (src, dst) in self._measured:
            return self._measured[src, dst]
        reverse = self._measured.get((dst, src))
        return None if reverse is None or reverse.evidence != "measured" else assumed_link(reverse)

    @cached_property
    def _direct_ms(self) -> np.ndarray:
        direct = np.full((len(self._names), len(self._names)), np.inf)
        for (src, dst), link in self._measured.items():
            direct[self._index[src], self._index[dst]] = (rank_rtt_ns(link) or 0) / MS
        return direct

    def _may_relay(self, name: str) -> bool:
        site = self.sites.get(name)
        return site is not None and site.kind != "metro"

    def _onward(self, src: str, dst: str, *, relays: int, measured_only: bool, avoid: str | None = None) -> list[tuple[LinkEstimate, ...]]:
        """Leg sequences from a PoP or region to a serving site."""
        if src == dst:
            return [()]
        found: list[tuple[LinkEstimate, ...]] = [(link,) for link in self._parallel.get((src, dst), ())]
        if not found:
            direct = self.leg(src, dst, measured_only=measured_only)
            found = [] if direct is None else [(direct,)]
        found += [
            tuple(self._measured[pair] for pair in zip((src, *via), (*via, dst), strict=True))
            for via in self._vias(src, dst, relays)
            if avoid not in via
        ]
        return found

    def _vias(self, src: str, dst: str, relays: int) -> list[tuple[str, ...]]:
        """Relay sequences worth a look: the engine's best, and the best few single relays."""
        i, j = self._index.get(src), self._index.get(dst)
        if relays == 0 or i is None or j is None or not self._relays.size:
            return []
        chosen = self._engine(relays).relays(i, j)
        vias = [tuple(self._names[k] for k in chosen)] if chosen else []
        between = self._relays[(self._relays != i) & (self._relays != j)]
        cost = self._direct_ms[i, between] + self._direct_ms[between, j]
        for k in np.argsort(cost, kind="stable")[:RELAY_CANDIDATES]:
            via = (self._names[between[k]],)
            if np.isfinite(cost[k]) and via not in vias:
                vias.append(via)
        return vias

    def _ingress(self, metro: str, dst: str, *, relays: int, measured_only: bool) -> list[LinkEstimate]:
        """Access legs worth a look on the way to `dst`: the best few by RTT, and the best few by RTT with cold access.

        A cold client pays the access leg three times (two hand-shakes and the request), so a near PoP may win on
        TTFT where a far one wins on RTT. Ordered by medians: onward over at most `relays` relays where that is measured.
        """
        access = self._access(metro, measured_only=measured_only)
        onward_ns = [self._onward_ns(leg.dst, dst, relays=relays, measured_only=measured_only) for leg in access]
        chosen: dict[str, LinkEstimate] = {}
        for weight in (1, 3):
            order = sorted(
                (weight * (rank_rtt_ns(leg) or 0) + far, leg.dst, i) for i, (leg, far) in enumerate(zip(access, onward_ns, strict=True))
            )
            chosen |= {name: access[i] for total, name, i in order[:INGRESS_CANDIDATES] if total < math.inf}
        return list(chosen.values())

    def _access(self, metro: str, *, measured_only: bool) -> list[LinkEstimate]:
        """A metro's access legs to every PoP."""
        key = (metro, measured_only)
        if key not in self._access_of:
            may = self._ingress_sites
            pops = (site.id for site in self.sites.values() if site.kind == "pop" and (may is None or site.id in may))
            self._access_of[key] = [leg for pop in pops if (leg := self.leg(metro, pop, measured_only=measured_only)) is not None]
        return self._access_of[key]

    def _onward_ns(self, src: str, dst: str, *, relays: int, measured_only: bool) -> float:
        """Median RTT from a PoP to a serving site in ns: the engine's where measured, else the model's; inf for none."""
        if src == dst:
            return 0.0
        i, j = self._index.get(src), self._index.get(dst)
        known_ns = math.inf if i is None or j is None else float(self._engine(relays).cost[i, j]) * MS
        direct = self._known(src, dst) or (None if measured_only else self._given_models.get((src, dst)))
        if direct is not None:
            return min(known_ns, rank_rtt_ns(direct) or 0)
        return known_ns if measured_only or (src, dst) in self._cut else min(known_ns, self._model_ns(src, dst))

    def _model_ns(self, src: str, dst: str) -> float:
        return max(MODEL_LEAST_RTT_NS, fibre_floor_ns(self.site(src), self.site(dst)) * INFLATION_P50)

    def _engine(self, relays: int) -> Best:
        if relays not in self._best:
            self._best[relays] = best(self._direct_ms, relays=relays, relay_ms=self.relay_ms, allowed=list(self._relays))
        return self._best[relays]
