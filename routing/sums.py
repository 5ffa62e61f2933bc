"""Three ways to the quantiles of a sum of legs, each a check on the others.

replay_ns       the legs' samples of the same moment, added: keeps what legs share (an evening's load, one bad hour).
                Needs histograms per time bucket, of the same buckets, for every leg
monte_carlo_ns  independent draws of every leg's whole distribution, added
convolved       the exact distribution of a sum of independent legs, on a grid: no seed and no noise

Legs that rise together have a wider sum than independent ones: where series are at hand, replay is the truth and the
others are what is left when they are not. A sum of quantiles is none of them and is not here.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from records.histogram import Histogram, bucket_value_ns
from records.units import MS

__all__ = [
    "LEAST_SHARED_BUCKETS",
    "Distribution",
    "Series",
    "aligned",
    "convolved",
    "histogram_inverse",
    "monte_carlo_ns",
    "replay_ns",
    "shared_buckets",
]

Floats = NDArray[np.float64]

#: Samples of one leg by time bucket: start of the bucket in seconds since 1970 -> its histogram.
Series = Mapping[int, Histogram]

#: Fewer buckets in common than this say nothing of how legs move together.
LEAST_SHARED_BUCKETS = 8


def histogram_inverse(histogram: Histogram, probabilities: Floats) -> Floats:
    """The quantiles in ns of a histogram at probabilities in (0, 1), by nearest rank. Raises ValueError when it is empty."""
    if not histogram.packed:
        raise ValueError("an empty histogram has no quantiles")
    buckets, samples = np.frombuffer(histogram.packed, dtype=np.int64).reshape(-1, 2).T.astype(np.float64)
    edge = np.cumsum(samples) / samples.sum()
    values = np.array([bucket_value_ns(int(bucket)) for bucket in buckets])
    found: Floats = values[np.minimum(np.searchsorted(edge, probabilities), len(values) - 1)]
    return found


def shared_buckets(series: Sequence[Series]) -> tuple[int, ...]:
    """The time buckets in which every leg has samples, in order."""
    if not series:
        return ()
    return tuple(sorted(set.intersection(*({at for at, found in leg.items() if found.buckets} for leg in series))))


def aligned(series: Sequence[Series]) -> list[Series] | None:
    """The legs' series in time buckets wide enough for the legs to share them; None where too little was measured together.

    Buckets as they are given, else of 5 minutes, 15 or an hour, the first width at which there are LEAST_SHARED_BUCKETS
    and at least half of every leg's samples are in them: agents that measure in turn share no minute, but hours.
    """
    for width_s in (None, 300, 900, 3600):
        wide = list(series) if width_s is None else [_widened(leg, width_s) for leg in series]
        shared = set(shared_buckets(wide))
        if len(shared) >= LEAST_SHARED_BUCKETS and all(
            2 * sum(found.count for at, found in leg.items() if at in shared) >= sum(found.count for found in leg.values()) for leg in wide
        ):
            return [{at: leg[at] for at in shared} for leg in wide]
    return None


def _widened(series: Series, width_s: int) -> Series:
    counts: dict[int, list[tuple[int, int]]] = {}
    for at, found in series.items():
        counts.setdefault(at // width_s * width_s, []).extend(found.buckets)
    return {at: Histogram.from_counts(found) for at, found in counts.items()}


def replay_ns(series: Sequence[Series], names: Sequence[str], *, seed: int, draws: int) -> Floats:
    """[legs, draws] RTTs in ns: draw i of every leg is from the same time bucket, and there by the leg's own distribution.

    Every shared bucket is equally likely (a request comes at any time) and takes an equal share of the draws.
    Raises ValueError where the legs share no bucket.
    """
    shared = shared_buckets(series)
    if not shared:
        raise ValueError("the legs have no time bucket in common")
    order = np.random.default_rng([seed, zlib.crc32(b"replay")]).permutation(draws)
    moment = np.empty(draws, dtype=np.intp)
    moment[order] = np.arange(draws) * len(shared) // draws
    count = np.bincount(moment, minlength=len(shared))
    first = np.cumsum(count) - count
    found = np.empty((len(series), draws))
    for row, (leg, name) in enumerate(zip(series, names, strict=True)):
        # The draws of one moment take equal slices of the leg's distribution there, in an order of the leg's own.
        mixed = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(draws)
        by_moment = np.lexsort((mixed, moment))
        place = np.empty(draws, dtype=np.intp)
        place[by_moment] = np.arange(draws)
        probability = (place - first[moment] + 0.5) / count[moment]
        edge, values = _edges([leg[at] for at in shared])
        found[row] = values[np.searchsorted(edge, moment + probability)]
    return found


def _edges(histograms: Sequence[Histogram]) -> tuple[Floats, Floats]:
    """(edges, values in ns): a probability p of histogram i is at the first edge that is i + p or more."""
    edges, values = [], []
    for i, histogram in enumerate(histograms):
        seen, total = 0, histogram.count
        for bucket, count in histogram.buckets:
            seen += count
            edges.append(i + seen / total)
            values.append(bucket_value_ns(bucket))
    return np.array(edges), np.array(values)


def monte_carlo_ns(legs: Sequence[Histogram], *, seed: int, draws: int) -> Floats:
    """[draws] sums in ns of independent stratified draws of every leg."""
    total = np.zeros(draws)
    for number, leg in enumerate(legs):
        rng = np.random.default_rng([seed, number])
        total += histogram_inverse(leg, (rng.permutation(draws) + 0.5) / draws)
    return total


@dataclass(frozen=True, slots=True)
class Distribution:
    """Probability mass on a grid: mass[i] stands at i x step_ns."""

    step_ns: float
    mass: Floats

    def quantile_ns(self, q: float) -> float:
        """The least grid point with at least q of the mass at or below it, in ns. Raises ValueError outside 0..1."""
        if not 0 <= q <= 1:
            raise ValueError(f"quantile {q} is outside 0..1")
        reached = np.cumsum(self.mass)
        return min(int(np.searchsorted(reached, q - 1e-12)), len(self.mass) - 1) * self.step_ns

    @property
    def mean_ns(self) -> float:
        """The mean in ns."""
        return float(self.mass @ np.arange(len(self.mass)) * self.step_ns)


def convolved(legs: Sequence[Histogram], *, step_ns: float = 0.1 * MS) -> Distribution:
    """The distribution of the sum of independent legs, by FFT on a grid of step_ns.

    Each bucket's mass is split between the two grid points around its value so that its mean is kept: the mean of
    the sum is exact, a quantile is within one step for each leg. Raises ValueError for no leg or an empty one.
    """
    if not legs or not all(leg.buckets for leg in legs):
        raise ValueError("a sum needs legs, and every leg samples")
    lines = [_on_grid(leg, step_ns) for leg in legs]
    length = sum(len(line) for line in lines) - len(lines) + 1
    size = 1 << math.ceil(math.log2(max(2, length)))
    product = np.prod([np.fft.rfft(line, size) for line in lines], axis=0)
    mass = np.clip(np.fft.irfft(product, size)[:length], 0.0, None)  # the transform's noise of 1e-17 may be negative
    return Distribution(step_ns, mass / mass.sum())


def _on_grid(leg: Histogram, step_ns: float) -> Floats:
    values = np.array([bucket_value_ns(bucket) for bucket, _ in leg.buckets]) / step_ns
    share = np.array([count for _, count in leg.buckets], dtype=np.float64) / leg.count
    low = np.floor(values).astype(np.intp)
    line = np.zeros(int(low.max()) + 2)
    np.add.at(line, low, share * (1 - (values - low)))
    np.add.at(line, low + 1, share * (values - low))
    return line
