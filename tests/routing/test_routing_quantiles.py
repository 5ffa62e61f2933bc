"""Quantiles of sums: against exact convolution, never the sum of quantiles; ties by stated intervals."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import link

from records.histogram import RELATIVE_ERROR, Histogram, bucket_value_ns
from records.units import MS
from routing.media import quantile_ns
from routing.modelled import INFLATION_P50, INFLATION_P95, MODEL_LEAST_RTT_NS, links_between, model_link
from routing.quantiles import (
    DRAWS,
    effective_samples,
    inverse,
    least_draw_ns,
    link_draws_ns,
    nearest_rank,
    quantile_interval,
    quantiles,
)

QS = (0.5, 0.95, 0.99)


def exact_quantiles(histograms):
    """Quantiles of the sum of independent buckets by full convolution, every combination with its probability."""
    sums = {0.0: 1.0}
    for histogram in histograms:
        sums_next: dict[float, float] = {}
        for (total, p), (bucket, n) in itertools.product(sums.items(), histogram.buckets):
            value = total + bucket_value_ns(bucket)
            sums_next[value] = sums_next.get(value, 0.0) + p * n / histogram.count
        sums = sums_next
    values = sorted(sums)
    edges = np.cumsum([sums[value] for value in values])
    return [values[min(int(np.searchsorted(edges, q - 1e-12)), len(values) - 1)] for q in QS], values, edges


def test_one_leg_keeps_its_own_quantiles():
    """Stratified draws give a single histogram's quantiles back exactly."""
    histogram = Histogram.of([10 * MS] * 940 + [50 * MS] * 45 + [200 * MS] * 15)
    found = quantiles(link_draws_ns(link("a", "b", histogram=histogram), seed=5))
    assert [found.p50_ns, found.p95_ns, found.p99_ns] == [histogram.quantile_ns(q) for q in QS]


def test_a_sum_of_four_parts_is_the_exact_convolution_and_not_the_sum_of_quantiles():
    """Within 2 % of probability of the exact one, where the sum of four p99 is far above."""
    rng = np.random.default_rng(11)
    histograms = [Histogram.of(rng.lognormal(math.log(20 * MS), 0.5, 60)) for _ in range(4)]
    legs = [link(f"s{i}", "t", histogram=h, sample_count=h.count) for i, h in enumerate(histograms)]
    total = np.sum([link_draws_ns(leg, seed=1) for leg in legs], axis=0)
    # The convolution is done pairwise on a 0.1 ms grid, else 60^4 combinations.
    grid = 0.1 * MS
    density = np.array([1.0])
    for h in histograms:
        own = np.zeros(round(max(bucket_value_ns(b) for b, _ in h.buckets) / grid) + 1)
        for bucket, n in h.buckets:
            own[round(bucket_value_ns(bucket) / grid)] += n / h.count
        density = np.convolve(density, own)
    exact = [np.searchsorted(np.cumsum(density), q) * grid for q in QS]
    found = quantiles(total)
    assert [found.p50_ns, found.p95_ns, found.p99_ns] == pytest.approx(exact, rel=0.03)
    summed = sum(h.quantile_ns(0.99) or 0 for h in histograms)
    assert summed > 1.1 * exact[2]
    assert abs(found.p99_ns - exact[2]) < abs(summed - exact[2]) / 4


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(MS, 200 * MS), min_size=1, max_size=12), min_size=2, max_size=3), st.integers(0, 1000))
def test_draws_lie_within_two_percent_of_probability_of_the_convolution(samples, seed):
    """For any histograms and seed the drawn quantile is an exact quantile of some probability within 0.02 (0.01 at p99)."""
    histograms = [Histogram.of(values) for values in samples]
    legs = [link(f"s{i}", "t", histogram=h) for i, h in enumerate(histograms)]
    found = quantiles(np.sum([link_draws_ns(leg, seed) for leg in legs], axis=0))
    _, values, edges = exact_quantiles(histograms)
    for q, value, slack in zip(QS, (found.p50_ns, found.p95_ns, found.p99_ns), (0.025, 0.015, 0.01), strict=True):
        low = values[int(np.searchsorted(edges, max(0.0, q - slack)))]
        high = values[min(int(np.searchsorted(edges, min(1.0, q + slack))), len(values) - 1)]
        assert low * (1 - 1e-9) <= value <= high * (1 + 1e-9)


def test_known_quantiles_are_joined_by_straight_lines():
    """Least 10, p50 20, p95 40 ms: the 25th percentile is 15, p95 40, and beyond it nothing is made up."""
    draws = link_draws_ns(link("a", "b", 20, rtt_min_ns=10 * MS, rtt_p95_ns=40 * MS), seed=0)
    assert np.quantile(draws, 0.25) / MS == pytest.approx(15, abs=0.02)
    found = quantiles(draws)
    assert (found.p50_ns / MS, found.p95_ns / MS, found.p99_ns / MS) == pytest.approx((20, 40, 40), abs=0.02)
    assert draws.min() >= 10 * MS


def test_one_number_is_a_constant_and_none_is_an_error():
    """A matrix's single figure has no spread; a link without any RTT cannot be drawn from."""
    assert set(link_draws_ns(link("a", "b", 20), seed=0)) == {20.0 * MS}
    with pytest.raises(ValueError, match="no RTT"):
        link_draws_ns(link("a", "b"), seed=0)


def test_the_same_link_and_seed_give_the_same_draws_and_others_do_not():
    """Draws depend on link and seed alone; legs are drawn independently of each other."""
    spread = {"rtt_min_ns": 10 * MS, "rtt_p95_ns": 90 * MS}
    a, b = link("a", "b", 50, **spread), link("a", "c", 50, **spread)
    assert np.array_equal(link_draws_ns(a, 1), link_draws_ns(a, 1))
    assert not np.array_equal(link_draws_ns(a, 1), link_draws_ns(a, 2))
    assert abs(np.corrcoef(link_draws_ns(a, 1), link_draws_ns(b, 1))[0, 1]) < 0.06
    assert len(link_draws_ns(a, 1)) == DRAWS


def test_a_modelled_link_is_the_stated_lognormal_cut_at_the_floor():
    """Median 1.8 and p95 3.1 times the fibre floor, nothing below it."""
    from routing_kit import site

    made = model_link(site("fra", 50.11, 8.68), site("iad", 39.04, -77.49))
    assert made.evidence == "modelled"
    assert made.rtt_min_ns is None
    draws = link_draws_ns(made, seed=0) / made.fibre_floor_ns
    assert np.quantile(draws, 0.5) == pytest.approx(INFLATION_P50, rel=0.002)
    assert np.quantile(draws, 0.95) == pytest.approx(INFLATION_P95, rel=0.005)
    assert draws.min() >= 1 - 1e-9


def test_only_what_is_not_measured_is_modelled():
    """A measured pair is left alone, its unmeasured reverse is assumed, the rest modelled; one metro is not 0 ms."""
    from routing_kit import site

    sites = [site("a", 0, 0), site("b", 0, 10), site("c", 0, 10)]
    found = {(m.src, m.dst): m for m in links_between(sites, [link("a", "b", 33, throughput_bps=1e6, loss_ratio=0.1)])}
    assert ("a", "b") not in found
    assert (found["b", "a"].evidence, found["b", "a"].rtt_p50_ns, found["b", "a"].throughput_bps) == ("assumed", 33 * MS, None)
    assert found["a", "c"].evidence == "modelled"
    assert found["b", "c"].rtt_p50_ns == MODEL_LEAST_RTT_NS
    assert len(found) == 5
    gated = links_between(sites[:2], [link("a", "b", 1, gate="faster_than_light")])
    assert [m.evidence for m in gated] == ["modelled", "modelled"]


def test_intervals_are_those_of_order_statistics():
    """n = 100 at the median reaches 0.5 +- 0.098; one sample says 2.5 to 97.5 %."""
    values = np.arange(1000.0)
    found = quantile_interval(values, 0.5, 100)
    assert (found.low_ns, found.high_ns) == pytest.approx((402, 598), abs=1)
    alone = quantile_interval(values, 0.5, 1)
    assert (alone.low_ns, alone.high_ns) == pytest.approx((25, 975), abs=1)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Over 2,000 sets of 60 samples the 95 % interval of the median holds the true one about 95 % of the time."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(2000):
        interval = quantile_interval(np.sort(rng.exponential(1.0, 60)), 0.5, 60)
        held += interval.low_ns <= math.log(2) <= interval.high_ns
    assert held / 2000 == pytest.approx(0.95, abs=0.025)


def test_samples_behind_a_sum_are_those_of_its_weakest_leg():
    """The least known count; a modelled leg counts one; unknown when nothing is known."""
    many, few = link("a", "b", 1, sample_count=500), link("b", "c", 1, sample_count=20)
    assert effective_samples([many, few]) == 20
    assert effective_samples([many, link("c", "d", 1)]) == 500
    assert effective_samples([many, link("c", "d", 1, evidence="modelled")]) == 1
    assert effective_samples([link("c", "d", 1)]) is None


def test_histogram_draws_stay_within_the_stated_resolution():
    """A drawn value is within the histogram's relative error of a sample."""
    samples = [12_345_678, 23_456_789, 98_765_432]
    draws = set(link_draws_ns(link("a", "b", histogram=Histogram.of(samples)), seed=0))
    for drawn in draws:
        assert min(abs(drawn - sample) / sample for sample in samples) <= RELATIVE_ERROR + 1e-9


@given(
    samples=st.lists(st.integers(1_000, 10**9), min_size=1, max_size=60),
    draws=st.sampled_from((64, 100, DRAWS)),
    seed=st.integers(0, 3),
)
def test_draws_of_a_measured_link_agree_with_what_is_known_exactly(samples, draws, seed):
    """Its least, median, p95 and p99 are those of the samples, none of the draws is below the least; the bound is the draw of its rank."""
    samples.sort()
    exact = [samples[nearest_rank(q, len(samples))] for q in (0.5, 0.95, 0.99)]
    figures = dict(zip(("rtt_p50_ns", "rtt_p95_ns", "rtt_p99_ns"), exact, strict=True))
    measured = dataclasses.replace(link("a", "b", histogram=Histogram.of(samples)), rtt_min_ns=samples[0], **figures)
    drawn = np.sort(link_draws_ns(measured, seed, draws))
    found = quantiles(drawn)
    assert [found.p50_ns, found.p95_ns, found.p99_ns] == exact
    assert drawn[0] == samples[0]
    assert np.all(np.abs(drawn / np.sort(inverse(measured, (np.arange(draws) + 0.5) / draws)) - 1) < 0.021)
    for rank in (0, 1, draws // 3, draws // 2, draws - 1):
        assert least_draw_ns(measured, rank, draws) == pytest.approx(drawn[rank], rel=1e-11)
        for q in (0.0, 0.3, 0.5, 0.96, 1.0):
            assert samples[0] <= (quantile_ns(measured, q) or 0) <= 1.01 * samples[-1]
    assert (quantile_ns(measured, 1.0) or 0) >= exact[-1]
