"""Quantiles of sums, never sums of quantiles: seeded draws of every part, added request by request.

A 99th percentile of a sum is far below the sum of the parts' 99th percentiles (a four-part example gives +23 %). So
each leg is drawn from what is known of it, the draws are added, and quantiles are read from the sums:

- a histogram (measured samples): its buckets, each by its share;
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
from scipy.special import ndtri

from records.histogram import bucket_value_ns
from records.link import LinkEstimate

__all__ = [
    "DRAWS",
    "Interval",
    "Quantiles",
    "effective_samples",
    "inverse",
    "link_draws_ns",
    "quantile_interval",
    "quantiles",
    "uniforms",
]

Floats = NDArray[np.float64]

DRAWS = 4096
_Z = 1.96  # two-sided 95 %


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
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = (rng.permutation(draws) + 0.5) / draws
    values.flags.writeable = False
    return values


def inverse(link: LinkEstimate, probabilities: Floats) -> Floats:
    """The link's RTT in ns at probabilities in (0, 1), by the best description of it there is (see the module).

    Raises ValueError for a link without any RTT.
    """
    if link.histogram is not None and link.histogram.count:
        buckets, samples = np.array(link.histogram.buckets, dtype=np.float64).T
        edge = np.cumsum(samples) / samples.sum()
        values = np.array([bucket_value_ns(int(bucket)) for bucket in buckets])
        return values[np.minimum(np.searchsorted(edge, probabilities), len(values) - 1)]
    known = [(0.0, link.rtt_min_ns), (0.5, link.rtt_p50_ns), (0.95, link.rtt_p95_ns), (0.99, link.rtt_p99_ns)]
    points = [(q, float(value)) for q, value in known if value is not None]
    if not points:
        raise ValueError(f"link {link.src} -> {link.dst} has no RTT to draw from")
    if link.evidence == "modelled" and link.rtt_p50_ns and link.rtt_p95_ns and link.rtt_min_ns is None:
        sigma = math.log(link.rtt_p95_ns / link.rtt_p50_ns) / float(ndtri(0.95))
        drawn = link.rtt_p50_ns * np.exp(sigma * ndtri(probabilities))
        return np.asarray(np.maximum(drawn, link.fibre_floor_ns or 0.0), dtype=np.float64)
    at, rtt_ns = np.array(points).T
    # Sources round their figures: a p95 printed below the p50 is raised to it, so that the inverse never falls.
    return np.interp(probabilities, at, np.maximum.accumulate(rtt_ns))


def link_draws_ns(link: LinkEstimate, seed: int, draws: int = DRAWS) -> Floats:
    """[draws] RTTs of a link in ns; the same for the same link, seed and number, whatever else is drawn."""
    return inverse(link, uniforms(f"{link.src}>{link.dst}/{link.medium}", seed, draws))


def quantiles(values_ns: Floats) -> Quantiles:
    """p50, p95 and p99 of draws by nearest rank."""
    p50, p95, p99 = np.quantile(values_ns, (0.5, 0.95, 0.99), method="inverted_cdf")
    return Quantiles(float(p50), float(p95), float(p99))


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
