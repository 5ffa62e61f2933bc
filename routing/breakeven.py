"""Where the answer flips between two places that could serve: in output tokens, payload and price.

An edge GPU is near and slow, a cloud's is far and fast. Each arm is a line: the time to its first token, the time of
each token after it, and what 1,000 requests cost. The break-even is where the two lines cross; None is an answer too:
one of the two is better throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from records.units import GB

__all__ = ["Arm", "BreakEven", "break_even", "payload_break_even_bytes", "price_break_even", "token_break_even"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One of the two ways to serve a request.

    ttft_ns         median time to first token; base_ns is that without the transfer of the request
    tpot_ns         time per output token after the first, at the load
    transfer_ns     bytes of the request -> what they take beyond the one-way delay, ns; does not fall with the size
    device_usd      USD per 1,000 requests of device time, None where the price is not known; in proportion to the hourly price
    other_usd       USD per 1,000 requests of everything else (egress), None where not known
    """

    name: str
    ttft_ns: float
    base_ns: float
    tpot_ns: float
    transfer_ns: Callable[[int], float]
    device_usd: float | None = None
    usd_per_hour: float | None = None
    other_usd: float | None = None

    @property
    def usd_per_1k(self) -> float | None:
        """USD per 1,000 requests; None where a price is missing."""
        return None if self.device_usd is None or self.other_usd is None else self.device_usd + self.other_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """Who wins the request as it is, and where that changes; None where it does not.

    output_tokens     from this many output tokens on the other one has the shorter E2E
    payload_bytes     from this size of the request on the other one has the shorter TTFT
    usd_per_hour      the hourly price of near's pool at which both cost the same
    usd_per_gb        the price of a GB that leaves the far pool at which both cost the same
    """

    near: str
    far: str
    ttft_winner: str
    e2e_winner: str
    cost_winner: str | None
    output_tokens: float | None
    payload_bytes: int | None
    usd_per_hour: float | None
    usd_per_gb: float | None


def token_break_even(near: Arm, far: Arm) -> float | None:
    """Output tokens at which both end together: n = 1 + (TTFT_far - TTFT_near) / (TPOT_near - TPOT_far).

    None when no n >= 1 does: the one that is sooner with its first token is no slower with the others.

    >>> zero = lambda size: 0.0
    >>> edge = Arm(name="L40S at 5 ms", ttft_ns=75e6, base_ns=75e6, tpot_ns=22e6, transfer_ns=zero)
    >>> cloud = Arm(name="H100 at 100 ms", ttft_ns=122e6, base_ns=122e6, tpot_ns=6.2e6, transfer_ns=zero)
    >>> round(token_break_even(edge, cloud), 2)
    3.97
    """
    gain_ns, loss_ns = far.ttft_ns - near.ttft_ns, near.tpot_ns - far.tpot_ns
    if gain_ns == 0:
        return 1.0
    return 1 + gain_ns / loss_ns if loss_ns != 0 and gain_ns / loss_ns > 0 else None


def payload_break_even_bytes(near: Arm, far: Arm, *, most_bytes: int = 10**11) -> int | None:
    """The least request size at which the order of the two TTFTs is another than for an empty request; None up to most_bytes.

    By doubling, then bisection: the first change of order that doubling comes across.
    """

    def sign(size: int) -> int:
        difference = near.base_ns + near.transfer_ns(size) - far.base_ns - far.transfer_ns(size)
        return (difference > 0) - (difference < 0)

    start = sign(0)
    high = 1024
    while sign(high) == start:
        high *= 2
        if high > most_bytes:
            return None
    low = high // 2 if high > 1024 else 0
    while high - low > max(1, high >> 12):  # to a part in four thousand: models are not finer
        middle = (low + high) // 2
        low, high = (middle, high) if sign(middle) == start else (low, middle)
    return high


def price_break_even(near: Arm, far: Arm) -> float | None:
    """The hourly price of near's pool at which 1,000 requests cost the same on both; None where a price is missing or none does."""
    if near.device_usd is None or near.usd_per_hour is None or near.other_usd is None or far.usd_per_1k is None or not near.device_usd:
        return None
    price = (far.usd_per_1k - near.other_usd) / near.device_usd * near.usd_per_hour
    return price if price > 0 else None


def break_even(near: Arm, far: Arm, *, output_tokens: int, far_egress_bytes: int = 0) -> BreakEven:
    """Everything above for two arms of a request; `far_egress_bytes` is what one request sends out of the far one at a price."""
    near_e2e_ns, far_e2e_ns = (arm.ttft_ns + max(0, output_tokens - 1) * arm.tpot_ns for arm in (near, far))
    per_gb = None
    if far_egress_bytes > 0 and near.usd_per_1k is not None and far.device_usd is not None:
        price = (near.usd_per_1k - far.device_usd) / (1000 * far_egress_bytes / GB)
        per_gb = price if price > 0 else None
    costs = (near.usd_per_1k, far.usd_per_1k)
    cheaper = (
        None if costs[0] is None or costs[1] is None or math.isclose(costs[0], costs[1]) else near.name if costs[0] < costs[1] else far.name
    )
    return BreakEven(
        near=near.name,
        far=far.name,
        ttft_winner=near.name if near.ttft_ns <= far.ttft_ns else far.name,
        e2e_winner=near.name if near_e2e_ns <= far_e2e_ns else far.name,
        cost_winner=cheaper,
        output_tokens=token_break_even(near, far),
        payload_bytes=payload_break_even_bytes(near, far),
        usd_per_hour=price_break_even(near, far),
        usd_per_gb=per_gb,
    )
