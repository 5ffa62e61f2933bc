"""Three ways to the quantiles of a sum, each against the others, against exact sums, and where they must differ."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import link, pool, site, workload

from records.histogram import RELATIVE_ERROR, Histogram, bucket_value_ns
from records.units import MS
from routing.planner import Planner
from routing.quantiles import normal_inverse, quantiles
from routing.request import Request
from routing.sums import convolved, monte_carlo_ns, replay_ns, shared_buckets

HISTOGRAMS = st.lists(st.floats(1.0, 300.0), min_size=1, max_size=6).map(lambda values: Histogram.of([v * MS for v in values]))


def exact(legs):
    """Every combination of the legs' bucket values with its weight, by enumeration: (values, shares), in order."""
    total = Counter()
    for combination in itertools.product(*(leg.buckets for leg in legs)):
        value = sum(bucket_value_ns(bucket) for bucket, _ in combination)
        total[value] += np.prod([count for _, count in combination], dtype=float)
    values = np.array(sorted(total))
    shares = np.array([total[value] for value in values])
    return values, shares / shares.sum()


@settings(max_examples=40)
@given(st.lists(HISTOGRAMS, min_size=1, max_size=3), st.sampled_from([0.1, 0.5, 0.9, 0.95]))
def test_the_convolution_is_the_exact_sum_to_a_step_a_leg(legs, q):
    """Held against enumeration: the mean is exact, the distribution function within one step for each leg."""
    values, shares = exact(legs)
    found = convolved(legs, step_ns=0.1 * MS)
    assert found.mean_ns == pytest.approx(float(values @ shares), rel=1e-9)
    slack = 0.1 * MS * len(legs) + 1
    at = found.quantile_ns(q)
    below = shares[values <= at + slack].sum()
    above = shares[values < at - slack].sum()
    assert above - 1e-9 <= q <= below + 1e-9


@settings(max_examples=20)
@given(st.lists(HISTOGRAMS, min_size=2, max_size=3))
def test_draws_and_convolution_agree(legs):
    """4,096 draws put their p50 and p95 within what 4,096 samples can tell (4 sigma of a share) of the exact distribution."""
    values, shares = exact(legs)
    reached = np.cumsum(shares)
    drawn = np.sort(monte_carlo_ns(legs, seed=3, draws=4096))
    for q in (0.5, 0.95):
        at = drawn[int(q * 4096)]
        low = reached[max(0, int(np.searchsorted(values, at * (1 - 1e-9))) - 1)] if values[0] < at * (1 - 1e-9) else 0.0
        high = reached[min(len(values) - 1, int(np.searchsorted(values, at * (1 + 1e-9), side="right")) - 1)]
        slack = 4 * (q * (1 - q) / 4096) ** 0.5
        assert low - slack <= q <= high + slack


def busy_evening(quiet_ms, busy_ms, hours=20):
    """A link that is quiet in the even hours and busy in the odd ones."""
    return {hour * 3600: Histogram.of([(busy_ms if hour % 2 else quiet_ms) * MS] * 10) for hour in range(hours)}


def test_legs_that_are_busy_together_keep_their_tail_and_legs_that_alternate_lose_it():
    """Two legs of 10 or 90 ms. Busy in the same hours: the sum is 20 or 180, half each, and p75 is 180. Busy in turns: always 100."""
    one = busy_evening(10, 90)
    together = replay_ns([one, busy_evening(10, 90)], ["a", "b"], seed=1, draws=4000).sum(axis=0) / MS
    assert sorted({round(value) for value in together}) == [pytest.approx(20, abs=1), pytest.approx(180, abs=2)]
    assert (together > 100).mean() == pytest.approx(0.5)
    in_turn = replay_ns([one, busy_evening(90, 10)], ["a", "b"], seed=1, draws=4000).sum(axis=0) / MS
    assert in_turn.min() == pytest.approx(in_turn.max())
    assert in_turn[0] == pytest.approx(100, rel=RELATIVE_ERROR)
    # Drawn independently both pairs give 20 / 100 / 180 by a quarter, a half, a quarter: wrong for both.
    whole = Histogram.of([10 * MS] * 10 + [90 * MS] * 10)
    apart = monte_carlo_ns([whole, whole], seed=1, draws=4000) / MS
    assert [(apart < 60).mean(), ((apart > 60) & (apart < 140)).mean()] == pytest.approx([0.25, 0.5], abs=0.03)


def test_replay_uses_only_what_is_shared_and_is_its_own_seed():
    """Buckets one leg lacks are left out; the same seed gives the same draws; nothing in common is an error."""
    a, b = busy_evening(10, 90, hours=4), {hour * 3600: Histogram.of([5 * MS]) for hour in (0, 2, 9)}
    assert shared_buckets([a, b]) == (0, 7200)
    found = replay_ns([a, b], ["a", "b"], seed=7, draws=100)
    assert (found[0] < 11 * MS).all()
    assert (found == replay_ns([a, b], ["a", "b"], seed=7, draws=100)).all()
    with pytest.raises(ValueError, match="no time bucket in common"):
        replay_ns([a, {5: Histogram.of([1 * MS])}], ["a", "b"], seed=7, draws=100)


def test_the_planner_replays_where_every_leg_has_a_series():
    """src -> relay -> dst busy together: the p95 of the RTT is the sum of the busy values; without series it is a mixture."""
    sites = {s.id: s for s in (site("a"), site("b", 0, 5), site("c", 0, 10))}
    histogram = Histogram.of([10 * MS] * 9 + [90 * MS])
    links = [link(s, d, 10, histogram=histogram, sample_count=10) for s, d in (("a", "b"), ("b", "c"))]
    series = {key.key: {hour: Histogram.of([(90 if hour % 10 == 0 else 10) * MS] * 10) for hour in range(20)} for key in links}
    request = Request(source="a", destination="c", workload=workload(), relay_ms=0.0, connection="warm")
    answers = {
        name: Planner(links, sites, [pool("c")], series=given).plan(request).routes[0]
        for name, given in (("replay", series), ("independent", {}))
    }
    assert answers["replay"].together == "replay"
    assert answers["independent"].together == "independent"
    # A tenth of the hours is busy on both: p50 20, p95 180. Apart, 19 % have at least one busy leg, 1 % both: p95 is 100.
    assert answers["replay"].rtt.p50_ns / MS == pytest.approx(20, rel=0.01)
    assert answers["replay"].rtt.p95_ns / MS == pytest.approx(180, rel=0.01)
    assert answers["independent"].rtt.p95_ns / MS == pytest.approx(100, rel=0.01)


def test_the_normal_inverse_is_the_standard_librarys():
    """statistics.NormalDist is the oracle, from the far tail to the middle."""
    normal = statistics.NormalDist()
    probabilities = np.array([1e-12, 1e-6, 0.001, 0.02, 0.075, 0.3, 0.5, 0.7, 0.925, 0.95, 0.999, 1 - 1e-9])
    assert normal_inverse(probabilities) == pytest.approx([normal.inv_cdf(p) for p in probabilities], rel=1e-9, abs=1e-12)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60))
def test_quantiles_are_nearest_rank(values):
    """The least value with at least q of the values at or below it, as sorting gives it."""
    found = quantiles(np.array(values))
    order = sorted(values)
    for q, value in ((0.5, found.p50_ns), (0.95, found.p95_ns), (0.99, found.p99_ns)):
        assert value == next(v for i, v in enumerate(order, start=1) if i >= q * len(order) - 1e-9)
