"""Log-bucket histograms that merge by addition, so that a percentile over any window is the percentile of the
summed buckets and never an average of percentiles (the idea of DDSketch: Masson, Rim, Lee, VLDB 2019).

Bucket i holds the values x with GAMMA^(i-1) < x <= GAMMA^i and stands for 2 GAMMA^i / (GAMMA + 1), so the
relative error of any quantile is at most (GAMMA - 1) / (GAMMA + 1) = 0.99 %. Values are positive integers of
ns; 0 ns cannot be measured and is counted with 1 ns.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

__all__ = ["GAMMA", "RELATIVE_ERROR", "Histogram", "bucket_of", "bucket_value_ns"]

GAMMA = 1.02
RELATIVE_ERROR = (GAMMA - 1) / (GAMMA + 1)
_LOG_GAMMA = math.log(GAMMA)


def bucket_of(value_ns: float) -> int:
    """Index of the bucket that holds a value in ns.

    >>> bucket_of(1), bucket_of(1_000_000)
    (0, 698)
    """
    return math.ceil(math.log(value_ns) / _LOG_GAMMA) if value_ns > 1 else 0


def bucket_value_ns(bucket: int) -> float:
    """The value in ns that a bucket stands for: within RELATIVE_ERROR of everything in it."""
    return float(2 * GAMMA**bucket / (GAMMA + 1))


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bucket, sorted by bucket, no empty buckets.

    packed  bucket and count in turns, each 8 bytes as the machine has them: a fleet has a hundred thousand of these with dozens of
            buckets each, and as pairs of Python's they take six times the memory

    >>> h = Histogram.of([10_000_000] * 99 + [80_000_000])
    >>> h.count, round(h.quantile_ns(0.5) / 1e6), round(h.quantile_ns(1.0) / 1e6)
    (100, 10, 79)
    """

    packed: bytes = b""

    @classmethod
    def listed(cls, buckets: Iterable[tuple[int, int]]) -> Histogram:
        """Of (bucket, count) pairs that come in order, once each, without empty ones."""
        return cls(array("q", chain.from_iterable(buckets)).tobytes())

    def __repr__(self) -> str:
        return f"Histogram.listed({self.buckets})"

    @property
    def buckets(self) -> tuple[tuple[int, int], ...]:
        """(bucket, count) pairs."""
        flat = memoryview(self.packed).cast("q").tolist()
        return tuple(zip(flat[::2], flat[1::2], strict=True))

    @classmethod
    def of(cls, values_ns: Iterable[int | float]) -> Histogram:
        """The histogram of values in ns."""
        return cls.from_counts(Counter(bucket_of(value) for value in values_ns).items())

    @classmethod
    def from_counts(cls, counts: Iterable[tuple[int, int]]) -> Histogram:
        """From (bucket, count) pairs in any order; equal buckets are added, empty ones dropped."""
        total: Counter[int] = Counter()
        for bucket, count in counts:
            total[bucket] += count
        return cls.listed(sorted((b, n) for b, n in total.items() if n > 0))

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(memoryview(self.packed).cast("q")[1::2])

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram.from_counts((*self.buckets, *other.buckets))

    def quantile_ns(self, q: float) -> float | None:
        """The q-quantile in ns by nearest rank (the smallest value with at least q of the mass at or below it).

        None when the histogram is empty. Raises ValueError when q is outside 0..1.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"quantile {q} is outside 0..1")
        rank = max(1, math.ceil(q * self.count))
        seen = 0
        for bucket, n in self.buckets:
            seen += n
            if seen >= rank:
                return bucket_value_ns(bucket)
        return None
