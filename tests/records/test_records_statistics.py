"""Statistics against arithmetic done by hand from the RFCs, and against the standard library."""

from __future__ import annotations

import math
import statistics as stdlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.histogram import GAMMA, RELATIVE_ERROR, Histogram, bucket_of, bucket_value_ns
from records.statistics import ipdv_ns, jitter_rfc3550_ns, loss_ratio, percentile_ns

MS = 1_000_000
rtts = st.lists(st.integers(1, 10**11), min_size=1, max_size=200)


def test_jitter_of_two_rtts_is_a_sixteenth_of_their_step() -> None:
    """RTTs 10 and 101 ms: D = 91 ms, J = 91/16 = 5.6875 ms, not 99.41 (unscaled from 0) and not 91."""
    assert jitter_rfc3550_ns([10 * MS, 101 * MS]) == pytest.approx(5.6875 * MS)


def test_jitter_by_hand_over_four() -> None:
    """RTTs 10, 12, 11, 11: J = 2/16 = .125; += (1-.125)/16 = .1796875; += (0-.1796875)/16 = .16845703125."""
    assert jitter_rfc3550_ns([10 * MS, 12 * MS, 11 * MS, 11 * MS]) == pytest.approx(0.16845703125 * MS)


def test_jitter_passes_over_losses() -> None:
    """The receiver of RFC 3550 sees only what arrives: a lost packet neither resets nor feeds the filter."""
    assert jitter_rfc3550_ns([10 * MS, None, 12 * MS]) == jitter_rfc3550_ns([10 * MS, 12 * MS])


@pytest.mark.parametrize("few", [[], [5], [None, 5], [None, None]])
def test_jitter_of_fewer_than_two_is_unknown(few: list[int | None]) -> None:
    """One arrival has no difference to another; unknown is None, not 0."""
    assert jitter_rfc3550_ns(few) is None


def test_ipdv_is_undefined_beside_a_loss() -> None:
    """RFC 3393: the difference exists only where both neighbours arrived, with its sign."""
    assert ipdv_ns([10, 12, None, 11, 10]) == [2, None, None, -1]


def test_loss_of_nothing_sent_is_unknown() -> None:
    """Lost / sent; nothing sent says nothing about loss."""
    assert loss_ratio(0, 0) is None
    assert loss_ratio(8, 2) == 0.25


@given(rtts, st.floats(0.01, 1))
def test_percentile_is_the_least_value_with_that_mass_at_or_below(values: list[int], q: float) -> None:
    """RFC 2330: at least q of the sample is at or below it, and less than q is below it."""
    p = percentile_ns(values, q)
    assert p is not None
    assert p in values
    assert sum(v <= p for v in values) >= q * len(values)
    assert sum(v < p for v in values) < q * len(values)


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=199).filter(lambda v: len(v) % 2 == 1))
def test_percentile_of_an_odd_sample_is_its_median(values: list[int]) -> None:
    """At one half, on an odd count, it is the standard library's median."""
    assert percentile_ns(values, 0.5) == stdlib.median(values)


@given(st.integers(1, 10**12))
def test_bucket_holds_its_value(value: int) -> None:
    """A value lies in (GAMMA^(i-1), GAMMA^i], and what its bucket stands for is within the stated error."""
    bucket = bucket_of(value)
    assert GAMMA ** (bucket - 1) * (1 - 1e-9) <= value <= GAMMA**bucket * (1 + 1e-9)
    assert abs(bucket_value_ns(bucket) - value) / value <= RELATIVE_ERROR * (1 + 1e-6)


@given(rtts, st.floats(0, 1))
def test_histogram_quantile_is_within_the_stated_error(values: list[int], q: float) -> None:
    """Any quantile from the buckets is within 0.99 % of the exact nearest-rank quantile."""
    exact = percentile_ns(values, q)
    assert exact is not None
    approximate = Histogram.of(values).quantile_ns(q)
    assert approximate is not None
    assert math.isclose(approximate, exact, rel_tol=RELATIVE_ERROR * 1.0001)


@given(rtts, rtts)
def test_histograms_merge_by_addition(a: list[int], b: list[int]) -> None:
    """The histogram of the union is the sum of the histograms: nothing is averaged."""
    assert Histogram.of(a) + Histogram.of(b) == Histogram.of(a + b)


def test_empty_histogram_has_no_quantile() -> None:
    """Nothing counted, nothing known."""
    assert Histogram().quantile_ns(0.5) is None
