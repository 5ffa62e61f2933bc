"""The min-plus engine against brute force, networkx and itself under transformations."""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.errors import UserError
from routing import kernel
from routing.engine import best, best_between


def brute_force(direct: np.ndarray, relays: int, relay_ns: int, allowed=None):
    """(cost, relays) of every pair by trying every sequence, in whole ns; ties to fewer relays, then lower indices."""
    n = len(direct)
    allowed = range(n) if allowed is None else allowed
    found = {}
    for i, j in itertools.permutations(range(n), 2):
        options = [
            (sum(legs) + relay_ns * count, count, via)
            for count in range(relays + 1)
            for via in itertools.permutations(allowed, count)
            if i not in via and j not in via
            for legs in [[direct[a, b] for a, b in itertools.pairwise((i, *via, j))]]
        ]
        found[i, j] = min(options)
    return found


def matrices(most=7):
    """Square matrices of whole-ns RTTs with few distinct values, so that ties are common, and with holes."""
    value = st.one_of(st.integers(0, 6), st.integers(0, 10**9), st.just(None))
    return st.integers(1, most).flatmap(
        lambda n: st.lists(st.lists(value, min_size=n, max_size=n), min_size=n, max_size=n).map(
            lambda rows: np.array([[np.inf if x is None else float(x) for x in row] for row in rows])
        )
    )


@settings(max_examples=400, deadline=None)
@given(matrices(), st.integers(0, 2), st.sampled_from([0, 1, 500_000]))
def test_equals_trying_every_sequence_of_relays(direct_ns, relays, relay_ns):
    """Cost and the relays chosen are those of brute force, ties included."""
    found = best(direct_ns / 1e6, relays=relays, relay_ms=relay_ns / 1e6)
    for (i, j), (cost, _, via) in brute_force(direct_ns, relays, relay_ns).items():
        assert found.cost[i, j] * 1e6 == pytest.approx(cost, abs=1e-6)
        assert found.relays(i, j) == (via if np.isfinite(cost) else ())


@settings(max_examples=200, deadline=None)
@given(matrices(), st.integers(1, 2), st.data())
def test_only_allowed_sites_relay(direct_ns, relays, data):
    """With some sites barred from relaying the answer is brute force over the others."""
    allowed = sorted(data.draw(st.sets(st.integers(0, len(direct_ns) - 1))))
    found = best(direct_ns / 1e6, relays=relays, relay_ms=0.5, allowed=allowed)
    for (i, j), (cost, _, via) in brute_force(direct_ns, relays, 500_000, allowed).items():
        assert found.cost[i, j] * 1e6 == pytest.approx(cost, abs=1e-6)
        assert found.relays(i, j) == (via if np.isfinite(cost) else ())


def test_two_thousand_random_graphs_equal_networkx():
    """Cost of up to one and two relays is the least weight of networkx's simple paths with as many edges, to the ns."""
    rng = np.random.default_rng(7)
    for _ in range(2000):
        n = int(rng.integers(2, 7))
        direct = rng.integers(1, 50, (n, n)).astype(float)
        direct[rng.random((n, n)) < 0.4] = np.inf
        relays, relay = int(rng.integers(0, 3)), int(rng.integers(0, 4))
        graph = nx.DiGraph()
        graph.add_nodes_from(range(n))
        graph.add_weighted_edges_from((i, j, int(direct[i, j])) for i in range(n) for j in range(n) if i != j and np.isfinite(direct[i, j]))
        found = best(direct / 1e6, relays=relays, relay_ms=relay / 1e6).cost * 1e6
        for i, j in itertools.permutations(range(n), 2):
            costs = [
                nx.path_weight(graph, path, "weight") + relay * (len(path) - 2)
                for path in nx.all_simple_paths(graph, i, j, cutoff=relays + 1)
            ]
            assert round(found[i, j]) == min(costs) if costs else np.isinf(found[i, j])


def test_with_free_relays_and_a_short_graph_it_is_the_shortest_path():
    """On four sites two relays are every path there is: networkx's Dijkstra agrees."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        direct = rng.integers(1, 100, (4, 4)).astype(float)
        graph = nx.from_numpy_array(direct, create_using=nx.DiGraph)
        found = best(direct, relays=2, relay_ms=0.0).cost
        lengths = dict(nx.all_pairs_dijkstra_path_length(graph))
        assert all(found[i, j] == pytest.approx(lengths[i][j]) for i, j in itertools.permutations(range(4), 2))


@settings(max_examples=100, deadline=None)
@given(matrices(), st.integers(0, 2), st.randoms(use_true_random=False))
def test_relabelling_the_sites_changes_nothing_but_labels(direct_ns, relays, random):
    """Cost is invariant under a permutation of the sites."""
    order = list(range(len(direct_ns)))
    random.shuffle(order)
    there = best(direct_ns / 1e6, relays=relays).cost
    assert np.array_equal(best(direct_ns[np.ix_(order, order)] / 1e6, relays=relays).cost, there[np.ix_(order, order)])


@settings(max_examples=100, deadline=None)
@given(matrices(), st.integers(0, 2), st.data())
def test_removing_a_link_or_a_site_never_improves_and_restoring_it_restores(direct_ns, relays, data):
    """Taking something away makes no pair faster; a failed site leaves every pair that did not use it alone."""
    n = len(direct_ns)
    before = best(direct_ns / 1e6, relays=relays)
    i, j = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    fewer = direct_ns.copy()
    fewer[i, j] = np.inf
    assert (best(fewer / 1e6, relays=relays).cost >= before.cost).all()
    gone = direct_ns.copy()
    gone[i, :] = gone[:, i] = np.inf
    after = best(gone / 1e6, relays=relays)
    assert (after.cost >= before.cost).all()
    untouched = (before.via1 != i) & (before.via2 != i)
    untouched[i, :] = untouched[:, i] = False
    assert np.array_equal(after.cost[untouched], before.cost[untouched])
    fewer[i, j] = direct_ns[i, j]
    assert np.array_equal(best(fewer / 1e6, relays=relays).cost, before.cost)


@settings(max_examples=60, deadline=None)
@given(matrices(), st.sampled_from([2, 8]))
def test_more_relays_never_cost_more_and_scaling_scales(direct_ns, factor):
    """cost(0) >= cost(1) >= cost(2); all RTTs and the relay times 2^n give every cost times 2^n."""
    costs = [best(direct_ns / 1e6, relays=r, relay_ms=0.5).cost for r in (0, 1, 2)]
    assert (costs[0] >= costs[1]).all()
    assert (costs[1] >= costs[2]).all()
    assert np.allclose(best(direct_ns * factor / 1e6, relays=2, relay_ms=0.5 * factor).cost, costs[2] * factor, rtol=0, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(matrices(), st.integers(0, 2), st.sampled_from(["float32", "float64"]), st.data())
def test_compiled_and_numpy_answer_alike_bit_for_bit_and_between_some_as_between_all(direct_ns, relays, precision, data):
    """Costs and relays of both forms are equal, and those of some rows and columns are those of the whole."""
    n = len(direct_ns)
    allowed = data.draw(st.none() | st.sets(st.integers(0, n - 1)).map(sorted))
    options = {"relays": relays, "precision": precision, "allowed": allowed}
    forms = [best(direct_ns / 1e6, form=form, **options) for form in ("numba", "numpy")]
    some = [data.draw(st.lists(st.integers(0, n - 1), max_size=4)) for _ in range(2)]
    between = best_between(direct_ns / 1e6, *some, **options)
    for name in ("cost", "via1", "via2"):
        compiled, plain = (getattr(found, name) for found in forms)
        assert compiled.dtype == plain.dtype
        assert np.array_equal(compiled, plain)
        assert np.array_equal(getattr(between, name), compiled[np.ix_(*some)])


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_blocks_of_the_compiled_loop_and_of_the_executor_do_not_show(precision):
    """1,100 columns and 300 relays cross every block's edge; two threads give the same rows; a small case runs uncompiled."""
    rng = np.random.default_rng(11)
    first, rest = (rng.integers(1, 40, shape).astype(precision) for shape in ((20, 301), (301, 1100)))
    first[rng.random(first.shape) < 0.2] = np.inf
    relays = np.arange(301, dtype=np.int32)
    plain = kernel.min_plus(first, rest, relays, form="numpy")
    with ThreadPoolExecutor(2) as threads:
        for found in (
            kernel.min_plus(first, rest, relays, form="numba"),
            kernel.min_plus(first, rest, relays, form="numba", executor=threads),
            kernel.min_plus_two(first, rest, relays, form="numba")[:2],
        ):
            assert all(np.array_equal(a, b) for a, b in zip(found, plain, strict=True))
    two = [kernel.min_plus_two(first, rest, relays, form=form) for form in ("numba", "numpy")]
    assert all(np.array_equal(a, b) for a, b in zip(*two, strict=True))
    cost, via = np.full((3, 5), np.inf, precision), np.full((3, 5), -1, np.int32)
    kernel._one_loop(first[:3, :7], np.ascontiguousarray(rest[:7, :5]), relays[:7], cost, via)
    assert np.array_equal(via, kernel.min_plus(first[:3, :7], rest[:7, :5], relays[:7], form="numpy")[1])


def test_without_numba_the_answer_is_the_same(monkeypatch):
    """`auto` falls back to NumPy where numba is not installed; asked for by name it says so."""
    direct = np.random.default_rng(2).integers(1, 50, (40, 40)).astype(float)
    there = best(direct, relays=2)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    monkeypatch.setattr(kernel, "WORTH_LOADING", 0)
    assert not kernel.uses_numba("auto", 10**12)
    assert np.array_equal(best(direct, relays=2).via2, there.via2)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ModuleNotFoundError):
        best(direct, form="numba")


@settings(max_examples=60, deadline=None)
@given(matrices(), st.integers(1, 2), st.data())
def test_barring_a_relay_never_improves(direct_ns, relays, data):
    """Tightening: fewer allowed relays, or a dearer one, never makes a pair faster."""
    n = len(direct_ns)
    allowed = sorted(data.draw(st.sets(st.integers(0, n - 1))))
    fewer = allowed[:-1]
    costs = [best(direct_ns / 1e6, relays=relays, relay_ms=0.5, allowed=sites).cost for sites in (None, allowed, fewer)]
    assert (costs[0] <= costs[1]).all()
    assert (costs[1] <= costs[2]).all()
    assert (best(direct_ns / 1e6, relays=relays, relay_ms=0.6, allowed=allowed).cost >= costs[1]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 2))
def test_float32_stays_within_its_stated_error(seed, relays):
    """Cost within 2e-7 of the route's own exact cost, and that within 4e-7 of the exact best."""
    direct = np.random.default_rng(seed).uniform(0.1, 400, (12, 12))
    exact, fast = best(direct, relays=relays), best(direct, relays=relays, precision="float32")
    for i, j in itertools.permutations(range(12), 2):
        stops = (i, *fast.relays(i, j), j)
        own = sum(direct[a, b] for a, b in itertools.pairwise(stops)) + 0.5 * (len(stops) - 2)
        assert fast.cost[i, j] == pytest.approx(own, rel=2e-7)
        assert own <= exact.cost[i, j] * (1 + 4e-7) + 1e-6  # the exact one rounds legs to the ns


@pytest.mark.parametrize(
    ("direct", "relays", "relay_ms", "says"),
    [
        (np.zeros((2, 3)), 1, 0.5, "square"),
        (np.array([[0, np.nan], [1, 0]]), 1, 0.5, "from site 0 to site 1 is nan ms: NaN or negative; give 0 or more, and inf where"),
        (np.array([[0, -1.0], [1, 0]]), 1, 0.5, "negative"),
        (np.ones((2, 2)), 3, 0.5, "0, 1 or 2"),
        (np.ones((2, 2)), 1, -1.0, "cannot add"),
    ],
)
def test_what_is_no_matrix_of_rtts_is_refused(direct, relays, relay_ms, says):
    """NaN, negative RTTs, odd shapes and three relays raise instead of giving a number."""
    with pytest.raises(ValueError, match=says):
        best(direct, relays=relays, relay_ms=relay_ms)
    with pytest.raises(UserError, match=says):  # from the command line: one line and exit status 2
        best(direct, relays=relays, relay_ms=relay_ms, precision="float32")


def test_nothing_and_one_site_are_fine():
    """No sites and one site give empty and zero answers."""
    assert best(np.empty((0, 0))).cost.shape == (0, 0)
    assert best(np.array([[np.inf]]), relays=2).cost[0, 0] == 0
