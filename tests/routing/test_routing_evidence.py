"""One rule of evidence: after every edit, all demand goes the way that the planner says for a single request."""

from __future__ import annotations

import math
from dataclasses import replace

import fleet_kit as kit
import pytest
from fleet_kit import placed
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import link, pool, workload

from records.units import MS
from routing.fleet import FleetOptions, legs_of, settle
from routing.media import rank_rtt_ns
from routing.modelled import model_link
from routing.network import Network
from routing.outcome import Cache, measure
from routing.planner import no_price
from routing.reach import Reach
from routing.request import Request
from routing.scenario import apply, parse, planner_of
from routing.world import World


def edited(world, *edits, **more):
    return apply(parse({"name": "t", "edits": list(edits), **more}, known=world.all_sites), world)


def whole(world, **options):
    """(ingress, median TTFT in ms) of the only place with users, as all demand settles."""
    outcome = measure(settle(world, FleetOptions(**options)), Cache(0, 2048))
    return outcome.places[0].ingress, None if outcome.ttft_p50_ns is None else outcome.ttft_p50_ns / MS


def planned(world, **options):
    """(ingress, median TTFT in ms) of a request from there, as the planner says over the same world."""
    (source,) = world.demand
    routes = planner_of(world, no_price, 0, None).plan(Request(source=source, workload=world.workload, relays=1, **options)).routes
    metro = world.all_sites[source].kind == "metro"
    return (routes[0].sites[metro : metro + 1], routes[0].ttft.p50_ns / MS) if routes else ((), None)


def agree(world, **options):
    """The ingress, after holding all demand against the planner; a median of sums is no sum of medians, hence 5 %."""
    (where, took), (entry, ms) = whole(world, **options), planned(world, **options)
    assert where == entry
    assert took == pytest.approx(ms, rel=0.05)
    return where


def fares_as_planned(world, **options):
    """The way of all demand has the TTFT that the planner says of that way, and none of the planner's is much better.

    The fleet ranks ways by sums of medians, the planner by the median of the sum: which of two near equals is taken may differ.
    """
    fleet = settle(world, FleetOptions(**options))
    planner = planner_of(world, no_price, 0, None)
    request = Request(source=fleet.reach.places[0], workload=world.workload, relays=1, **options)
    best = planner.best(request)
    assert (best is None) == (not fleet.serves())
    for m, p in fleet.serves():
        sites = (request.source, *(leg.dst for leg in legs_of(fleet.reach, m, int(fleet.column[p]))))
        (same,) = {c.ttft_p50_ns for c in planner.candidates(request) if (c.path.sites, c.pool) == (sites, fleet.pools[p])}
        took = measure(fleet, Cache(0, 2048)).ttft_p50_ns
        assert took == pytest.approx(same, rel=0.02)
        assert best.ttft_p50_ns <= took * 1.02
        assert took <= best.ttft_p50_ns * 1.25


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


def one_way(src, dst):
    """Frankfurt and the region at 80 ms, measured in one direction; all demand of Mainz is served in the region."""
    links = (link(src, dst, 80), link("metro:mainz", "fra", 5), link("metro:mainz", "str", 9000))
    return World.of(MAINZ.all_sites, links, (pool("aws:eu-central-1", devices=4),), demand=MAINZ.demand, workload=workload())


@pytest.mark.parametrize("pair", [("fra", "aws:eu-central-1"), ("aws:eu-central-1", "fra")])
@pytest.mark.parametrize("edit", [{"src": "fra", "dst": "aws:eu-central-1"}, {"src": "aws:eu-central-1", "dst": "fra"}])
def test_a_pair_measured_in_one_direction_is_degraded_in_both(pair, edit):
    """An RTT crosses both: 3 x 5 + 80 + 20 ms; five times as slow, 3 x 5 + 400 + 20, whichever direction was measured; twice, 25 times."""
    world = one_way(*pair)
    for times in range(3):
        took = whole(world)[1]
        assert agree(world) == ("fra",)
        assert took == pytest.approx(3 * 5 + 80 * 5**times + 20, rel=0.01)
        world = edited(world, {"op": "degrade", "rtt_factor": 5} | edit)


def test_a_direction_assumed_after_a_degradation_relays_no_more_than_before():
    """Relays are sought over what was measured: slowing a pair makes no relay of the direction that nobody measured."""
    sites = {s.id: s for s in (placed("a", 0, 0, "DE"), placed("b", 0, 50, "DE"), placed("c", 0, 100, "DE"))}
    world = World.of(
        sites, (link("b", "a", 9), link("b", "c", 9), link("a", "c", 500)), (pool("c"),), demand={"a": 1.0}, workload=workload()
    )
    for each in (world, edited(world, {"op": "degrade", "src": "a", "dst": "b", "add_ms": 1})):
        assert agree(each) == ("a",)
        assert whole(each)[1] == pytest.approx(3 * 500 + 20, rel=0.01)


def test_a_model_given_for_one_direction_leaves_the_other_no_faster():
    """Ten times as slow, whichever of two given models is looked at; the way there and back is the same."""
    world = edited(MAINZ, {"op": "degrade", "site": "str", "rtt_factor": 10})
    kept = tuple(found for found in world.all_links if (found.src, found.dst) != ("str", "metro:mainz"))
    again = edited(replace(world, all_links=kept), {"op": "degrade", "site": "str", "rtt_factor": 1, "add_ms": 7})
    network = Network(again.links, again.sites)
    model_ms = model_link(MAINZ.sites["str"], MAINZ.sites["metro:mainz"]).rtt_p50_ns / MS
    assert network.leg("metro:mainz", "str").rtt_p50_ns / MS == pytest.approx(10 * model_ms + 7)
    assert network.leg("str", "metro:mainz").rtt_p50_ns / MS == pytest.approx(model_ms + 7)


@pytest.mark.parametrize(("upload_bytes", "windows"), [(4000, 0), (40_000, 1), (100_000, 2)])
def test_relays_that_end_connections_are_priced_as_the_planner_prices_them(upload_bytes, windows):
    """15 ms straight, or 10 + 10 over a relay. Cold, forwarded: 3 x 15 is least; where the relay ends it: 3 x 10 + 10 + 0.5.

    Each window of slow start waits for every leg once more, so that the straight way is less again.
    """
    sites = {s.id: s for s in (placed("a", 0, 0, "DE"), placed("b", 0, 5, "DE"), placed("c", 0, 9, "DE"))}
    asked = workload(upload_bytes=upload_bytes)
    world = World.of(sites, (link("a", "b", 10), link("b", "c", 10), link("a", "c", 15)), (pool("c"),), demand={"a": 0.01}, workload=asked)
    straight, over_b = (3 + windows) * 15, (3 + windows) * 10 + (1 + windows) * 10 + 0.5
    for mode, ms in (("forward", straight), ("terminate", min(straight, over_b))):
        assert agree(world, relay_mode=mode) == ("a",)
        assert whole(world, relay_mode=mode)[1] == pytest.approx(ms + 20, abs=0.1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), source=st.sampled_from(["p1", "metro:m0"]), size=st.sampled_from([4000, 60_000]))
def test_where_relays_end_connections_a_trickle_fares_as_the_planner_says(seed, source, size):
    """The median TTFT, and what is known of the world before a failure is what a world made anew has."""
    world = kit.random_world(seed, places=2, pops=5, regions=2)
    links = tuple(replace(found, throughput_bps=1e8) if at % 3 == 0 else found for at, found in enumerate(world.all_links))
    world = replace(world, demand={source: 0.01}, all_links=links, workload=workload(upload_bytes=size))
    fares_as_planned(world, relay_mode="terminate")
    serving = sorted({each.site for each in world.pools})
    for gone in ({"p1"}, {"p2"}, {"p1", "p2"}):
        step = Reach(world, serving, relay_mode="terminate").without(gone)
        anew = Reach(replace(world, down=frozenset(gone)), serving, relay_mode="terminate")
        assert step.total_ms.tolist() == anew.total_ms.tolist()


@st.composite
def small_worlds(draw):
    """Two metros, five PoPs, two regions and any edit; links measured in either direction or not at all, one place with users."""
    world = kit.random_world(draw(st.integers(0, 10_000)), places=2, pops=5, regions=2)
    infra = [name for name, site in world.all_sites.items() if site.kind != "metro"]
    a, b = draw(st.permutations(infra))[:2]
    metro = draw(st.sampled_from(["metro:m0", "metro:m1"]))
    source = draw(st.sampled_from([metro, "p1"]))
    turned = draw(st.sets(st.integers(0, 40), max_size=20))
    links = tuple(
        replace(found, src=found.dst, dst=found.src) if at in turned and found.src.startswith("metro:") else found
        for at, found in enumerate(world.all_links)
    )
    slow = draw(st.sampled_from([{"rtt_factor": 4}, {"add_ms": 150}, {"rtt_factor": 0.5}]))
    pairs = [{"src": src, "dst": dst} for src, dst in ((a, b), (metro, a), (a, metro))]
    sites = [{"site": name} for name in (a, metro)]
    edits = [
        *({"op": "degrade"} | slow | where for where in (*pairs, *sites)),
        *({"op": "fail_link"} | where for where in pairs),
        {"op": "fail_site", "site": a},
        {"op": "remove_site", "site": a},
        {"op": "fail_group", "group": "g"},
    ]
    allowed = [edit for edit in edits if a != source or edit["op"] in ("degrade", "fail_link")]
    chosen = draw(st.lists(st.sampled_from(allowed), max_size=2, unique_by=lambda edit: edit["op"]))
    chosen.sort(key=lambda edit: edit["op"] == "remove_site")  # what is gone is not edited
    groups = {"g": {"sites": [] if a == source else [a], "links": [[metro, b]]}}
    return edited(replace(world, all_links=links, demand={source: 0.01}), *chosen, groups=groups)


@settings(max_examples=150, deadline=None)
@given(small_worlds(), st.sampled_from(["forward", "terminate"]))
def test_all_demand_crosses_what_the_planners_network_names(world, mode):
    """By medians, exactly: the least over the candidate paths of the edited world, hand-shakes counted; the legs are those, too."""
    reach = Reach(world, sorted({each.site for each in world.pools}), relay_mode=mode)
    network = Network(world.links, world.sites, cut=world.cut)
    (source,), first, m = reach.places, 3, 0
    for s, target in enumerate(reach.serving):
        onward = 1 if reach.enters(m) or mode == "terminate" else first

        def cost(way, onward=onward):
            return (first * way.first_ns + onward * (way.rest_ns + way.relays * 0.5 * MS)) / MS

        paths = network.shortlist(source, target, relays=1, cost=cost, most=1)
        found = reach.total_ms[m, s]
        if not paths:
            assert math.isinf(found)
            continue
        (path,) = paths
        behind = sum(rank_rtt_ns(leg) / MS for leg in path.legs[1:]) + 0.5 * len(path.relays)
        assert found == pytest.approx(first * rank_rtt_ns(path.legs[0]) / MS + onward * behind if path.legs else 0.0, abs=1e-5)
        legs = legs_of(reach, m, s)
        assert sum(map(rank_rtt_ns, legs)) == pytest.approx(sum(map(rank_rtt_ns, path.legs)), abs=1e3)


@settings(max_examples=25, deadline=None)
@given(small_worlds())
def test_a_trickle_of_demand_fares_as_the_planner_says(world):
    """The median TTFT of all demand, where there is next to none, is that of the planner's first route over the edited world."""
    fares_as_planned(world)
