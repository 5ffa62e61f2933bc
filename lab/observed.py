"""What the fabric really did, by its own stamps: how late it delivered, and how long packets were under way. Pure.

A packet is *accepted* when the fabric reads it from the sender's interface, *due* when the model says that it arrives,
and *written* when the fabric hands it to the receiver's interface. Lateness is written - due, transit written - accepted.
What the stamps cannot see is how long a packet lay in the sender's interface before it was read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

__all__ = ["Tally", "merged", "quantile", "summary"]


class Tally:
    """Lateness and transit of delivered packets, in ns: count, sum, least, most, and a histogram.

    Bucket b of a histogram counts the values v of which v * v has b bits: 2^((b - 1) / 2) <= v < 2^(b / 2), so its bounds are
    a factor of 1.41 apart.
    """

    __slots__ = ("count", "late", "late_max", "late_min", "late_sum", "transit", "transit_max", "transit_min", "transit_sum")

    def __init__(self) -> None:
        self.count = 0
        self.late_sum = self.late_max = self.transit_sum = self.transit_max = 0
        self.late_min = self.transit_min = 1 << 62
        self.late: defaultdict[int, int] = defaultdict(int)
        self.transit: defaultdict[int, int] = defaultdict(int)

    def add(self, late_ns: int, transit_ns: int) -> None:
        """Count a delivered packet."""
        # Comparisons, because min() and max() would take four times as long for every packet.
        self.count += 1
        self.late_sum += late_ns
        self.transit_sum += transit_ns
        if late_ns < self.late_min:  # noqa: PLR1730
            self.late_min = late_ns
        if late_ns > self.late_max:  # noqa: PLR1730
            self.late_max = late_ns
        if transit_ns < self.transit_min:  # noqa: PLR1730
            self.transit_min = transit_ns
        if transit_ns > self.transit_max:  # noqa: PLR1730
            self.transit_max = transit_ns
        self.late[(late_ns * late_ns).bit_length()] += 1
        self.transit[(transit_ns * transit_ns).bit_length()] += 1


def merged(tallies: Iterable[Tally]) -> Tally:
    """The tally of all packets of several."""
    whole = Tally()
    for one in tallies:
        whole.count += one.count
        whole.late_sum += one.late_sum
        whole.transit_sum += one.transit_sum
        whole.late_min, whole.late_max = min(whole.late_min, one.late_min), max(whole.late_max, one.late_max)
        whole.transit_min, whole.transit_max = min(whole.transit_min, one.transit_min), max(whole.transit_max, one.transit_max)
        for bucket, count in one.late.items():
            whole.late[bucket] += count
        for bucket, count in one.transit.items():
            whole.transit[bucket] += count
    return whole


def quantile(histogram: Mapping[int, int], ratio: float) -> int | None:
    """The upper bound in ns of the bucket in which that share of the values is reached; None for no values.

    >>> quantile({20: 98, 22: 1, 30: 1}, 0.5), quantile({20: 98, 22: 1, 30: 1}, 0.99), quantile({}, 0.5)
    (1024, 2048, None)
    """
    wanted, seen = ratio * sum(histogram.values()), 0
    for bucket, count in sorted(histogram.items()):
        seen += count
        if seen >= wanted:
            return _upper(bucket)
    return None


def _upper(bucket: int) -> int:
    return round(2 ** (bucket / 2))


def summary(tally: Tally) -> dict[str, object]:
    """A tally ready for JSON: least, mean, most, quantiles and [upper bound in ns, count] of every bucket that has any."""
    document: dict[str, object] = {"delivered": tally.count}
    parts = (
        ("lateness", tally.late_min, tally.late_sum, tally.late_max, tally.late),
        ("transit", tally.transit_min, tally.transit_sum, tally.transit_max, tally.transit),
    )
    for name, least, total, most, histogram in parts:
        document[name] = None if not tally.count else {
            "min_ns": least,
            "mean_ns": total // tally.count,
            "max_ns": most,
            "p50_ns": min(most, quantile(histogram, 0.5) or 0),
            "p99_ns": min(most, quantile(histogram, 0.99) or 0),
            "histogram": [[_upper(bucket), count] for bucket, count in sorted(histogram.items())],
        }  # fmt: skip
    return document
