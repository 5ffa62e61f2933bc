"""Single failures read off: equal, cell by cell, to a network solved again without the site."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_routing_engine import matrices

from routing.engine import best
from routing.failures import single_failures


def without(direct, sites):
    left = np.array(direct, dtype=float)
    left[list(sites), :] = left[:, list(sites)] = np.inf
    return left


def assert_same_after(found, direct_ms, *sites, **options):
    after, again = found.after(*sites), best(without(direct_ms, sites), **options)
    cost = again.cost.copy()
    cost[list(sites), list(sites)] = np.inf  # a site's own cell: it is not there
    assert np.array_equal(after.cost, cost)
    assert np.array_equal(after.via1, again.via1)
    assert np.array_equal(after.via2, again.via2)


@settings(max_examples=200, deadline=None)
@given(matrices(), st.integers(0, 2), st.sampled_from(["numpy", "numba"]), st.data())
def test_every_failure_equals_solving_again(direct_ns, relays, form, data):
    """Costs, relays and ties of every site's failure, with any set of sites that may relay."""
    direct_ms = direct_ns / 1e6
    allowed = data.draw(st.none() | st.sets(st.integers(0, len(direct_ms) - 1)).map(sorted))
    found = single_failures(direct_ms, relays=relays, allowed=allowed, form=form)
    whole = best(direct_ms, relays=relays, allowed=allowed)
    assert np.array_equal(found.base.cost, whole.cost)
    assert np.array_equal(found.base.via2, whole.via2)
    for site in range(len(direct_ms)):
        assert_same_after(found, direct_ms, site, relays=relays, allowed=allowed)
    together = sorted(data.draw(st.sets(st.integers(0, len(direct_ms) - 1), max_size=3)))
    assert_same_after(found, direct_ms, *together, relays=relays, allowed=allowed)


@pytest.mark.parametrize(("relays", "precision"), [(1, "float64"), (2, "float64"), (1, "float32"), (2, "float32")])
@pytest.mark.parametrize("form", ["numba", "numpy"])
def test_a_fleet_loses_random_sites(relays, precision, form):
    """60 sites with ties and holes: ten random failures, both precisions, both forms."""
    rng = np.random.default_rng(5)
    direct = rng.integers(1, 300, (60, 60)).astype(float)
    direct[rng.random((60, 60)) < 0.3] = np.inf
    found = single_failures(direct, relays=relays, precision=precision, form=form)
    for site in rng.integers(0, 60, 10):
        assert_same_after(found, direct, site, relays=relays, precision=precision, form="numpy")
    for pair in rng.integers(0, 60, (4, 2)):
        assert_same_after(found, direct, *pair, relays=relays, precision=precision, form="numpy")


def test_a_change_names_the_pairs_that_crossed_the_site_and_no_other():
    """0 -> 2 goes over 1 (30 + 40 + 0.5 < 100); without 1 it goes direct; nothing else changes."""
    found = single_failures(np.array([[0, 30.0, 100.0], [30.0, 0, 40.0], [100.0, 40.0, 0]]))
    change = found.change(1)
    assert list(zip(change.src, change.dst, change.before_ms, change.after_ms, strict=True)) == [(0, 2, 70.5, 100), (2, 0, 70.5, 100)]
    assert not len(found.change(0).src)
    with pytest.raises(IndexError, match="no site 3"):
        found.change(3)


def test_no_site_and_one_site():
    """Nothing to lose, and the loss of everything."""
    assert not list(single_failures(np.empty((0, 0))))
    assert np.isinf(single_failures(np.zeros((1, 1)), relays=2).after(0).cost[0, 0])
