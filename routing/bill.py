"""The month's bill of a settled fleet: devices that stand, what leaves sites, what is pushed to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from records.link import LinkEstimate
from records.serving import EgressScope
from records.units import GB
from routing.cost import EgressPrices, exits
from routing.fleet import Fleet

__all__ = ["Bill", "monthly_bill", "tiered_usd"]

#: A month is 30 days, as in routing.cost.
HOURS_PER_MONTH = 720


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """USD a month; None where a part of it has no price, which `unpriced` names. `egress_known` is as much of egress as has one."""

    devices: float | None
    egress: float | None
    egress_known: float
    push: float | None
    unpriced: tuple[str, ...]


def monthly_bill(fleet: Fleet, flows: Iterable[tuple[float, Sequence[LinkEstimate]]]) -> Bill:
    """The bill of the pools that stand and of what the flows (requests a second, legs) and the pushes send."""
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
    contracted = 0.0
    for rate, legs in flows:
        for site, scope, size, own in exits(legs, world.all_sites, fleet.workload, world.stock.link_prices):
            gb = rate * size * HOURS_PER_MONTH * 3600 / GB
            if own is None:
                leaves[site, scope] += gb
            else:
                contracted += gb * own
    egress, missing = _priced(leaves, fleet.egress)
    egress += contracted
    pushed: dict[tuple[str, EgressScope], float] = {}
    if world.push is not None and world.all_sites[world.push.origin].provider is not None:
        edges = sum(1 for pool in standing if world.all_sites[pool.site].kind == "pop")
        pushed[world.push.origin, "internet"] = world.push.model_gb * world.push.per_month * edges
    push, missing_push = _priced(pushed, fleet.egress)
    return Bill(
        devices=None if unpriced else devices,
        egress=None if missing else egress,
        egress_known=egress,
        push=None if missing_push else push,
        unpriced=tuple(dict.fromkeys([*unpriced, *missing, *missing_push])),
    )


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
