"""One rule of evidence: after every edit, all demand goes the way that the planner says for a single request."""

from __future__ import annotations

import pytest
from fleet_kit import placed
from routing_kit import link, pool, workload

from records.units import MS
from routing.fleet import settle
from routing.outcome import Cache, measure
from routing.planner import no_price
from routing.request import Request
from routing.scenario import apply, parse, planner_of
from routing.world import World


def edited(world, *edits, **more):
    return apply(parse({"name": "t", "edits": list(edits), **more}, known=world.all_sites), world)


def whole(world):
    """(ingress, median TTFT in ms) of the only place with users, as all demand settles."""
    outcome = measure(settle(world), Cache(0, 2048))
    return outcome.places[0].ingress, None if outcome.ttft_p50_ns is None else outcome.ttft_p50_ns / MS


def planned(world):
    """(ingress, median TTFT in ms) of a request from there, as the planner says over the same world."""
    (source,) = world.demand
    routes = planner_of(world, no_price, 0, None).plan(Request(source=source, workload=world.workload, relays=1)).routes
    return (routes[0].sites[1:2], routes[0].ttft.p50_ns / MS) if routes else ((), None)


def agree(world):
    """The ingress, after holding all demand against the planner; a median of sums is no sum of medians, hence 5 %."""
    (where, took), (entry, ms) = whole(world), planned(world)
    assert where == entry
    assert took == pytest.approx(ms, rel=0.05)
    return where


MAINZ = World.of(
    {
        s.id: s
        for s in (
            placed("fra", 50.1, 8.7, "DE"),
            placed("str", 48.8, 9.2, "DE"),
            placed("metro:mainz", 50, 8.2, "DE", kind="metro"),
            placed("aws:eu-central-1", 50.2, 8.6, "DE"),
        )
    },
    (link("fra", "str", 4),),
    (pool("fra", devices=2), pool("str", devices=2)),
    demand={"metro:mainz": 4.0},
    workload=workload(),
)


@pytest.mark.parametrize("edit", [{"site": "fra"}, {"src": "metro:mainz", "dst": "fra"}, {"src": "fra", "dst": "metro:mainz"}])
def test_users_leave_a_degraded_pop_that_nobody_measured_them_to(edit):
    """Mainz enters at Frankfurt by a model; with 300 ms more there, at Stuttgart: as if Frankfurt had failed."""
    assert agree(MAINZ) == ("fra",)
    world = edited(MAINZ, {"op": "degrade", "add_ms": 300} | edit)
    assert agree(world) == ("str",)
    assert whole(world) == whole(edited(MAINZ, {"op": "fail_site", "site": "fra"}))


def test_a_cut_line_from_a_metro_straight_to_a_region_carries_nothing():
    """Mainz was measured straight to the region, 3 ms; cut, it goes over Frankfurt: 3 x 12 + 40 + 20 ms of prefill."""
    links = [link("metro:mainz", to, ms) for to, ms in (("aws:eu-central-1", 3), ("fra", 12), ("str", 90))]
    links.append(link("fra", "aws:eu-central-1", 40))
    world = World.of(MAINZ.all_sites, links, (pool("aws:eu-central-1", devices=2),), demand=MAINZ.demand, workload=workload())
    assert agree(world) == ("aws:eu-central-1",)
    cut = edited(world, {"op": "fail_link", "src": "aws:eu-central-1", "dst": "metro:mainz"})
    assert agree(cut) == ("fra",)
    assert whole(cut)[1] == pytest.approx(3 * 12 + 40 + 20, rel=0.01)
