"""What all demand can reach: round trips from every place with users to every site that serves, and the way they take.

The same rules of evidence as routing.network (routing.evidence), for everything at once: relays only over measured legs;
metros enter at a PoP and never relay. Where Network names a few candidates for one request, this keeps the one way that is
best by medians for each (place, serving site):

    min over PoPs e of   near x access[m, e] + far x onward[e, s]

`near` and `far` are how often a request crosses each: once, once more for every round trip of the hand-shake there, and
once for every window of slow start that its upload waits for.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from records.link import LinkEstimate
from records.residency import ResidencyRule
from routing.constraints import may_pass, residency_refuses_pool
from routing.evidence import Evidence
from routing.latency import HANDSHAKE_ROUND_TRIPS, INITIAL_WINDOW_SEGMENTS, MSS_BYTES, Connection
from routing.request import RelayMode
from routing.world import World

__all__ = ["Hop", "Reach", "crossings", "upload_windows"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def upload_windows(size_bytes: int) -> int:
    """How many windows of slow start an upload waits for: 0 for what fits the first (routing.latency.transfer_ns)."""
    return max(0, math.ceil(math.log2(size_bytes / (INITIAL_WINDOW_SEGMENTS * MSS_BYTES) + 1)) - 1) if size_bytes > 0 else 0


def crossings(connection: Connection, upload_bytes: int) -> float:
    """How often a request crosses a leg that is shaken hands on so: the request, the hand-shake, slow start."""
    return 1.0 + HANDSHAKE_ROUND_TRIPS[connection] + upload_windows(upload_bytes)


@dataclass(frozen=True, slots=True)
class Hop:
    """The way from a place to a serving site: (place,) ingress, relay or none, serving site; medians in ms."""

    ingress: str
    relay: str | None
    site: str


@dataclass(frozen=True)
class _Law:
    """The same rules for several places: what they may enter at, what relays for them and where they may be served.

    first  how many crossings of a leg behind a relay one crossing of the leg before it counts for. 1, but for users at a site
           of ours whose relays end connections: their own hand-shake crosses the first leg alone
    """

    rules: tuple[ResidencyRule, ...]
    first: float
    onward_ms: Floats
    via: Ints
    relay_ok: NDArray[np.bool_]
    ingress_ok: NDArray[np.bool_]
    serving_ok: NDArray[np.bool_]


class Reach:
    """Round trips of a world, for `serving` sites. Arrays: places [m], PoPs and regions [v], serving sites [s], all in ms.

    total_ms[m, s]     what crossing the network costs a request, hand-shakes and slow start included; inf: no way
    ingress[m, s]      index of the PoP it enters at (of the place itself where that is no metro and stands)
    """

    def __init__(
        self,
        world: World,
        serving: Sequence[str],
        *,
        relays: int = 1,
        relay_ms: float = 0.5,
        connection: Connection = "cold",
        onward: Connection = "warm",
        relay_mode: RelayMode = "forward",
    ) -> None:
        self.world = world
        self._asked = (tuple(serving), relays > 0, relay_ms, connection, onward, relay_mode)
        self.relay_ms = relay_ms
        self.relay_mode = relay_mode
        self.use_relays = relays > 0
        self.places = sorted(world.demand)
        # Users of a place that failed are still there: what they know of the network is from before the failure.
        self.infra = sorted(name for name, site in world.all_sites.items() if site.kind != "metro")
        self.index = {name: i for i, name in enumerate(self.infra)}
        self.serving = list(serving)
        self.target = np.array([self.index[name] for name in self.serving], dtype=np.intp)
        size = _upload_bytes(world)
        self.near = np.full(len(self.places), crossings(connection, size))
        self.far = np.full(len(self.places), crossings(onward, size))
        self.onward_crossings = crossings(onward, size)
        self.pops = np.array([world.all_sites[name].kind == "pop" for name in self.infra], dtype=bool)
        self.gone = np.array([name in world.down for name in self.infra], dtype=bool)
        self._legs(world)
        self.laws: list[_Law] = []
        self.law_of = np.zeros(len(self.places), dtype=np.intp)
        self.law_if_moved = self.law_of.copy()
        self._by_law(world)
        self._access(world)
        self.total_ms, self.ingress = self._best(np.arange(len(self.places)))
        self._blocked(self.total_ms)

    def holds_for(
        self,
        world: World,
        serving: Sequence[str],
        *,
        relays: int,
        relay_ms: float,
        connection: Connection,
        onward: Connection,
        relay_mode: RelayMode,
    ) -> bool:
        """Whether this is what `Reach` would find in that world, so asked: one that differs in load, pools and prices alone."""
        mine = self.world
        same_sites = world.all_sites is mine.all_sites or world.all_sites == mine.all_sites
        return (
            self._asked == (tuple(serving), relays > 0, relay_ms, connection, onward, relay_mode)
            and world.all_links is mine.all_links
            and same_sites
            and (world.down, world.cut, world.residency) == (mine.down, mine.cut, mine.residency)
            and world.demand.keys() == mine.demand.keys()
            and self._crossings(world) == self._crossings(mine)
            and not (self.gone != np.array([name in world.down for name in self.infra], dtype=bool)).any()
        )

    def _crossings(self, world: World) -> tuple[float, ...]:
        """Of a size only this is asked: most prompts fit into the first window, whatever they are."""
        _, _, _, connection, onward, _ = self._asked
        return tuple(crossings(leg, _upload_bytes(world)) for leg in (connection, onward))

    # ---- legs

    def _legs(self, world: World) -> None:
        """known_ms[v, v]: measured, what relays are sought over; direct_ms: what stands for a pair. Cut pairs are inf in both."""
        self.evidence = Evidence(world.all_links, world.cut)
        self.known_ms, _, self.direct_ms = self.evidence.tables(self.infra, self.infra, world.all_sites)

    def _access(self, world: World) -> None:
        """access_ms[m, v]: from each place to the PoPs it may enter at; straight_ms: to what serves it there."""
        access = np.full((len(self.places), len(self.infra)), np.inf)
        self.straight_ms = np.full_like(access, np.inf)
        metros = [i for i, name in enumerate(self.places) if world.all_sites[name].kind == "metro"]
        if metros:
            _, known, standing = self.evidence.tables([self.places[i] for i in metros], self.infra, world.all_sites)
            # A region is no ingress: what was measured to it from a metro serves that region only. A PoP serves whom its own
            # pool may serve, whether or not it may pass their data on.
            access[metros] = np.where(self.pops, standing, np.inf)
            self.straight_ms[metros] = np.where(self.pops, standing, known)
        for i, name in enumerate(self.places):
            own = self.index.get(name)
            if own is None:
                continue
            if name not in world.down:
                access[i, own] = 0.0
                if self.relay_mode == "forward":
                    self.far[i] = self.near[i]  # the client is here: its connection crosses the whole way
            else:
                self._rehome(access, i)
        self.access_ms = access

    def _rehome(self, access: Floats, m: int) -> None:
        """Users of a failed PoP go to the nearest one that stands and that their law allows (routing.rehoming)."""
        at = self.index[self.places[m]]
        may = self.pops & self.laws[self.law_of[m]].ingress_ok & ~self.gone
        legs = np.where(may, self.direct_ms[at], np.inf)
        access[m] = np.inf
        nearest = int(np.argmin(legs))
        if np.isfinite(legs[nearest]):
            access[m, nearest] = legs[nearest]

    # ---- law and relays

    def _by_law(self, world: World) -> None:
        """One set of relays and masks for every different set of rules that holds somewhere."""
        sets: dict[tuple[tuple[str, ...], float], int] = {}
        own = crossings(self._asked[3], _upload_bytes(world)) / self.onward_crossings if self.relay_mode == "terminate" else 1.0
        for m, name in enumerate(self.places):
            country = world.all_sites[name].country
            rules = tuple(rule for rule in world.residency if country is None or country in rule.applies_to)
            ids = tuple(rule.id for rule in rules)
            mine = 1.0 if self.enters(m) else own
            for first in (1.0, mine):
                if (ids, first) not in sets:
                    sets[ids, first] = len(self.laws)
                    self.laws.append(self._law(world, rules, first))
            self.law_if_moved[m], self.law_of[m] = sets[ids, 1.0], sets[ids, mine]

    def _law(self, world: World, rules: tuple[ResidencyRule, ...], first: float) -> _Law:
        sites = [world.all_sites[name] for name in self.infra]
        stands = np.array([name not in world.down for name in self.infra], dtype=bool)
        relay_ok = stands & np.array([may_pass(rules, self.relay_mode, site) for site in sites], dtype=bool)
        ingress_ok = stands & np.array([may_pass(rules, self.relay_mode, site, ingress=True) for site in sites], dtype=bool)
        serving_ok = np.array(
            [stands[i] and not any(residency_refuses_pool(rule, sites[i]) for rule in rules) for i in self.target], dtype=bool
        )
        onward, via = self._relayed(np.arange(len(self.infra)), relay_ok, first)
        return _Law(rules, first, onward, via, relay_ok, ingress_ok, serving_ok)

    def _relayed(self, sources: Ints, relay_ok: NDArray[np.bool_], first_counts: float) -> tuple[Floats, Ints]:
        """(ms, relay) [sources, serving] over at most one relay of `relay_ok`; relay -1 is the direct way. See _Law.first."""
        best = self.direct_ms[np.ix_(sources, self.target)] * first_counts
        via = np.full(best.shape, -1, dtype=np.intp)
        relays = np.flatnonzero(relay_ok) if self.use_relays else np.array([], dtype=np.intp)
        if relays.size:
            first = self.known_ms[np.ix_(sources, relays)] * first_counts
            for column, target in enumerate(self.target):
                way = first + (self.known_ms[relays, target] + self.relay_ms)
                k = np.argmin(way, axis=1)
                cost = way[np.arange(len(sources)), k]
                better = cost < best[:, column]
                best[better, column] = cost[better]
                via[better, column] = relays[k[better]]
        return best, via

    # ---- the best way

    def _best(self, rows: Ints) -> tuple[Floats, Ints]:
        """(total ms, ingress) [rows, serving]."""
        total = np.full((len(rows), len(self.serving)), np.inf)
        ingress = np.zeros(total.shape, dtype=np.intp)
        for number, law in enumerate(self.laws):
            mine = np.flatnonzero(self.law_of[rows] == number)
            # Who is at a site of ours enters nowhere: their connection passes it unread, and its country with it.
            may = law.ingress_ok | ~self.entering()[rows[mine], None]
            entry = np.where(may, self.access_ms[rows[mine]], np.inf) * self.near[rows[mine], None]
            for m, access in zip(mine, entry, strict=True):
                usable = np.flatnonzero(np.isfinite(access))
                if not usable.size:
                    continue
                way = access[usable, None] + self.far[rows[m]] * law.onward_ms[usable]
                e = np.argmin(way, axis=0)
                total[m], ingress[m] = way[e, np.arange(len(self.serving))], usable[e]
        straight = self.straight_ms[np.ix_(rows, self.target)] * self.near[rows, None]
        shorter = straight < total
        total[shorter] = straight[shorter]
        ingress[shorter] = np.broadcast_to(self.target, total.shape)[shorter]
        return total, ingress

    def _blocked(self, total: Floats) -> None:
        for number, law in enumerate(self.laws):
            total[np.ix_(self.law_of == number, ~law.serving_ok)] = np.inf

    def without(self, sites: Collection[str]) -> Reach:
        """The same world without some more sites, from what is known already: only what used them is sought anew."""
        new = copy.copy(self)
        lost = np.array([name in sites for name in self.infra], dtype=bool)
        new.gone = self.gone | lost
        touched = np.zeros(len(self.places), dtype=bool)
        moved = [m for m, name in enumerate(self.places) if name in self.index and self._moves(m, lost)]
        if moved:
            new.access_ms, new.far, new.law_of = self.access_ms.copy(), self.far.copy(), self.law_of.copy()
            for m in moved:
                new.law_of[m] = self.law_if_moved[m]
                new._rehome(new.access_ms, m)
                new.far[m] = self.onward_crossings
                touched[m] = True
        new.laws = []
        for number, law in enumerate(self.laws):
            relay_ok = law.relay_ok & ~lost
            used = (law.via >= 0) & lost[law.via]
            rows = np.flatnonzero(used.any(axis=1))
            onward, via = law.onward_ms, law.via
            if rows.size:
                onward, via = onward.copy(), via.copy()
                onward[rows], via[rows] = self._relayed(rows, relay_ok, law.first)
            mine = self.law_of == number
            changed = used[self.ingress, np.arange(len(self.serving))[None, :]] | lost[self.ingress]
            touched |= mine & changed.any(axis=1)
            new.laws.append(_Law(law.rules, law.first, onward, via, relay_ok, law.ingress_ok & ~lost, law.serving_ok & ~lost[self.target]))
        new.total_ms, new.ingress = self.total_ms.copy(), self.ingress.copy()
        rows = np.flatnonzero(touched)
        if rows.size:
            new.total_ms[rows], new.ingress[rows] = new._best(rows)
        new._blocked(new.total_ms)
        return new

    def _moves(self, m: int, lost: NDArray[np.bool_]) -> bool:
        """Whether the users of a site of ours have to enter elsewhere: it fails, or it failed before and where they went fails now."""
        own = self.index[self.places[m]]
        return bool(lost[np.argmin(self.access_ms[m])] if self.gone[own] else lost[own])

    def robust(self) -> bool:
        """Whether no single PoP or relay that serves nothing can cut a place off: each has two ways in, and no way needs a relay."""
        if not np.isfinite(self.direct_ms[:, self.target]).all():
            return False
        ok = np.stack([law.ingress_ok for law in self.laws])[self.law_of]
        ways = (np.isfinite(self.access_ms) & ok).sum(axis=1)
        own = np.array([not self.enters(m) for m in range(len(self.places))], dtype=bool)
        return bool((ways[~own] >= 2).all())

    def entering(self) -> NDArray[np.bool_]:
        """[m] `enters` of every place."""
        return np.array([self.enters(m) for m in range(len(self.places))], dtype=bool)

    def enters(self, m: int) -> bool:
        """Whether a place's users enter at a PoP that ends their connection; else they are at a site of ours already."""
        own = self.index.get(self.places[m])
        return own is None or bool(self.gone[own])

    def hops(self, m: Ints, s: Ints) -> tuple[Ints, Ints]:
        """(ingress, relay) by index for many (place, serving site) pairs; relay -1 for none."""
        e = self.ingress[m, s]
        via = np.full(len(m), -1, dtype=np.intp)
        for number, law in enumerate(self.laws):
            mine = self.law_of[m] == number
            via[mine] = law.via[e[mine], s[mine]]
        via[e == self.target[s]] = -1
        return e, via

    def leg(self, src: str, dst: str) -> LinkEstimate:
        """The link that stands for a pair that is not cut; the same object every time."""
        found = self.evidence.leg(src, dst, self.world.all_sites)
        assert found is not None
        return found

    def hop(self, m: int, s: int) -> Hop:
        """The way that place m takes to serving site s; total_ms[m, s] must be finite."""
        e = int(self.ingress[m, s])
        relay = int(self.laws[self.law_of[m]].via[e, s])
        return Hop(self.infra[e], None if relay < 0 or e == self.target[s] else self.infra[relay], self.serving[s])


def _upload_bytes(world: World) -> int:
    return 0 if world.workload is None else world.workload.upload_bytes
