"""Placement against trying every choice of sites, and the proof's bound against the truth."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import link, site

from records.errors import BadPlacement, NoPlacement
from records.place import fibre_floor_ns
from routing import placement_proof
from routing.distance import distances, floors_ms
from routing.placement import Problem, marginal, place, quick
from routing.placement_cover import Cover
from routing.placement_limits import quick_limited
from routing.placement_proof import prove


def random_problem(seed, clients=9, sites=8, k=3, **more):
    """Clients and candidates strewn in a plane, whole ms, so that ties are common."""
    rng = np.random.default_rng(seed)
    at, where = rng.integers(0, 40, (clients, 2)), rng.integers(0, 40, (sites, 2))
    rtt_ms = np.abs(at[:, None] - where[None]).sum(axis=2).astype(float)
    return Problem(rtt_ms=rtt_ms, weights=rng.integers(1, 20, clients).astype(float), k=k, budget_ms=12.0, **more)


def objective_by_hand(problem, chosen):
    """The definition, in plain Python."""
    served = [min(problem.rtt_ms[c, s] for s in chosen) for c in range(len(problem.weights))]
    total = sum(problem.weights)
    if problem.objective == "p50":
        return sum(w * ms for w, ms in zip(problem.weights, served, strict=True)) / total
    if problem.objective == "within-budget":
        return sum(w for w, ms in zip(problem.weights, served, strict=True) if ms <= problem.budget_ms) / total
    return min(t for t in served if sum(w for w, ms in zip(problem.weights, served, strict=True) if ms <= t) >= 0.95 * total)


def best_by_hand(problem):
    """(value, whether larger is better) over every choice of k sites that keeps what is kept and can be paid for."""
    choices = [
        set(choice) | set(problem.keep)
        for choice in itertools.combinations(range(problem.rtt_ms.shape[1]), problem.k)
        if set(problem.keep) <= set(choice)
    ]
    if problem.price is not None:
        choices = [
            set(choice) | set(problem.keep)
            for count in range(1, problem.k + 1)
            for choice in itertools.combinations(range(problem.rtt_ms.shape[1]), count)
            if set(problem.keep) <= set(choice) and sum(problem.price[s] for s in set(choice) - set(problem.keep)) <= problem.spend
        ]
    pick = max if problem.objective == "within-budget" else min
    return pick(objective_by_hand(problem, choice) for choice in choices)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["p50", "p95", "within-budget"]), st.sampled_from([(), (0,), (5, 2)]))
def test_the_proven_optimum_is_the_best_of_every_choice(seed, objective, keep):
    """Value, bound and gap; the quick answer is never better and a swap never improves it (p50, within-budget)."""
    problem = random_problem(seed, objective=objective, keep=keep)
    expected = best_by_hand(problem)
    proven, fast = prove(problem), place(problem)
    assert proven.value == pytest.approx(expected, abs=1e-9)
    assert proven.bound == pytest.approx(expected, abs=1e-6)
    assert proven.gap == pytest.approx(0, abs=1e-6)
    assert set(keep) <= set(proven.sites)
    assert len(set(fast.sites)) == problem.k
    assert fast.value == pytest.approx(objective_by_hand(problem, fast.sites))
    sign = -1 if objective == "within-budget" else 1
    assert sign * fast.value >= sign * expected - 1e-9
    if objective != "p95":
        for leaves in set(fast.sites) - set(keep):
            for comes in set(range(8)) - set(fast.sites):
                assert sign * objective_by_hand(problem, set(fast.sites) - {leaves} | {comes}) >= sign * fast.value - 1e-9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1, 2, 4]))
def test_with_few_near_candidates_the_bound_still_holds(seed, count):
    """A client that sees only its nearest 1, 2 or 4 candidates and a priced "far": never a bound above the truth."""
    problem = random_problem(seed)
    sites, bound, _ = placement_proof._assign(problem, problem.rtt_ms, count, 10.0)
    assert bound <= best_by_hand(problem) + 1e-9
    assert len(sites) == problem.k


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_a_limited_spending_is_kept_and_the_proof_is_the_best_that_it_buys(seed):
    """Prices 1..5, 7 to spend, a kept site is free."""
    price = np.random.default_rng(seed).integers(1, 6, 8).astype(float)
    problem = random_problem(seed, k=4, price=price, spend=7.0, keep=(1,))
    proven, fast = prove(problem), place(problem)
    for found in (proven, fast):
        assert sum(price[s] for s in found.sites if s != 1) <= 7.0
    assert proven.value == pytest.approx(best_by_hand(problem), abs=1e-9)
    assert fast.value >= proven.value - 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_capacities_as_whole_people_spread_by_brute_force(seed):
    """Unit weights and whole capacities make the transport problem integral: every choice and every spreading is tried."""
    rng = np.random.default_rng(seed)
    rtt_ms, capacity = rng.integers(1, 30, (5, 4)).astype(float), rng.integers(1, 4, 4).astype(float)
    if np.sort(capacity)[-2:].sum() < 5:
        capacity[:2] = 3
    problem = Problem(rtt_ms=rtt_ms, weights=np.ones(5), k=2, capacity=capacity)
    best = min(
        sum(rtt_ms[c, s] for c, s in enumerate(spread)) / 5
        for pair in itertools.combinations(range(4), 2)
        for spread in itertools.product(pair, repeat=5)
        if all(spread.count(s) <= capacity[s] for s in pair)
    )
    proven = prove(problem)
    assert proven.value == pytest.approx(best, abs=1e-6)
    assert proven.bound == pytest.approx(best, abs=1e-6)


def test_within_a_budget_those_not_reached_take_no_capacity():
    """One site of 3 reaches two metros of 2 people: 3 of 6 people; the third metro is out of reach."""
    problem = Problem(
        rtt_ms=np.array([[5.0], [6.0], [90.0]]), weights=np.full(3, 2.0), k=1, objective="within-budget", capacity=np.array([3.0])
    )
    assert prove(problem).value == pytest.approx(0.5)


def test_marginal_is_the_objective_with_one_more_or_one_less():
    """Every candidate's gain is a difference of objectives; for three objectives."""
    for objective in ("p50", "p95", "within-budget"):
        problem = random_problem(4, objective=objective)
        chosen = quick(problem)
        gains = marginal(problem, chosen)
        sign = -1 if objective == "within-budget" else 1
        now = objective_by_hand(problem, chosen)
        for s in range(8):
            other = set(chosen) - {s} if s in chosen else {*chosen, s}
            assert gains[s] == pytest.approx(abs(sign * (objective_by_hand(problem, other) - now)))
    assert np.isinf(marginal(random_problem(4, k=1), [0])[0])


def test_more_sites_and_more_candidates_never_harm():
    """Metamorphic: the optimum falls with k, and rises when a candidate is taken away."""
    for seed in range(5):
        values = [prove(random_problem(seed, k=k)).value for k in range(1, 9)]
        assert values == sorted(values, reverse=True)
        whole = random_problem(seed)
        fewer = Problem(rtt_ms=whole.rtt_ms[:, 1:], weights=whole.weights, k=3)
        assert prove(fewer).value >= prove(whole).value - 1e-9


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"k": 9}, BadPlacement, "9 sites asked for among 8 candidates; ask for 1 to 8"),
        ({"k": 1, "keep": (0, 1)}, BadPlacement, "2 sites are kept and 1 asked for"),
        ({"objective": "p90"}, BadPlacement, "objective 'p90' is not one of p50, p95, within-budget"),
        ({"rtt_ms": np.full((9, 8), np.nan)}, BadPlacement, "NaN, negative or infinite"),
        ({"rtt_ms": np.full((9, 8), -1.0)}, BadPlacement, "NaN, negative or infinite"),
        ({"weights": np.zeros(9)}, BadPlacement, "a weight above 0"),
        ({"weights": np.empty(0), "rtt_ms": np.empty((0, 8))}, BadPlacement, "nobody to serve"),
        ({"price": np.ones(8)}, BadPlacement, "give both or neither"),
        ({"capacity": np.ones(8)}, NoPlacement, "the 3 largest candidates serve 3 people and there are"),
        ({"objective": "within-budget", "budget_ms": 0.0}, BadPlacement, "covers nobody"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, error, says):
    """One typed error that names the value and what to change."""
    whole = random_problem(1)
    base = {"rtt_ms": whole.rtt_ms, "weights": whole.weights, "k": 3}
    with pytest.raises(error, match=says):
        Problem(**(base | change))


def test_nothing_that_can_be_paid_for_is_no_placement():
    """Every price above what may be spent: the answer is no, quick or proven."""
    problem = random_problem(1, price=np.full(8, 5.0), spend=4.0)
    for ask in (place, prove):
        with pytest.raises(NoPlacement, match="spend"):
            ask(problem)


def test_distances_are_measured_where_known_and_modelled_elsewhere():
    """A link from the metro wins over its reverse; a model is 1.8 times the floor, at least 0.5 ms; a site is at itself."""
    lagos, accra = site("metro:lagos", 6.5, 3.4, kind="metro"), site("metro:accra", 5.6, -0.2, kind="metro")
    fra, los = site("fra", 50.1, 8.7), site("los", 6.45, 3.39)
    links = [
        link("metro:lagos", "fra", 110),
        link("fra", "metro:lagos", 120),
        link("fra", "metro:accra", 130),
        link("metro:accra", "los", 1, gate="faster_than_light"),
    ]
    found = distances([lagos, accra, fra], [fra, los], links)
    assert found.rtt_ms[0, 0] == 110
    assert found.rtt_ms[1, 0] == 130
    assert found.rtt_ms[0, 1] == 0.5
    assert found.rtt_ms[1, 1] == pytest.approx(1.8 * fibre_floor_ns(accra, los) / 1e6)
    assert found.rtt_ms[2, 0] == 0
    assert found.known.tolist() == [[True, False], [True, False], [True, False]]
    assert floors_ms([lagos], [fra])[0, 0] * 1e6 == pytest.approx(fibre_floor_ns(lagos, fra), abs=1)


@pytest.mark.parametrize("seed", range(12))
def test_after_the_swaps_of_a_cover_no_exchange_helps(seed):
    """By trying every exchange, with kept sites and prices in half of the worlds."""
    rng = np.random.default_rng(seed)
    covers, weights = rng.random((40, 15)) < 0.15, rng.integers(1, 50, 40).astype(float)
    price = rng.integers(1, 5, 15).astype(float) if seed % 2 else None
    keep = (3, 7) if seed % 3 else ()
    cover = Cover(covers, weights, keep, price=price, spend=None if price is None else 9.0)
    cover.add(5)
    cover.swap()

    def people(chosen):
        return weights[covers[:, list(chosen)].any(axis=1)].sum()

    def cost(chosen):
        return 0 if price is None else sum(price[site] for site in chosen if site not in keep)

    assert cover.chosen[: len(keep)] == list(keep)
    assert cost(cover.chosen) <= 9
    for leaves in set(cover.chosen) - set(keep):
        for comes in set(range(15)) - set(cover.chosen):
            other = [*(set(cover.chosen) - {leaves}), comes]
            assert people(other) <= people(cover.chosen) or cost(other) > 9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["p50", "within-budget"]), st.sampled_from([(), (2,)]))
def test_the_quick_answer_within_a_spending_lies_between_the_best_and_its_bound(seed, objective, keep):
    """By every choice that can be paid for."""
    price = np.random.default_rng(seed).integers(1, 9, 8).astype(float)
    problem = random_problem(seed, objective=objective, keep=keep, price=price, spend=12.0)
    found, best = quick_limited(problem), best_by_hand(problem)
    assert sum(price[s] for s in set(found.sites) - set(keep)) <= 12
    assert found.value == pytest.approx(objective_by_hand(problem, found.sites))
    low, high = (found.bound, found.value) if objective == "p50" else (found.value, found.bound)
    assert low - 1e-9 <= best <= high + 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_the_quick_answer_with_capacities_lies_between_the_best_and_its_bound(seed):
    """By the proof, which other tests hold to every choice: p50 where all fit, and people within a budget."""
    rng = np.random.default_rng(seed)
    for objective in ("p50", "within-budget"):
        problem = random_problem(seed, objective=objective, capacity=rng.integers(20, 60, 8).astype(float))
        if np.sort(problem.capacity)[-3:].sum() < problem.weights.sum():
            problem = replace(problem, capacity=problem.capacity * 3)
        found, proven = quick_limited(problem), prove(problem)
        assert proven.gap == 0
        low, high = (found.bound, found.value) if objective == "p50" else (found.value, found.bound)
        assert low - 1e-7 <= proven.value <= high + 1e-7
        if objective == "p50":
            assert problem.capacity[list(found.sites)].sum() >= problem.weights.sum() * (1 - 1e-9)
