"""The split of demand: against a convex optimiser, a grid search and closed forms; its prices against what they promise."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from routing.load import Limits, solve_split


@dataclass(frozen=True)
class MM1:
    """An M/M/1 of service rate mu, given at most 95 % of it: D = lambda Wq = lambda^2 / (mu (mu - lambda)), in seconds x 1000."""

    mu: float
    share: float = 0.95

    @property
    def cap_rps(self):
        return self.share * self.mu

    def delay(self, load_rps):
        mu, x = self.mu, load_rps
        return 1000 * x * x / (mu * (mu - x)), 1000 * x * (2 * mu - x) / (mu * (mu - x) ** 2)


@dataclass(frozen=True)
class Flat:
    """No queue at all below the cap."""

    cap_rps: float

    def delay(self, load_rps):
        return 0.0, 0.0


def total(cost, curves, rate):
    load = rate.sum(axis=0)
    return float((np.where(rate > 0, cost, 0) * rate).sum() + sum(c.delay(min(x, c.cap_rps))[0] for c, x in zip(curves, load, strict=True)))


def test_two_pools_split_where_their_marginal_costs_meet():
    """One place, 12 req/s, M/M/1 of 10 each, the same way to both: 6 and 6, and Wq = 6 / (10 x 4) s = 150 ms each."""
    found = solve_split(np.array([[5.0, 5.0]]), np.array([12.0]), [MM1(10), MM1(10)])
    assert found.load == pytest.approx([6, 6], abs=0.02)
    assert found.objective / 12 == pytest.approx(5 + 150, rel=1e-3)
    # Pigou's two roads: the marginal, not the mean, is equal: 5 + dD/dx at 6.
    assert found.demand_price[0] == pytest.approx(5 + MM1(10).delay(6)[1], rel=0.01)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.floats(2.0, 30.0), min_size=2, max_size=3),
    st.data(),
)
def test_equals_a_convex_optimiser_by_another_method(places, rates, data):
    """scipy's trust-region minimiser on the exact curves, started in the middle of the polytope, finds no less."""
    curves = [MM1(mu) for mu in rates]
    room = sum(c.cap_rps for c in curves)
    cost = np.array([[data.draw(st.floats(0, 100)) for _ in curves] for _ in range(places)])
    shares = np.array([data.draw(st.floats(0.1, 1.0)) for _ in range(places)])
    rate = shares / shares.sum() * room * data.draw(st.floats(0.1, 0.9))
    found = solve_split(cost, rate, curves)
    assert found.lost.sum() == pytest.approx(0, abs=1e-7)
    assert (found.load <= np.array([c.cap_rps for c in curves]) * (1 + 1e-9)).all()
    assert found.rate.sum(axis=1) == pytest.approx(rate)
    ours = total(cost, curves, found.rate)
    start = np.outer(rate, [c.cap_rps / room for c in curves]).ravel()
    shape = cost.shape
    other = minimize(
        lambda x: total(cost, curves, np.maximum(x, 0).reshape(shape)),
        start,
        method="SLSQP",
        bounds=[(0, None)] * start.size,
        constraints=[
            {"type": "eq", "fun": lambda x: x.reshape(shape).sum(axis=1) - rate},
            {"type": "ineq", "fun": lambda x: np.array([c.cap_rps for c in curves]) - x.reshape(shape).sum(axis=0)},
        ],
        options={"maxiter": 300},
    )
    assert ours <= other.fun * (1 + 1e-4) + 1e-6
    # And no less than the truth can be: the tangents lie below the curves.
    assert found.objective <= ours * (1 + 1e-9) + 1e-9
    assert ours <= found.objective * (1 + 1e-5) + 1e-6


def test_equals_a_grid_search():
    """Two places, two pools: every split in steps of a hundredth."""
    cost, rate, curves = np.array([[3.0, 40.0], [25.0, 6.0]]), np.array([6.0, 3.0]), [MM1(7), MM1(9)]
    found = solve_split(cost, rate, curves)
    steps = np.linspace(0, 1, 101)
    grid = min(
        total(cost, curves, np.array([[rate[0] * a, rate[0] * (1 - a)], [rate[1] * b, rate[1] * (1 - b)]]))
        for a, b in itertools.product(steps, steps)
        if rate[0] * a + rate[1] * b <= curves[0].cap_rps and rate[0] * (1 - a) + rate[1] * (1 - b) <= curves[1].cap_rps
    )
    assert total(cost, curves, found.rate) <= grid * (1 + 1e-9)
    assert total(cost, curves, found.rate) == pytest.approx(grid, rel=1e-3)


def test_a_full_pool_has_a_price_that_is_what_more_of_it_saves():
    """The near pool takes 10 req/s and is full, the far one is 90 ms further: each req/s more of the near one saves 90 ms."""
    cost, rate = np.array([[10.0, 100.0]]), np.array([15.0])
    found = solve_split(cost, rate, [Flat(10), Flat(100)])
    assert found.load == pytest.approx([10, 5])
    assert found.capacity_price == pytest.approx([90, 0])
    more = solve_split(cost, rate, [Flat(11), Flat(100)])
    assert found.objective - more.objective == pytest.approx(90)
    assert found.demand_price[0] == pytest.approx(100)


def test_what_nobody_can_take_is_lost_and_not_hidden():
    """12 req/s on pools of 4 and 5: 3 are lost; a place no pool may serve loses everything; no demand, no answer needed."""
    found = solve_split(np.array([[1.0, 2.0], [np.inf, np.inf]]), np.array([12.0, 2.0]), [Flat(4), Flat(5)])
    assert found.lost == pytest.approx([3, 2])
    assert found.load == pytest.approx([4, 5])
    assert solve_split(np.array([[1.0]]), np.array([0.0]), [Flat(1)]).load == pytest.approx([0])


def test_the_price_of_room_where_requests_are_lost_is_that_of_a_loss():
    """Places 7 and 9 ms from a pool of 10 req/s ask 8 each: 6 of the dearer are lost; one more served saves a loss less 9 ms."""
    found = solve_split(np.array([[7.0], [9.0]]), np.array([8.0, 8.0]), [Flat(10.0)])
    assert found.lost == pytest.approx([0, 6])
    assert found.lost_cost == pytest.approx(10 * (9 + 1))  # ten times the most that a served one can cost, and 1
    assert found.capacity_price[0] == pytest.approx(found.lost_cost - 9)


def test_a_spread_over_providers_has_a_price():
    """No provider above 60 % of 10 req/s: 4 must go to the other, 30 ms further; one more allowed saves 30 ms."""
    cost = np.array([[10.0, 10.0, 40.0]])
    limits = Limits(provider=("a", "a", "b"), max_share=0.6)
    found = solve_split(cost, np.array([10.0]), [Flat(10), Flat(10), Flat(10)], limits=limits)
    assert found.load[:2].sum() == pytest.approx(6)
    assert found.provider_price == {"a": pytest.approx(30), "b": pytest.approx(0)}


def test_a_budget_has_a_price():
    """The near pool costs 2 USD a request, the far one 1: 10 req/s for 15 USD/s go half and half; a dollar saves 50 ms x req/s."""
    limits = Limits(usd=np.array([[2.0, 1.0]]), budget_usd_per_s=15.0)
    found = solve_split(np.array([[10.0, 60.0]]), np.array([10.0]), [Flat(10), Flat(10)], limits=limits)
    assert found.load == pytest.approx([5, 5])
    assert found.budget_price == pytest.approx(50)


def test_a_request_that_finds_a_cold_cache_takes_more_of_a_pool():
    """Twice the weight: a pool of 10 takes 5 of them."""
    found = solve_split(np.array([[1.0, 9.0]]), np.array([8.0]), [Flat(10), Flat(10)], weight=np.array([[2.0, 1.0]]))
    assert found.rate[0] == pytest.approx([5, 3])
    assert found.load == pytest.approx([10, 3])


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(9, 25), st.integers(0, 10_000))
def test_columns_that_come_in_later_give_the_same_as_all_at_once(places, pools, seed):
    """More pools than the programme starts with: the optimum is that of a programme that is given every pair as a hint."""
    rng = np.random.default_rng(seed)
    cost, rate = rng.uniform(1, 200, (places, pools)), rng.uniform(0, 5, places)
    curves = [MM1(mu) for mu in rng.uniform(0.5, 4, pools)]
    ours = solve_split(cost, rate, curves)
    everything = type(ours.hints)({(m, p) for m in range(places) for p in range(pools)}, {})
    whole = solve_split(cost, rate, curves, hints=everything)
    assert ours.objective == pytest.approx(whole.objective, rel=1e-5)
    again = solve_split(cost, rate, curves, hints=ours.hints)
    assert again.objective == pytest.approx(ours.objective, rel=1e-5)


@pytest.mark.parametrize(("cost", "rate"), [([[1.0]], [-1.0]), ([[np.nan]], [1.0]), ([[-1.0]], [1.0]), ([[1.0]], [np.nan])])
def test_numbers_that_are_none_are_refused(cost, rate):
    """Negative and NaN."""
    with pytest.raises(ValueError, match="from 0 up"):
        solve_split(np.array(cost), np.array(rate), [Flat(1)])
