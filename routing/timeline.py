"""A burst over all demand in time: the split of each moment, and the queues that remember.

Each step's split is that of its demand at rest (stepwise equilibrium). What no pool is given room for is not thrown away
here but queued, at every pool by its size, and `over_share` says how much that is; a pool that comes near its cap at any
time is followed through all of it (routing.burst), the others are at rest in each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from routing.burst import transient
from routing.constraints import MemoryOf
from routing.cost import EgressPrices
from routing.fleet import Fleet, FleetOptions, settle
from routing.world import Burst, World

__all__ = ["Step", "at_second", "peak_second", "timeline"]

Floats = NDArray[np.float64]

#: A pool that is given more than this share of its cap at any time is followed in time.
_NEAR = 0.8
#: After the last burst the queues are followed for as long again, at most this.
_AFTER_S = 3600.0
_JUST_S = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: its end, all demand, the share of it above what pools are given, waits in ns, requests waiting."""

    at_s: float
    rps: float
    over_share: float
    wait_mean_ns: float
    worst_pool: str | None
    worst_wait_ns: float
    waiting: float


def at_second(world: World, second: float) -> World:
    """The world with its demand as its bursts have it at a second, and no bursts any more."""
    demand: Mapping[str, float] = world.demand
    for burst in world.bursts:
        factor = burst.at(second)
        demand = {name: rps * (factor if burst.site in (None, name) else 1.0) for name, rps in demand.items()}
    return replace(world, demand=demand, bursts=())


def peak_second(world: World) -> float:
    """The first second at which all demand together is greatest. 0 without a burst.

    Between two moments at which any burst bends, all demand is a polynomial: of degree 1, or as many bursts as there are on one site.
    """
    bends = {0.0}
    for burst in world.bursts:
        ends = accumulate((burst.start_s, burst.rise_s, burst.hold_s, burst.fall_s))
        bends |= {end for end in ends if end > 0}
    named = {burst.site for burst in world.bursts} - {None}
    weights = {site: world.demand.get(site, 0.0) for site in named if site is not None}
    elsewhere = sum(rps for site, rps in world.demand.items() if site not in named)
    candidates = bends | {bend + _JUST_S for bend in bends}  # a fall that takes no time is over just after its bend
    for start, end in pairwise(sorted(bends)):
        total = Polynomial([0.0])
        for site, rps in ((None, elsewhere), *weights.items()):
            total += math.prod((_line(burst, start, end) for burst in world.bursts if burst.site in {None, site}), start=Polynomial([rps]))
        turns = np.atleast_1d(total.deriv().roots()).astype(complex) if total.degree() > 1 else np.zeros(0, complex)
        inside = turns.real[(abs(turns.imag) < 1e-9) & (turns.real > 0) & (turns.real < 1)]
        candidates |= {start + float(share) * (end - start) for share in inside}
    demand = {second: sum(at_second(world, second).demand.values()) for second in candidates}
    greatest = max(demand.values())
    return min(second for second, rps in demand.items() if rps >= greatest * (1 - 1e-12))


def _line(burst: Burst, start: float, end: float) -> Polynomial:
    """What a burst multiplies demand by between two of its bends, in the share of the way from one to the other."""
    third, two_thirds = (burst.at(start + share * (end - start)) for share in (1 / 3, 2 / 3))
    return Polynomial([2 * third - two_thirds, 3 * (two_thirds - third)])


def timeline(
    world: World,
    options: FleetOptions,
    *,
    egress: EgressPrices,
    memory: MemoryOf | None = None,
    step_s: float = 60.0,
    before: Fleet | None = None,
    progress: Callable[[str, int], AbstractContextManager[Callable[[int], None]]] | None = None,
) -> list[Step]:
    """The steps from 0 until the queues of the last burst have had time to drain; nothing without a burst.

    progress  gives, for what is counted and a number of it, a context of what is told how many more are done
    """
    if not world.bursts:
        return []
    end = max(burst.start_s + burst.rise_s + burst.hold_s + burst.fall_s for burst in world.bursts)
    end += min(end, _AFTER_S)
    middles = np.arange(0.5 * step_s, end, step_s)
    with nullcontext(lambda _count: None) if progress is None else progress("steps", 2 * len(middles)) as done:
        fleets = []
        settled: dict[tuple[float, ...], Fleet] = {}
        for middle in middles:
            now = at_second(world, float(middle))
            key = tuple(now.demand.values())
            if key not in settled:
                before = settled[key] = settle(now, options, egress=egress, memory=memory, before=before)
            fleets.append(settled[key])
            done(1)
        pools = fleets[0].pools
        cap = np.array([curve.cap_rps for curve in fleets[0].curves])
        lost = np.array([float(fleet.split.lost.sum()) for fleet in fleets])
        room = np.array([c if fleet_p else 0.0 for c, fleet_p in zip(cap, (p in world.pools for p in pools), strict=True)])
        share = room / room.sum() if room.sum() > 0 else np.zeros(len(room))
        loads = np.array([fleet.split.load for fleet in fleets]) + lost[:, None] * share[None, :]
        waits, waiting = _queues(fleets[0], loads, cap, step_s, done)
    steps = []
    for i, middle in enumerate(middles):
        total = float(sum(fleets[i].world.demand.values()))
        worst = int(np.argmax(waits[i])) if len(pools) else -1
        steps.append(
            Step(
                at_s=float(middle + 0.5 * step_s),
                rps=total,
                over_share=float(lost[i]) / total if lost[i] > 1e-6 * total else 0.0,
                wait_mean_ns=float(waits[i] @ loads[i] / loads[i].sum()) if loads[i].sum() > 0 else 0.0,
                worst_pool=pools[worst].id if worst >= 0 and waits[i, worst] > 0 else None,
                worst_wait_ns=float(waits[i].max(initial=0.0)),
                waiting=float(waiting[i].sum()),
            )
        )
    return steps


def _queues(fleet: Fleet, loads: Floats, cap: Floats, step_s: float, done: Callable[[int], None]) -> tuple[Floats, Floats]:
    """([step, pool] mean wait in ns, mean number waiting) at loads in requests a second; as many steps are told to be done."""
    waits, waiting = np.zeros(loads.shape), np.zeros(loads.shape)
    workload = fleet.workload
    told = 0
    for p, pool in enumerate(fleet.pools):
        if cap[p] > 0 and loads[:, p].max(initial=0.0) > _NEAR * cap[p]:
            moments = transient(
                pool.profile,
                pool.device_count,
                loads[:, p].tolist(),
                step_s,
                input_tokens=workload.input_tokens,
                output_tokens=workload.output_tokens,
                cache_hit_ratio=fleet.world.cache_hit_ratio,
                resolution_s=min(step_s, 5.0),
            )
            waits[:, p] = [moment.wait_ns for moment in moments]
            waiting[:, p] = [moment.waiting for moment in moments]
        else:
            at_rest = [fleet.curves[p].queue(float(load)) for load in loads[:, p]]
            waits[:, p] = [queue.wait_mean_ns for queue in at_rest]
            waiting[:, p] = waits[:, p] / 1e9 * loads[:, p]
        more = len(loads) * (p + 1) // len(fleet.pools) - told
        done(more)
        told += more
    return waits, waiting
