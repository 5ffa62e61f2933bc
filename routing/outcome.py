"""What a settled fleet means for people and money: quantiles of its requests, misses, losses, the month's bill.

Latency is drawn as for one request (routing.evaluate): every link that carries traffic by its own distribution, waits from
the queue at its load. The quantiles of a place, and of all, are those of the mixture by traffic and never means of
quantiles. A lost request has no latency; it counts as lost, and as one that misses its objective.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from records.link import LinkEstimate
from records.serving import Workload
from records.units import MS
from routing.bill import monthly_bill
from routing.fleet import Fleet, legs_of
from routing.latency import HANDSHAKE_ROUND_TRIPS, INITIAL_WINDOW_SEGMENTS, MSS_BYTES, decode_ns, transfer_ns
from routing.mixture import bucketed, quantiles
from routing.quantiles import link_draws_ns, nearest_rank, uniforms

__all__ = [
    "FULL",
    "Cache",
    "Outcome",
    "PlaceOutcome",
    "PoolOutcome",
    "Totals",
    "measure",
    "measure_places",
    "totals",
]

Floats = NDArray[np.float64]

DRAWS = 512
#: From this share of its cap on a pool is called full.
FULL = 1 - 1e-4


@dataclass(frozen=True, slots=True)
class Flow:
    """What place m sends to pool p: requests a second, draws of TTFT in ns, the links crossed, whether one of them is modelled."""

    m: int
    p: int
    rate: float
    ttft_ns: Floats
    legs: tuple[LinkEstimate, ...]
    is_modelled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """All demand together, without the places: what a sweep ranks by."""

    lost_share: float
    miss_share: float
    ttft_p95_ns: float | None
    e2e_p95_ns: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOutcome:
    """A pool at its load. state: idle, ok, full (healthy, but given all it may take) or down.

    capacity_price  what one more request a second of its room would save, in the objective's unit (ms or USD) for each request
    relieves_loss   whether that room would serve a request that is lost now; the price is then that of a loss, not of time or money
    """

    id: str
    site: str
    load_rps: float
    cap_rps: float
    utilisation: float
    wait_ms: float
    state: str
    capacity_price: float
    relieves_loss: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOutcome:
    """A place with users: where its requests go and how they fare; latencies in ns, None where all is lost.

    served    (pool id, share of the place's demand), most first; ingress the PoPs it enters at
    measured  share of its served traffic that crosses no modelled leg
    """

    site: str
    rps: float
    lost_share: float
    miss_share: float
    ttft_p50_ns: float | None
    ttft_p95_ns: float | None
    e2e_p50_ns: float | None
    e2e_p95_ns: float | None
    served: tuple[tuple[str, float], ...]
    ingress: tuple[str, ...]
    relays: tuple[str, ...]
    measured: float
    price: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All of a world's demand. usd_* are a month's; None where a price of something used is not known (see `unpriced`)."""

    rps: float
    lost_share: float
    miss_share: float
    ttft_p50_ns: float | None
    ttft_p95_ns: float | None
    e2e_p50_ns: float | None
    e2e_p95_ns: float | None
    usd_devices: float | None
    usd_egress: float | None
    usd_egress_known: float
    usd_push: float | None
    unpriced: tuple[str, ...]
    measured_share: float
    places: tuple[PlaceOutcome, ...]
    pools: tuple[PoolOutcome, ...]
    provider_price: dict[str, float]
    budget_price: float | None
    gap: float

    @property
    def usd_known(self) -> float:
        """What has a price, a month: a lower bound where something has none."""
        return sum(part for part in (self.usd_devices, self.usd_egress_known, self.usd_push) if part is not None)

    @property
    def usd_per_month(self) -> float | None:
        """Devices, egress and pushes of a model together."""
        parts = (self.usd_devices, self.usd_egress, self.usd_push)
        return None if any(part is None for part in parts) else sum(part for part in parts if part is not None)


class Cache:
    """Draws of links and ways, kept between outcomes of worlds that share their links and their workload."""

    def __init__(self, seed: int = 0, draws: int = DRAWS) -> None:
        self.seed = seed
        self.draws = draws
        self.links: dict[int, tuple[LinkEstimate, Floats]] = {}
        self.ways: dict[tuple[object, ...], tuple[Floats, tuple[LinkEstimate, ...], bool]] = {}

    def beside(self) -> Cache:
        """One for worlds of another workload or some other links: it knows the links drawn here, and no way."""
        found = Cache(self.seed, self.draws)
        found.links = dict(self.links)
        return found

    def link(self, link: LinkEstimate) -> Floats:
        """[draws] RTTs in ns."""
        known = self.links.get(id(link))
        if known is None:
            known = self.links[id(link)] = (link, link_draws_ns(link, self.seed, self.draws))
        return known[1]


def _flows(fleet: Fleet, cache: Cache) -> tuple[list[Flow], list[float]]:
    """(what goes where, decode by pool) of a settled fleet."""
    workload, split = fleet.workload, fleet.split
    queues = [curve.queue(load) for curve, load in zip(fleet.curves, split.load, strict=True)]
    waits = [
        queue.wait_draws_ns(uniforms(f"queue/{pool.id}", cache.seed, cache.draws)) for queue, pool in zip(queues, fleet.pools, strict=True)
    ]
    decode = [
        decode_ns(pool.profile.alpha_ns, pool.profile.beta_ns, workload.output_tokens, queue.batch)
        for pool, queue in zip(fleet.pools, queues, strict=True)
    ]
    m, p = fleet.pairs()
    s = fleet.column[p]
    ways = (found.tolist() for found in (m, s, *fleet.reach.hops(m, s), fleet.reach.entering()[m]))
    flows = []
    for key, place, pool in zip(zip(*ways, strict=True), m.tolist(), p.tolist(), strict=True):
        way = cache.ways.get(key)
        if way is None:
            way = cache.ways[key] = _way(fleet, cache, place, key[1])
        flows.append(Flow(place, pool, float(split.rate[place, pool]), way[0] + (waits[pool] + fleet.prefill_ns[place, pool]), *way[1:]))
    return flows, decode


def totals(fleet: Fleet, cache: Cache) -> Totals:
    """What measure says of all demand together, quantiles to 0.1 % (log buckets): a hundredth of its time, for sweeps."""
    flows, decode = _flows(fleet, cache)
    total = sum(fleet.world.demand.values())
    lost = float(fleet.split.lost.sum())
    if not flows:
        return Totals(lost_share=_share(lost, total), miss_share=_share(lost, total), ttft_p95_ns=None, e2e_p95_ns=None)
    ttft = np.stack([flow.ttft_ns for flow in flows])
    e2e = ttft + np.array([decode[flow.p] for flow in flows])[:, None]
    rate = np.array([flow.rate for flow in flows])
    late = _late(fleet.workload, ttft, e2e)
    return Totals(
        lost_share=_share(lost, total),
        miss_share=_share(lost + float(rate @ late.mean(axis=1)), total),
        ttft_p95_ns=bucketed(ttft, rate, 0.95),
        e2e_p95_ns=bucketed(e2e, rate, 0.95),
    )


def _late(workload: Workload, ttft_ns: Floats, e2e_ns: Floats) -> NDArray[np.bool_]:
    """Which draws miss a budget of the workload; none where it has none."""
    late = np.zeros(ttft_ns.shape, dtype=np.bool_)
    for budget_ns, taken in ((workload.ttft_budget_ns, ttft_ns), (workload.e2e_budget_ns, e2e_ns)):
        if budget_ns is not None:
            late |= taken > budget_ns
    return late


def measure(fleet: Fleet, cache: Cache | None = None) -> Outcome:
    """The outcome of a settled fleet; `cache` is shared between worlds whose links and workload are the same."""
    world, split = fleet.world, fleet.split
    seen = _seen(fleet, cache or Cache())
    found, decode = seen.flows, seen.decode
    ttft_p50, ttft_p95 = quantiles([(flow.rate, flow.ttft_ns) for flow in found])
    e2e_p50, e2e_p95 = quantiles([(flow.rate, flow.ttft_ns + decode[flow.p]) for flow in found])
    total = float(np.array([world.demand[name] for name in fleet.reach.places]).sum())
    bill = monthly_bill(fleet, [(flow.rate, flow.legs) for flow in found])
    queues = [curve.queue(load) for curve, load in zip(fleet.curves, split.load, strict=True)]
    return Outcome(
        rps=total,
        lost_share=_share(float(split.lost.sum()), total),
        miss_share=_share(float(split.lost.sum()) + seen.missed(range(len(found))), total),
        ttft_p50_ns=ttft_p50,
        ttft_p95_ns=ttft_p95,
        e2e_p50_ns=e2e_p50,
        e2e_p95_ns=e2e_p95,
        usd_devices=bill.devices,
        usd_egress=bill.egress,
        usd_egress_known=bill.egress_known,
        usd_push=bill.push,
        unpriced=bill.unpriced,
        measured_share=_share(_measured(found), sum(flow.rate for flow in found)),
        places=_places(fleet, seen),
        pools=tuple(_pool(fleet, p, queues[p].wait_mean_ns, queues[p].utilisation) for p in range(len(fleet.pools))),
        provider_price=split.provider_price,
        budget_price=split.budget_price,
        gap=split.gap,
    )


def measure_places(fleet: Fleet, cache: Cache | None = None) -> tuple[PlaceOutcome, ...]:
    """The places of `measure`, without what all of them come to."""
    return _places(fleet, _seen(fleet, cache or Cache()))


def _share(part: float, whole: float) -> float:
    """part / whole; what a solver's rounding leaves below a millionth is nothing."""
    ratio = part / whole if whole > 0 else 0.0
    return 0.0 if ratio < 1e-6 else min(1.0, ratio)


def _way(fleet: Fleet, cache: Cache, m: int, site: int) -> tuple[Floats, tuple[LinkEstimate, ...], bool]:
    """([draws] connect, upload, relay and network of a request from place m to a serving site, ns; its links; whether one of them is
    modelled), as routing.evaluate adds them."""
    options, size_bytes = fleet.options, fleet.workload.upload_bytes
    hop = fleet.reach.hop(m, site)
    legs = legs_of(fleet.reach, m, site)
    drawn = [cache.link(leg) for leg in legs]
    rtt = drawn[0] if len(drawn) == 1 else reduce(np.add, drawn) if drawn else np.zeros(cache.draws)
    if hop.relay is not None:
        rtt = rtt + options.relay_ms * MS
    # Hand-shakes and the round trip itself, in one product: this is done for every place.
    first, onward = HANDSHAKE_ROUND_TRIPS[options.connection], HANDSHAKE_ROUND_TRIPS[options.onward]
    terminates = options.relay_mode == "terminate"
    if (fleet.reach.enters(m) or terminates) and drawn:
        took = rtt * (1 + onward)
        took += drawn[0] * (first - onward)
    else:
        took = rtt * (1 + first)
    # Where relays end connections each leg starts slowly by itself.
    parts = [(ns, (leg,)) for ns, leg in zip(drawn, legs, strict=True)] if terminates and len(legs) > 1 else [(rtt, legs)]
    for ns, crossed in parts:
        rates = [leg.throughput_bps for leg in crossed if leg.throughput_bps is not None]
        if rates or size_bytes > INITIAL_WINDOW_SEGMENTS * MSS_BYTES:
            losses = [leg.loss_ratio for leg in crossed if leg.loss_ratio is not None]
            took += transfer_ns(
                size_bytes,
                ns,
                throughput_bps=min(rates, default=None),
                loss_ratio=1 - math.prod(1 - loss for loss in losses) if losses else None,
            )
    return took, legs, any(leg.evidence == "modelled" for leg in legs)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Flows with what their draws say, all looked at at once.

    late    [flows] share of the draws that miss a budget of the workload
    middle  [flows, 2] p50 and p95 of TTFT, ns
    """

    flows: Sequence[Flow]
    decode: Sequence[float]
    late: Floats
    middle: Floats

    def missed(self, numbers: Iterable[int]) -> float:
        """Served requests a second of some flows that miss a budget."""
        return sum(self.flows[n].rate * float(self.late[n]) for n in numbers)

    def quantiles(self, numbers: Sequence[int]) -> tuple[float | None, float | None, float | None, float | None]:
        """(p50, p95) of TTFT, then of E2E, of some flows together."""
        if len(numbers) == 1:  # as most places have: nothing to mix
            p50, p95 = self.middle[numbers[0]].tolist()
            later = self.decode[self.flows[numbers[0]].p]
            return p50, p95, p50 + later, p95 + later
        flows = [self.flows[n] for n in numbers]
        return (
            *quantiles([(flow.rate, flow.ttft_ns) for flow in flows]),
            *quantiles([(flow.rate, flow.ttft_ns + self.decode[flow.p]) for flow in flows]),
        )


def _seen(fleet: Fleet, cache: Cache) -> _Seen:
    found, decode = _flows(fleet, cache)
    return _Seen(found, decode, *_late_and_middle(fleet, found, decode, cache.draws))


def _places(fleet: Fleet, seen: _Seen) -> tuple[PlaceOutcome, ...]:
    flows: dict[int, list[int]] = defaultdict(list)
    for number, flow in enumerate(seen.flows):
        flows[flow.m].append(number)
    rates = [fleet.world.demand[name] for name in fleet.reach.places]
    return tuple(_place(fleet, m, float(rate), flows[m], seen) for m, rate in enumerate(rates) if rate > 0)


def _late_and_middle(fleet: Fleet, found: Sequence[Flow], decode: Sequence[float], draws: int) -> tuple[Floats, Floats]:
    if not found:
        return np.zeros(0), np.zeros((0, 2))
    ttft = np.stack([flow.ttft_ns for flow in found])
    late = _late(fleet.workload, ttft, ttft + np.array([decode[flow.p] for flow in found])[:, None])
    ranks = [nearest_rank(q, draws) for q in (0.5, 0.95)]
    return late.mean(axis=1), np.partition(ttft, ranks, axis=1)[:, ranks]


def _measured(found: Sequence[Flow]) -> float:
    """Requests a second that cross no modelled link."""
    return sum(flow.rate for flow in found if not flow.is_modelled)


def _place(fleet: Fleet, m: int, rps: float, numbers: Sequence[int], seen: _Seen) -> PlaceOutcome:
    lost = float(fleet.split.lost[m])
    found = [seen.flows[n] for n in numbers]
    ttft_p50, ttft_p95, e2e_p50, e2e_p95 = seen.quantiles(numbers)
    served = sum(flow.rate for flow in found)
    hops = [fleet.reach.hop(m, int(fleet.column[flow.p])) for flow in found]
    return PlaceOutcome(
        site=fleet.reach.places[m],
        rps=rps,
        lost_share=_share(lost, rps),
        miss_share=_share(lost + seen.missed(numbers), rps),
        ttft_p50_ns=ttft_p50,
        ttft_p95_ns=ttft_p95,
        e2e_p50_ns=e2e_p50,
        e2e_p95_ns=e2e_p95,
        served=tuple(sorted(((fleet.pools[flow.p].id, flow.rate / rps) for flow in found), key=lambda item: (-item[1], item[0]))),
        ingress=tuple(dict.fromkeys(hop.ingress for hop in hops)),
        relays=tuple(dict.fromkeys(hop.relay for hop in hops if hop.relay is not None)),
        measured=_share(_measured(found), served),
        price=float(fleet.split.demand_price[m]),
    )


def _pool(fleet: Fleet, p: int, wait_ns: float, utilisation: float) -> PoolOutcome:
    pool, load, cap = fleet.pools[p], float(fleet.split.load[p]), fleet.curves[p].cap_rps
    down = fleet.reach.gone[fleet.reach.index[pool.site]] or pool not in fleet.world.pools
    state = "down" if down else "idle" if load <= 1e-9 * cap else "full" if load >= FULL * cap else "ok"
    return PoolOutcome(
        id=pool.id,
        site=pool.site,
        load_rps=load,
        cap_rps=cap,
        utilisation=utilisation,
        wait_ms=wait_ns / MS,
        state=state,
        capacity_price=float(fleet.split.capacity_price[p]),
        # A lost request is held to cost ten times the most that a served one can: what lies between is neither.
        relieves_loss=bool(fleet.split.capacity_price[p] > fleet.split.lost_cost / 2),
    )
