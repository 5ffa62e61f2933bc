"""What 1,000 requests cost: device time at the load, and bytes at every metered exit.

    device time  prefill + decode / batch, at the pool's price per hour; a device that decodes b requests together
                 spends a b-th of itself on each. Idle time is not charged: the figure is the marginal cost at the load.
    egress       bytes that leave a cloud region, by the price of that exit: a private link's own price where it has one (a
                 contract), else the region's list by scope and volume. The request leaves every region it is
                 forwarded by, the answer leaves the serving region and every region on its way back. What comes in is
                 free, and so are exits of PoPs (our own network).

An unknown price makes the cost unknown (None), never free. What a private link's port costs a month, used or not, is no
part of a request's price: it is stated beside it (`rent`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from records.access import MediumLink
from records.link import LinkEstimate, Medium
from records.place import Site
from records.serving import EgressScope, ServingPool, Workload
from records.units import GB, SECOND
from routing.queueing import Queue

__all__ = ["Cost", "EgressPrices", "LinkPrices", "cost_per_1k", "device_usd_per_1k", "egress_usd_per_1k", "exits", "rent_usd_per_month"]

#: (site id, scope, GB that left by the same meter this month) -> USD per GB, None where it is not known.
EgressPrices = Callable[[str, EgressScope, float], float | None]

#: What private links cost, by (site, site, medium) in either order.
LinkPrices = Mapping[tuple[str, str, Medium], MediumLink]

_NO_PRICES: LinkPrices = {}
_MONTH_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Cost:
    """USD per 1,000 requests, None where a price is missing; `unknown` names what has none.

    rent_usd_per_month  the ports of the private links crossed, whatever is sent: 0 without one, None where a price is missing
    """

    device_usd: float | None
    egress_usd: float | None
    unknown: tuple[str, ...] = ()
    rent_usd_per_month: float | None = 0.0

    @property
    def usd_per_1k(self) -> float | None:
        """Device time and egress together."""
        return None if self.device_usd is None or self.egress_usd is None else self.device_usd + self.egress_usd


def device_usd_per_1k(pool: ServingPool, prefill_ns: float, decode_ns: float, batch: float) -> float | None:
    """Device time of 1,000 requests: 1000 x (prefill + decode / batch) x price per device hour / 3600 s."""
    if pool.usd_per_hour is None:
        return None
    return 1000 * (prefill_ns + decode_ns / batch) / SECOND * pool.usd_per_hour / pool.device_count / 3600


def exits(
    legs: Sequence[LinkEstimate], sites: Mapping[str, Site], workload: Workload, own: LinkPrices = _NO_PRICES
) -> list[tuple[str, EgressScope, int, float | None]]:
    """(region, scope, bytes, the link's own USD per GB or None) of every metered exit of one request and its answer."""
    found = []
    for leg in legs:
        for here, there, size_bytes in ((leg.src, leg.dst, workload.upload_bytes), (leg.dst, leg.src, workload.download_bytes)):
            provider = sites[here].provider
            if provider is None:
                continue
            same = sites[there].provider == provider
            scope: EgressScope = "inter-region" if same else "direct-connect" if leg.medium == "direct-connect" else "internet"
            link = _own(leg, own) if scope == "direct-connect" else None
            found.append((here, scope, size_bytes, None if link is None else link.usd_per_gb))
    return found


def _own(leg: LinkEstimate, own: LinkPrices) -> MediumLink | None:
    return own.get((leg.src, leg.dst, leg.medium)) or own.get((leg.dst, leg.src, leg.medium))


def rent_usd_per_month(legs: Sequence[LinkEstimate], own: LinkPrices) -> float | None:
    """What the ports of the private links among the legs cost a month, used or not; None where one's price is not known."""
    links = [_own(leg, own) for leg in legs if leg.medium != "internet"]
    rents = [None if link is None else link.port_usd_per_month for link in links]
    known = [rent for rent in rents if rent is not None]
    return float(sum(known)) if len(known) == len(rents) else None


def egress_usd_per_1k(
    legs: Sequence[LinkEstimate],
    sites: Mapping[str, Site],
    workload: Workload,
    prices: EgressPrices,
    *,
    arrival_rps: float = 0.0,
    own: LinkPrices = _NO_PRICES,
) -> tuple[float | None, tuple[str, ...]]:
    """(USD for the bytes of 1,000 requests, exits without a price); the first tier counts when the load is unknown (0)."""
    total, unknown = 0.0, []
    for site, scope, size_bytes, own_price in exits(legs, sites, workload, own):
        price = prices(site, scope, arrival_rps * size_bytes * _MONTH_S / GB) if own_price is None else own_price
        if price is None:
            unknown.append(f"{scope} egress of {site}")
        else:
            total += 1000 * size_bytes / GB * price
    return (None if unknown else total), tuple(dict.fromkeys(unknown))


def cost_per_1k(
    legs: Sequence[LinkEstimate],
    pool: ServingPool,
    queue: Queue,
    *,
    prefill_ns: float,
    decode_ns: float,
    sites: Mapping[str, Site],
    workload: Workload,
    prices: EgressPrices,
    arrival_rps: float = 0.0,
    own: LinkPrices = _NO_PRICES,
) -> Cost:
    """The cost of 1,000 requests over these legs to this pool."""
    device = device_usd_per_1k(pool, prefill_ns, decode_ns, queue.batch)
    egress, unknown = egress_usd_per_1k(legs, sites, workload, prices, arrival_rps=arrival_rps, own=own)
    missing = (*(() if device is not None else (f"an hour of {pool.accelerator} at {pool.site}",)), *unknown)
    return Cost(device, egress, missing, rent_usd_per_month(legs, own))
