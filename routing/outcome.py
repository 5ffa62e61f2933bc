"""What a settled fleet means for people and money: quantiles of its requests, misses, losses, the month's bill.

Latency is drawn as for one request (routing.evaluate): every link that carries traffic by its own distribution, waits from
the queue at its load. The quantiles of a place, and of all, are those of the mixture by traffic and never means of
quantiles. A lost request has no latency; it counts as lost, and as one that misses its objective.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from records.link import LinkEstimate
from records.serving import EgressScope
from records.units import GB, MS
from routing.cost import EgressPrices, exits
from routing.fleet import Fleet, legs_of
from routing.latency import connect_ns, decode_ns, transfer_ns
from routing.quantiles import link_draws_ns, uniforms

__all__ = ["HOURS_PER_MONTH", "Cache", "Outcome", "PlaceOutcome", "PoolOutcome", "measure", "tiered_usd"]

Floats = NDArray[np.float64]
#: What a place sends to a pool: the pool's index, requests a second, draws of TTFT in ns, the links crossed.
Flow = tuple[int, float, Floats, Sequence[LinkEstimate]]

#: A month is 30 days, as in routing.cost.
HOURS_PER_MONTH = 720
DRAWS = 512
_FULL = 1 - 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOutcome:
    """A pool at its load. state: idle, ok, full (healthy, but given all it may take) or down.

    capacity_price  what one more request a second of its room would save, in the objective's unit (ms or USD)
    """

    id: str
    site: str
    load_rps: float
    cap_rps: float
    utilisation: float
    wait_ms: float
    state: str
    capacity_price: float


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
    usd_push: float | None
    unpriced: tuple[str, ...]
    measured_share: float
    places: tuple[PlaceOutcome, ...]
    pools: tuple[PoolOutcome, ...]
    provider_price: dict[str, float]
    budget_price: float | None
    gap: float

    @property
    def usd_per_month(self) -> float | None:
        """Devices, egress and pushes of a model together."""
        parts = (self.usd_devices, self.usd_egress, self.usd_push)
        return None if any(part is None for part in parts) else sum(part for part in parts if part is not None)


class Cache:
    """Draws of links and ways, kept between outcomes of worlds that share their links."""

    def __init__(self, seed: int = 0, draws: int = DRAWS) -> None:
        self.seed = seed
        self.draws = draws
        self.links: dict[int, tuple[LinkEstimate, Floats]] = {}
        self.ways: dict[tuple[object, ...], Floats] = {}

    def link(self, link: LinkEstimate) -> Floats:
        """[draws] RTTs in ns."""
        known = self.links.get(id(link))
        if known is None:
            known = self.links[id(link)] = (link, link_draws_ns(link, self.seed, self.draws))
        return known[1]


def measure(fleet: Fleet, cache: Cache | None = None) -> Outcome:
    """The outcome of a settled fleet; `cache` is shared between worlds whose links are the same."""
    cache = cache or Cache()
    world, workload, split = fleet.world, fleet.workload, fleet.split
    queues = [curve.queue(load) for curve, load in zip(fleet.curves, split.load, strict=True)]
    waits = [
        queue.wait_draws_ns(uniforms(f"queue/{pool.id}", cache.seed, cache.draws)) for queue, pool in zip(queues, fleet.pools, strict=True)
    ]
    decode = [
        decode_ns(pool.profile.alpha_ns, pool.profile.beta_ns, workload.output_tokens, queue.batch)
        for pool, queue in zip(fleet.pools, queues, strict=True)
    ]
    by_place: dict[int, list[Flow]] = defaultdict(list)
    for m, p in fleet.serves():
        legs = legs_of(fleet.reach, m, int(fleet.column[p]))
        relayed = fleet.reach.hop(m, int(fleet.column[p])).relay is not None
        ttft = _network_ns(fleet, cache, m, relayed, legs) + waits[p] + fleet.prefill_ns[m, p]
        by_place[m].append((p, float(split.rate[m, p]), ttft, legs))
    rates = np.array([world.demand[name] for name in fleet.reach.places])
    places = tuple(_place(fleet, m, rates[m], float(split.lost[m]), by_place[m], decode) for m in range(len(rates)) if rates[m] > 0)
    everything = [(rate, ttft, decode[p]) for found in by_place.values() for p, rate, ttft, _ in found]
    ttft_p50, ttft_p95 = _quantiles([(rate, ttft) for rate, ttft, _ in everything])
    e2e_p50, e2e_p95 = _quantiles([(rate, ttft + rest) for rate, ttft, rest in everything])
    total = float(rates.sum())
    devices, egress, push, unpriced = _bill(fleet, by_place)
    served = sum(rate for rate, _, _ in everything)
    return Outcome(
        rps=total,
        lost_share=_share(float(split.lost.sum()), total),
        miss_share=_share(sum(place.miss_share * place.rps for place in places), total),
        ttft_p50_ns=ttft_p50,
        ttft_p95_ns=ttft_p95,
        e2e_p50_ns=e2e_p50,
        e2e_p95_ns=e2e_p95,
        usd_devices=devices,
        usd_egress=egress,
        usd_push=push,
        unpriced=unpriced,
        measured_share=_share(sum(place.measured * place.rps * (1 - place.lost_share) for place in places), served),
        places=places,
        pools=tuple(_pool(fleet, p, queues[p].wait_mean_ns, queues[p].utilisation) for p in range(len(fleet.pools))),
        provider_price=split.provider_price,
        budget_price=split.budget_price,
        gap=split.gap,
    )


def _share(part: float, whole: float) -> float:
    """part / whole; what a solver's rounding leaves below a millionth is nothing."""
    ratio = part / whole if whole > 0 else 0.0
    return 0.0 if ratio < 1e-6 else min(1.0, ratio)


def _network_ns(fleet: Fleet, cache: Cache, m: int, relayed: bool, legs: Sequence[LinkEstimate]) -> Floats:
    """[draws] connect, upload, relay and network of a request from place m, ns; as routing.evaluate adds them."""
    options = fleet.options
    access = fleet.reach.enters(m)
    key = (tuple(id(leg) for leg in legs), access, fleet.workload.upload_bytes)
    if key in cache.ways and all(id(leg) in cache.links for leg in legs):
        return cache.ways[key]
    drawn = [cache.link(leg) for leg in legs]
    network = np.sum(drawn, axis=0) if drawn else np.zeros(cache.draws)
    rtt = network + (options.relay_ms * MS if relayed else 0.0)
    if access and drawn:
        connect = connect_ns(drawn[0], options.connection) + connect_ns(rtt - drawn[0], options.onward)
    else:
        connect = connect_ns(rtt, options.connection)
    rates = [leg.throughput_bps for leg in legs if leg.throughput_bps is not None]
    losses = [leg.loss_ratio for leg in legs if leg.loss_ratio is not None]
    transfer = transfer_ns(
        fleet.workload.upload_bytes,
        rtt,
        throughput_bps=min(rates, default=None),
        loss_ratio=float(1 - np.prod([1 - loss for loss in losses])) if losses else None,
    )
    found: Floats = connect + rtt + transfer
    cache.ways[key] = found
    return found


def _quantiles(weighted: Sequence[tuple[float, Floats]]) -> tuple[float | None, float | None]:
    """(p50, p95) of a mixture of equally likely draws, each set by its weight; None of nothing."""
    if not weighted:
        return None, None
    values = np.concatenate([draws for _, draws in weighted])
    weights = np.concatenate([np.full(len(draws), weight / len(draws)) for weight, draws in weighted])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    found = [float(values[order[min(len(order) - 1, int(np.searchsorted(reached, q * reached[-1] * (1 - 1e-12))))]]) for q in (0.5, 0.95)]
    return found[0], found[1]


def _place(
    fleet: Fleet,
    m: int,
    rps: float,
    lost: float,
    found: Sequence[tuple[int, float, Floats, Sequence[LinkEstimate]]],
    decode: Sequence[float],
) -> PlaceOutcome:
    workload = fleet.workload
    ttft_p50, ttft_p95 = _quantiles([(rate, ttft) for _, rate, ttft, _ in found])
    e2e_p50, e2e_p95 = _quantiles([(rate, ttft + decode[p]) for p, rate, ttft, _ in found])
    missed = lost
    for p, rate, ttft, _ in found:
        late = np.zeros(len(ttft), dtype=bool)
        if workload.ttft_budget_ns is not None:
            late |= ttft > workload.ttft_budget_ns
        if workload.e2e_budget_ns is not None:
            late |= ttft + decode[p] > workload.e2e_budget_ns
        missed += rate * float(late.mean())
    served = sum(rate for _, rate, _, _ in found)
    hops = [fleet.reach.hop(m, int(fleet.column[p])) for p, _, _, _ in found]
    measured = sum(rate for _, rate, _, legs in found if all(leg.evidence != "modelled" for leg in legs))
    return PlaceOutcome(
        site=fleet.reach.places[m],
        rps=rps,
        lost_share=_share(lost, rps),
        miss_share=_share(missed, rps),
        ttft_p50_ns=ttft_p50,
        ttft_p95_ns=ttft_p95,
        e2e_p50_ns=e2e_p50,
        e2e_p95_ns=e2e_p95,
        served=tuple(sorted(((fleet.pools[p].id, rate / rps) for p, rate, _, _ in found), key=lambda item: (-item[1], item[0]))),
        ingress=tuple(dict.fromkeys(hop.ingress for hop in hops)),
        relays=tuple(dict.fromkeys(hop.relay for hop in hops if hop.relay is not None)),
        measured=_share(measured, served),
        price=float(fleet.split.demand_price[m]),
    )


def _pool(fleet: Fleet, p: int, wait_ns: float, utilisation: float) -> PoolOutcome:
    pool, load, cap = fleet.pools[p], float(fleet.split.load[p]), fleet.curves[p].cap_rps
    down = fleet.reach.gone[fleet.reach.index[pool.site]] or pool not in fleet.world.pools
    state = "down" if down else "idle" if load <= 1e-9 * cap else "full" if load >= _FULL * cap else "ok"
    return PoolOutcome(
        id=pool.id,
        site=pool.site,
        load_rps=load,
        cap_rps=cap,
        utilisation=utilisation,
        wait_ms=wait_ns / MS,
        state=state,
        capacity_price=float(fleet.split.capacity_price[p]),
    )


def _bill(fleet: Fleet, by_place: dict[int, list[Flow]]) -> tuple[float | None, float | None, float | None, tuple[str, ...]]:
    """(devices, egress, pushes, what has no price): USD a month of the pools that stand and of the bytes that leave clouds."""
    world = fleet.world
    unpriced: list[str] = []
    devices = 0.0
    standing = [pool for p, pool in enumerate(fleet.pools) if pool in world.pools and not fleet.reach.gone[fleet.reach.index[pool.site]]]
    for pool in standing:
        price = world.price_of(pool)
        if price is None:
            unpriced.append(f"an hour of {pool.accelerator} at {pool.site}")
        else:
            devices += price * HOURS_PER_MONTH
    leaves: dict[tuple[str, EgressScope], float] = defaultdict(float)
    for found in by_place.values():
        for _, rate, _, legs in found:
            for site, scope, size in exits(legs, world.all_sites, fleet.workload):
                leaves[site, scope] += rate * size * HOURS_PER_MONTH * 3600 / GB
    egress, missing = _priced(leaves, fleet.egress)
    pushed: dict[tuple[str, EgressScope], float] = {}
    if world.push is not None and world.all_sites[world.push.origin].provider is not None:
        edges = sum(1 for pool in standing if world.all_sites[pool.site].kind == "pop")
        pushed[world.push.origin, "internet"] = world.push.model_gb * world.push.per_month * edges
    push, missing_push = _priced(pushed, fleet.egress)
    no_device = bool(unpriced)
    unpriced += [*missing, *missing_push]
    return None if no_device else devices, None if missing else egress, None if missing_push else push, tuple(dict.fromkeys(unpriced))


def _priced(leaves: dict[tuple[str, EgressScope], float], prices: EgressPrices) -> tuple[float, list[str]]:
    total, missing = 0.0, []
    for (site, scope), gb in sorted(leaves.items()):
        usd = tiered_usd(lambda at, site=site, scope=scope: prices(site, scope, at), gb)  # type: ignore[misc]
        if usd is None:
            missing.append(f"{scope} egress of {site}")
        else:
            total += usd
    return total, missing


def tiered_usd(price: Callable[[float], float | None], gb: float) -> float | None:
    """USD for a month's GB at a price that steps down with the volume; price(v) is that of the next GB after v.

    Halved until both ends of a part have one price or it is below 1 GB: exact to 1 GB for each step of falling tiers. None
    where a price is not known.
    """

    def part(low: float, high: float, at_low: float | None, at_high: float | None) -> float | None:
        if at_low is None or at_high is None:
            return None
        if at_low == at_high or high - low <= 1:
            return (high - low) * at_low
        middle = (low + high) / 2
        at_middle = price(middle)
        a, b = part(low, middle, at_low, at_middle), part(middle, high, at_middle, at_high)
        return None if a is None or b is None else a + b

    return 0.0 if gb == 0 else part(0.0, gb, price(0.0), price(gb))
