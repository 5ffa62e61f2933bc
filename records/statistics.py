"""Statistics of delay and loss, each with its definition; unknown is None, never 0.

Three well-known tools publish three different numbers under the word "jitter"; here it is the filter of RFC 3550
appendix A.8 and nothing else, and the difference of neighbours has its own name (IPDV, RFC 3393).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

__all__ = ["ipdv_ns", "jitter_rfc3550_ns", "loss_ratio", "percentile_ns", "responsiveness_rpm"]


def loss_ratio(sent: int, lost: int) -> float | None:
    """Lost / sent, 0 to 1; None when nothing was sent (RFC 7680: undefined for an empty sample).

    >>> loss_ratio(10, 1), loss_ratio(0, 0)
    (0.1, None)
    """
    return None if sent == 0 else lost / sent


def percentile_ns(values_ns: Sequence[int], q: float) -> int | None:
    """The q-quantile by nearest rank (RFC 2330 section 11.3: the empirical distribution's inverse), q in 0..1.

    None when there are no values.

    >>> percentile_ns([4, 1, 3, 2], 0.5), percentile_ns([], 0.5)
    (2, None)
    """
    if not values_ns:
        return None
    ordered = sorted(values_ns)
    return ordered[max(1, math.ceil(q * len(ordered))) - 1]


def ipdv_ns(rtts_ns: Sequence[int | None]) -> list[int | None]:
    """Differences of consecutive round-trip times, RFC 3393: None where either neighbour was lost.

    >>> ipdv_ns([10, 12, None, 11, 10])
    [2, None, None, -1]
    """
    return [None if a is None or b is None else b - a for a, b in itertools.pairwise(rtts_ns)]


def jitter_rfc3550_ns(rtts_ns: Sequence[int | None]) -> float | None:
    """Round-trip jitter by the filter of RFC 3550 A.8 in ns: J += (|D| - J) / 16 over received neighbours.

    J starts at 0 and takes its first step at the first pair of consecutive *received* packets; a lost packet is
    passed over, as the RFC's receiver does, which sees only packets that arrive. The value is unscaled. None
    when fewer than two packets arrived.

    >>> jitter_rfc3550_ns([10_000_000, 101_000_000])
    5687500.0
    """
    received = [rtt for rtt in rtts_ns if rtt is not None]
    if len(received) < 2:
        return None
    jitter = 0.0
    for before, after in itertools.pairwise(received):
        jitter += (abs(after - before) - jitter) / 16
    return jitter


def responsiveness_rpm(loaded_rtt_ns: int | None) -> int | None:
    """Round trips a minute under load.

    >>> responsiveness_rpm(50_000_000)
    1200
    """
    return None if not loaded_rtt_ns else round(60e9 / loaded_rtt_ns)
