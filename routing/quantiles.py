"""Quantiles of sums, never sums of quantiles: seeded draws of every part, added request by request.

A 99th percentile of a sum is far below the sum of the parts' 99th percentiles (a four-part example gives +23 %). So
each leg is drawn from what is known of it, the draws are added, and quantiles are read from the sums:

- a histogram (measured samples): its buckets, each by its share, and within them what is known exactly (least, p50, p95, p99);
- a modelled link: its lognormal, cut off at the fibre floor;
- known quantiles only (an imported matrix): straight lines between the known points (least at 0, p50, p95, p99), flat
  outside them, since nothing is known there;
- one number: a constant.

Draws are stratified (one per 1/N slice of probability, in an order seeded by the link's name), so that a single leg's
quantiles come out exact and two routes over one leg share its draws. Legs are taken as independent of each other.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from records.histogram import bucket_value_ns
from records.link import LinkEstimate

__all__ = [
    "DRAWS",
    "Interval",
    "Quantiles",
    "effective_samples",
    "inverse",
    "least_draw_ns",
    "link_draws_ns",
    "nearest_rank",
    "normal_inverse",
    "quantile_interval",
    "quantiles",
    "uniforms",
]

Floats = NDArray[np.float64]

DRAWS = 2048
_Z = 1.96  # two-sided 95 %
_Z95 = 1.6448536269514722  # the standard normal's 95th percentile


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Median, 95th and 99th percentile of a time, in ns."""

    p50_ns: float
    p95_ns: float
    p99_ns: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A range a quantile lies in, in ns, at 95 % confidence."""

    low_ns: float
    high_ns: float

    def holds(self, value_ns: float) -> bool:
        """Whether a value lies in the range, its ends included."""
        return self.low_ns <= value_ns <= self.high_ns


@lru_cache(maxsize=2048)
def uniforms(name: str, seed: int, draws: int = DRAWS) -> Floats:
    """[draws] the midpoints of `draws` equal slices of (0, 1), in an order fixed by the name and the seed. Read-only."""
    values = _midpoints(draws)[_order(name, seed, draws)]
    values.flags.writeable = False
    return values


@lru_cache(maxsize=2048)
def _order(name: str, seed: int, draws: int) -> NDArray[np.intp]:
    """[draws] which slice each draw comes from."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(draws)


@lru_cache(maxsize=4)
def _midpoints(draws: int) -> Floats:
    """[draws] the midpoints of `draws` equal slices of (0, 1), rising. Read-only."""
    values = (np.arange(draws) + 0.5) / draws
    values.flags.writeable = False
    return values


@lru_cache(maxsize=4)
def _normal_midpoints(draws: int) -> Floats:
    """[draws] the standard normal's values at those midpoints."""
    return normal_inverse(_midpoints(draws))


def normal_inverse(probabilities: Floats) -> Floats:
    """The standard normal's inverse distribution function at probabilities in (0, 1), to 1e-15 relative.

    Wichura's rational approximations (Algorithm AS 241, PPND16, Applied Statistics 37, 1988): SciPy's costs a fifth of
    a second to import, which is most of what a route asked from a command line may take.
    """
    q = probabilities - 0.5
    near = np.abs(q) <= 0.425
    r = 0.180625 - q * q
    middle = q * np.polyval(_MIDDLE[0], r) / np.polyval(_MIDDLE[1], r)
    t = np.sqrt(-np.log(np.minimum(probabilities, 1 - probabilities)))
    tail = np.where(
        t <= 5,
        np.polyval(_TAIL[0], t - 1.6) / np.polyval(_TAIL[1], t - 1.6),
        np.polyval(_FAR[0], t - 5) / np.polyval(_FAR[1], t - 5),
    )
    return np.where(near, middle, np.copysign(tail, q))


# Coefficients of AS 241 as published, highest power first: numerator and denominator of |p - 1/2| <= 0.425, of the tail, of the far tail.
_MIDDLE = (
    (
        *(2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457),
        *(13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    ),
    (
        *(5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867),
        *(5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
    ),
)
_TAIL = (
    (
        *(7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258),
        *(3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    ),
    (
        *(1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459),
        *(0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
    ),
)
_FAR = (
    (
        *(2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093),
        *(0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
    ),
    (
        *(2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4),
        *(0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0),
    ),
)


def inverse(link: LinkEstimate, probabilities: Floats) -> Floats:
    """The link's RTT in ns at probabilities in (0, 1), by the best description of it there is (see the module).

    Raises ValueError for a link without any RTT.
    """
    if link.histogram is not None and link.histogram.count:
        buckets, samples = np.frombuffer(link.histogram.packed, dtype=np.int64).reshape(-1, 2).T.astype(np.float64)
        edge = np.cumsum(samples) / samples.sum()
        values = np.array([bucket_value_ns(int(bucket)) for bucket in buckets])
        return values[np.minimum(np.searchsorted(edge, probabilities), len(values) - 1)]
    known = [(0.0, link.rtt_min_ns), (0.5, link.rtt_p50_ns), (0.95, link.rtt_p95_ns), (0.99, link.rtt_p99_ns)]
    points = [(q, float(value)) for q, value in known if value is not None]
    if not points:
        raise ValueError(f"link {link.src} -> {link.dst} has no RTT to draw from")
    if link.evidence == "modelled" and link.rtt_p50_ns and link.rtt_p95_ns and link.rtt_min_ns is None:
        sigma = math.log(link.rtt_p95_ns / link.rtt_p50_ns) / _Z95
        sliced = probabilities is _midpoints(len(probabilities))  # as every link is drawn: the normal's values are known
        drawn = link.rtt_p50_ns * np.exp(sigma * (_normal_midpoints(len(probabilities)) if sliced else normal_inverse(probabilities)))
        return np.asarray(np.maximum(drawn, link.fibre_floor_ns or 0.0), dtype=np.float64)
    at, rtt_ns = np.array(points).T
    # Sources round their figures: a p95 printed below the p50 is raised to it, so that the inverse never falls.
    return np.interp(probabilities, at, np.maximum.accumulate(rtt_ns))


def link_draws_ns(link: LinkEstimate, seed: int, draws: int = DRAWS) -> Floats:
    """[draws] RTTs of a link in ns; the same for the same link, seed and number, whatever else is drawn."""
    rising = inverse(link, _midpoints(draws))
    if link.histogram is not None and link.histogram.count:
        # A bucket is 2 % wide: without this a link's median could lie outside of all its samples.
        for rank, value in _known(link, draws):
            np.minimum(rising[: rank + 1], value, out=rising[: rank + 1])
            np.maximum(rising[rank:], value, out=rising[rank:])
    return rising[_order(f"{link.src}>{link.dst}/{link.medium}", seed, draws)]


def _known(link: LinkEstimate, draws: int) -> list[tuple[int, float]]:
    """(rank among so many draws, RTT in ns) of what is known exactly of a measured link, both rising."""
    figures = ((0.0, link.rtt_min_ns), (0.5, link.rtt_p50_ns), (0.95, link.rtt_p95_ns), (0.99, link.rtt_p99_ns))
    found, least = [], 0.0
    for q, value in figures:
        if value is not None:
            least = max(least, float(value))
            found.append((nearest_rank(q, draws), least))
    return found


def least_draw_ns(link: LinkEstimate, rank: int, draws: int = DRAWS) -> float:
    """At most `rank` of a link's draws (link_draws_ns) are below this, ns: its draw of that rank, without making the others."""
    probability = (rank + 0.5) / draws
    if link.histogram is not None and link.histogram.count:
        seen, needed = 0, probability * link.histogram.count * (1 - 1e-12)
        for bucket, count in link.histogram.buckets:
            seen += count
            if seen >= needed:
                value = bucket_value_ns(bucket)
                for at, exact in _known(link, draws):
                    value = exact if at == rank else max(value, exact) if at < rank else min(value, exact)
                return value
    if link.evidence == "modelled" and link.rtt_p50_ns and link.rtt_p95_ns and link.rtt_min_ns is None:
        sigma = math.log(link.rtt_p95_ns / link.rtt_p50_ns) / _Z95
        drawn = link.rtt_p50_ns * math.exp(sigma * float(_normal_midpoints(draws)[rank]))
        return max(drawn, link.fibre_floor_ns or 0.0) * (1 - 1e-12)
    below_q, below = 0.0, 0.0
    for q, known in ((0.0, link.rtt_min_ns), (0.5, link.rtt_p50_ns), (0.95, link.rtt_p95_ns), (0.99, link.rtt_p99_ns)):
        if known is None:
            continue
        value = max(below, float(known))
        if q >= probability:
            share = (probability - below_q) / (q - below_q) if below_q or link.rtt_min_ns is not None else 1.0  # flat before the first
            return (below + share * (value - below)) * (1 - 1e-12)
        below_q, below = q, value
    return below


def quantiles(values_ns: Floats) -> Quantiles:
    """p50, p95 and p99 of draws by nearest rank."""
    ranks = [nearest_rank(q, len(values_ns)) for q in (0.5, 0.95, 0.99)]
    p50, p95, p99 = np.partition(values_ns, ranks)[ranks]  # a third of the time of np.quantile
    return Quantiles(float(p50), float(p95), float(p99))


def nearest_rank(q: float, count: int) -> int:
    """Index, among `count` values in order, of the least one with at least q of them at or below it."""
    return max(0, math.ceil(q * count - 1e-9) - 1)


def quantile_interval(values_ns: Floats, q: float, samples: int) -> Interval:
    """Where the q-quantile of the truth lies when `samples` samples stand behind the draws.

    The distribution-free interval from order statistics: the quantiles at q +- 1.96 sqrt(q (1 - q) / samples), kept
    within 0.025..0.975 (David and Nagaraja, Order Statistics, 7.1).
    """
    reach = _Z * math.sqrt(q * (1 - q) / max(1, samples))
    low, high = np.quantile(values_ns, (max(0.025, q - reach), min(0.975, q + reach)), method="inverted_cdf")
    return Interval(float(low), float(high))


def effective_samples(links: Sequence[LinkEstimate]) -> int | None:
    """How many samples stand behind a sum of legs: the least known count; 1 when a leg is modelled; None when unknown."""
    if any(link.evidence == "modelled" for link in links):
        return 1
    known = [link.sample_count for link in links if link.sample_count is not None]
    return min(known, default=None)
