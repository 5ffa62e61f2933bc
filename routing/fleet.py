"""All demand in a world at once: who is served where over which way, how full the pools are, and what that is worth.

Reach gives the network's part, load splits the demand, the queues are those of routing.queueing at the loads that come
out. Objective `ttft` and `e2e` minimise the sum over requests of the mean time; `cost` minimises USD, and among equals TTFT.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from records.errors import UserError
from records.link import LinkEstimate
from records.serving import PerfProfile, ServingPool, Workload
from records.units import MS
from routing.constraints import MemoryOf
from routing.cost import EgressPrices, device_usd_per_1k, egress_usd_per_1k
from routing.latency import Connection, decode_ns, prefill_ns
from routing.load import Curve, Hints, Limits, Split, solve_split
from routing.planner import OWN, no_price
from routing.queueing import Queue, capacity_rps, service_ns, solve
from routing.reach import Reach
from routing.request import Objective, RelayMode
from routing.resplit import mend
from routing.world import World

__all__ = ["Fleet", "FleetOptions", "PoolCurve", "legs_of", "settle"]

Floats = NDArray[np.float64]

#: Beyond it the delay of a pool is steeper than numbers of 64 bits can weigh against everything else.
MOST_UTILISATION = 0.999
#: Load at which a device's share of a request is priced where cost is the objective: half of what it can take.
_NOMINAL_LOAD = 0.5
#: In mode hybrid a request goes to the cloud where one more at the edge would cost all its users together more than this.
CLOUD_HANDICAP_MS = 1000.0
#: USD per 1,000 requests against ms of TTFT where cost is the objective: so little that time only decides between equals.
_TIME_IN_USD = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """How a fleet serves.

    max_utilisation   most of a pool's greatest rate that it is given: beyond that it is healthy but full
    max_share         most of all demand that one provider may take (our PoPs are one); None: any
    budget_usd_per_month  most that egress and device time of the requests may cost; None: any
    """

    objective: Objective = "ttft"
    relays: int = 1
    relay_ms: float = 0.5
    connection: Connection = "cold"
    onward: Connection = "warm"
    relay_mode: RelayMode = "forward"
    max_utilisation: float = 0.95
    max_share: float | None = None
    budget_usd_per_month: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_utilisation <= MOST_UTILISATION:
            raise UserError(f"max_utilisation {self.max_utilisation} is outside 0..{MOST_UTILISATION}; a queue at 1 never ends")
        if self.max_share is not None and not 0 < self.max_share <= 1:
            raise UserError(f"max_share {self.max_share} is outside 0..1")


@lru_cache(maxsize=200_000)
def _queue(profile: PerfProfile, devices: int, rps: float, input_tokens: int, output_tokens: int, hit: float) -> Queue:
    return solve(profile, devices, rps, input_tokens=input_tokens, output_tokens=output_tokens, cache_hit_ratio=hit)


@dataclass(frozen=True)
class PoolCurve:
    """A pool's delay as the split sees it, in ms x requests a second (USD for objective cost)."""

    pool: ServingPool
    workload: Workload
    hit: float
    objective: Objective
    max_utilisation: float

    @cached_property
    def cap_rps(self) -> float:
        """The most the pool is given."""
        w = self.workload
        return self.max_utilisation * capacity_rps(self.pool.profile, self.pool.device_count, w.input_tokens, w.output_tokens, self.hit)

    def queue(self, load_rps: float) -> Queue:
        """The pool's steady state at a load."""
        w = self.workload
        return _queue(self.pool.profile, self.pool.device_count, max(0.0, load_rps), w.input_tokens, w.output_tokens, self.hit)

    def _total(self, load_rps: float) -> float:
        queue = self.queue(load_rps)
        extra_ns = queue.wait_mean_ns
        if self.objective == "e2e":
            extra_ns += max(0, self.workload.output_tokens - 1) * self.pool.profile.beta_ns * (queue.batch - 1)
        return load_rps * extra_ns / MS * (_TIME_IN_USD if self.objective == "cost" else 1.0)

    def delay(self, load_rps: float) -> tuple[float, float]:
        """See routing.load.Curve; the slope is a central difference over 2e-4 of the cap, and never beyond what the pool can do at all."""
        step = self.cap_rps * min(1e-4, (1 / self.max_utilisation - 1) / 2)
        low, high = max(0.0, load_rps - step), load_rps + step
        value = self._total(load_rps)
        return value, max(0.0, (self._total(high) - self._total(low)) / (high - low))


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The settled state of a world: arrays over places [m] and pools [p] in the order of `reach.places` and `pools`.

    prefill_ns[m, p] is the one the request meets there (a cold cache reads all of the prompt).
    """

    world: World
    options: FleetOptions
    reach: Reach
    pools: tuple[ServingPool, ...]
    curves: tuple[PoolCurve, ...]
    column: NDArray[np.intp]
    split: Split
    prefill_ns: Floats
    egress: EgressPrices

    @property
    def workload(self) -> Workload:
        """What is asked for."""
        assert self.world.workload is not None
        return self.world.workload

    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(places, pools) by index, of the pairs that carry traffic."""
        m, p = np.nonzero(self.split.rate > 1e-9 * max(1.0, float(self.split.rate.max(initial=0.0))))
        return m, p

    def serves(self) -> list[tuple[int, int]]:
        """The (place, pool) pairs that carry traffic."""
        return list(zip(*(found.tolist() for found in self.pairs()), strict=True))


def settle(
    world: World,
    options: FleetOptions | None = None,
    *,
    egress: EgressPrices = no_price,
    memory: MemoryOf | None = None,
    before: Fleet | None = None,
    reach: Reach | None = None,
    beside: Iterable[Reach] = (),
    hints: Hints | None = None,
) -> Fleet:
    """Let a world's demand settle on its pools.

    before  the state that traffic moves away from: what a place now sends to a pool it did not use finds a cold cache
            (and a split that can be shown to be best still is kept or mended, see routing.resplit)
    reach   of the same network, where it is known already (Reach.without)
    beside  of other worlds: one that holds for this one too is taken

    Raises UserError for a world without workload, demand, or a pool for the workload's model.
    """
    options = options or FleetOptions()
    workload = world.workload
    if workload is None:
        raise UserError("a scenario over all demand needs a workload; name one")
    if not world.demand or sum(world.demand.values()) <= 0:
        raise UserError("no place asks for anything; give demand in requests a second")
    standing = {pool.id for pool in world.pools if reach is None or not reach.gone[reach.index[pool.site]]}
    if not any(pool.model == workload.model for pool in world.all_pools):
        models = ", ".join(sorted({pool.model for pool in world.all_pools})) or "none"
        raise UserError(f"no pool serves {workload.model}, which {workload.name} asks for; pools serve {models}")
    pools = tuple(pool for pool in world.all_pools if pool.model == workload.model and world.all_sites[pool.site].kind != "metro")
    reach = reach or _reach(world, sorted({pool.site for pool in pools}), options, beside if before is None else (before.reach, *beside))
    column = np.array([reach.serving.index(pool.site) for pool in pools], dtype=np.intp)
    hit = world.cache_hit_ratio
    curves = tuple(PoolCurve(pool, workload, hit, options.objective, options.max_utilisation) for pool in pools)
    warm = _warm(before, reach, pools) if before is not None and hit > 0 else np.ones((len(reach.places), len(pools)), dtype=bool)
    prefill = np.empty(warm.shape)
    weight = np.ones(warm.shape)
    for p, pool in enumerate(pools):
        gamma, delta, slots = pool.profile.gamma_ns, pool.profile.delta_ns, pool.profile.max_batch
        prefill[:, p] = np.where(warm[:, p], *(prefill_ns(gamma, delta, workload.input_tokens, h) for h in (hit, 0.0)))
        held = [service_ns(pool.profile, slots, workload.input_tokens, workload.output_tokens, h) for h in (hit, 0.0)]
        weight[:, p] = np.where(warm[:, p], 1.0, held[1] / held[0] if held[0] > 0 else 1.0)
    network_ms = reach.total_ms[:, column]
    usable = np.array([pool.id in standing and _fits(pool, workload, memory) for pool in pools], dtype=bool)
    network_ms = np.where(usable[None, :], network_ms, np.inf)
    cost, usd = _costs(world, options, reach, pools, curves, network_ms, prefill, egress)
    rate = np.array([world.demand[name] for name in reach.places])
    limits = Limits(
        provider=tuple(world.all_sites[pool.site].provider or OWN for pool in pools),
        max_share=options.max_share,
        usd=usd,
        budget_usd_per_s=None if options.budget_usd_per_month is None else options.budget_usd_per_month / (30 * 86_400),
    )
    if hints is None and before is not None and before.pools == pools and before.reach.places == reach.places:
        hints = before.split.hints
    split = None
    if before is not None and before.pools == pools and before.reach.places == reach.places and (rate == _rates(before)).all():
        split = mend(before.split, cost, rate, _as_curves(curves), weight)
    if split is None:
        split = solve_split(cost, rate, _as_curves(curves), weight=weight, limits=limits, hints=hints)
    return Fleet(
        world=world,
        options=options,
        reach=reach,
        pools=pools,
        curves=curves,
        column=column,
        split=split,
        prefill_ns=prefill,
        egress=world.egress(egress),
    )


def _reach(world: World, serving: Sequence[str], options: FleetOptions, known: Iterable[Reach]) -> Reach:
    """What can be reached; one of those that are known where nothing of the network differs."""
    asked: dict[str, Any] = {name: getattr(options, name) for name in ("relays", "relay_ms", "connection", "onward", "relay_mode")}
    return next((one for one in known if one.holds_for(world, serving, **asked)), None) or Reach(world, serving, **asked)


def _rates(fleet: Fleet) -> Floats:
    return np.array([fleet.world.demand[name] for name in fleet.reach.places])


def _as_curves(curves: Sequence[PoolCurve]) -> Sequence[Curve]:
    return curves


def _fits(pool: ServingPool, workload: Workload, memory: MemoryOf | None) -> bool:
    known = None if memory is None else memory(pool, workload)
    return known is None or known.fits


def _warm(before: Fleet, reach: Reach, pools: Sequence[ServingPool]) -> NDArray[np.bool_]:
    """[m, p] whether a place used the pool before; a pool that is new, or was somebody else's, is cold."""
    place = {name: m for m, name in enumerate(before.reach.places)}
    column = {pool.id: p for p, pool in enumerate(before.pools)}
    found = np.zeros((len(reach.places), len(pools)), dtype=bool)
    for m, name in enumerate(reach.places):
        for p, pool in enumerate(pools):
            if name in place and pool.id in column:
                found[m, p] = before.split.rate[place[name], column[pool.id]] > 0
    return found


def _costs(
    world: World,
    options: FleetOptions,
    reach: Reach,
    pools: Sequence[ServingPool],
    curves: Sequence[PoolCurve],
    network_ms: Floats,
    prefill: Floats,
    egress: EgressPrices,
) -> tuple[Floats, Floats | None]:
    """(what the split minimises, USD of one request or None where nobody asks for it), [m, p]."""
    workload = curves[0].workload
    time_ms = network_ms + prefill / MS
    if options.objective == "e2e":
        time_ms = (
            time_ms + np.array([decode_ns(p.profile.alpha_ns, p.profile.beta_ns, workload.output_tokens) / MS for p in pools])[None, :]
        )
    if world.mode == "hybrid":
        cloud = np.array([world.all_sites[pool.site].kind == "region" for pool in pools], dtype=bool)
        time_ms = time_ms + np.where(cloud, CLOUD_HANDICAP_MS, 0.0)[None, :]
    if options.objective != "cost" and options.budget_usd_per_month is None:
        return time_ms, None
    prices = world.egress(egress)
    usd = np.full(network_ms.shape, np.inf)
    unknown: set[str] = set()
    for p, (pool, curve) in enumerate(zip(pools, curves, strict=True)):
        queue = curve.queue(_NOMINAL_LOAD * curve.cap_rps / curve.max_utilisation)
        priced = _with_price(world, pool)
        decode = decode_ns(pool.profile.alpha_ns, pool.profile.beta_ns, workload.output_tokens, queue.batch)
        device = device_usd_per_1k(priced, float(prefill[:, p].min(initial=0.0)), decode, queue.batch)
        for m in np.flatnonzero(np.isfinite(network_ms[:, p])):
            leaves, missing = egress_usd_per_1k(
                legs_of(reach, int(m), int(reach.serving.index(pool.site))), world.all_sites, workload, prices, own=world.stock.link_prices
            )
            if device is None or leaves is None:
                unknown.update(missing or (f"an hour of {pool.accelerator} at {pool.site}",))
                continue
            usd[m, p] = (device + leaves) / 1000
    if not np.isfinite(usd).any():
        raise UserError(f"no pool has a known cost; missing: {', '.join(sorted(unknown)[:5])}; set_price sets one")
    if options.objective == "cost":
        time_ms = np.where(np.isfinite(usd), usd * 1000 + time_ms * _TIME_IN_USD, np.inf)
    else:
        time_ms = np.where(np.isfinite(usd), time_ms, np.inf)
    return time_ms, np.where(np.isfinite(usd), usd, 0.0)


def _with_price(world: World, pool: ServingPool) -> ServingPool:
    return replace(pool, usd_per_hour=world.price_of(pool))


def legs_of(reach: Reach, m: int, s: int) -> tuple[LinkEstimate, ...]:
    """The links that place m crosses to serving site s, each measured, assumed or modelled."""
    hop = reach.hop(m, s)
    stops = [reach.places[m], hop.ingress, *((hop.relay,) if hop.relay is not None else ()), hop.site]
    stops = [stop for i, stop in enumerate(stops) if i == 0 or stop != stops[i - 1]]
    return tuple(reach.leg(a, b) for a, b in pairwise(stops))
