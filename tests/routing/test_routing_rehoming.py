"""Users of a failed site: the law that held for them holds on; they enter at the nearest PoP that it allows, in routes and in fleets."""

from __future__ import annotations

from dataclasses import replace

import fleet_kit as kit
import pytest
from fleet_kit import placed
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import link, pool, workload

from records.residency import ResidencyRule, allows
from records.units import MS
from routing.fleet import FleetOptions, settle
from routing.media import fastest, rank_rtt_ns
from routing.modelled import model_link
from routing.outcome import measure
from routing.planner import no_price
from routing.reach import Reach
from routing.request import Request
from routing.scenario import FailSite, Scenario, apply, parse, planner_of, what_if
from routing.served import Failure, Serving
from routing.world import World

FAIL = Scenario(name="x", edits=(FailSite("fra"),))


def within(*countries, applies_to=("DE",), **more):
    """A rule that keeps everything but ciphertext in these countries."""
    here = frozenset(countries)
    values = {"process": here, "store": here, "transit_plaintext": here, "transit_ciphertext": None} | more
    words = dict.fromkeys(("title", "jurisdiction", "conditions", "in_force_from", "source", "as_of", "note"), "")
    return ResidencyRule(id="law", data_class="personal", applies_to=frozenset(applies_to), variant_of=None, **words, **values)


DE_ONLY = within("DE")


def germany(*, fra="DE", rule=DE_ONLY):
    """Zurich is the nearest to Frankfurt and Berlin is allowed; pools in both."""
    sites = {s.id: s for s in (placed("fra", 50, 8, fra), placed("zrh", 47, 8, "CH"), placed("ber", 52, 13, "DE"))}
    links = (link("fra", "zrh", 6), link("fra", "ber", 9), link("zrh", "ber", 13))
    pools = (pool("ber", devices=2), pool("zrh", devices=2))
    return World.of(sites, links, pools, demand={"fra": 4.0}, workload=workload(), residency=(rule,))


def same_ways(one, other):
    return (one.total_ms == other.total_ms).all() and (one.ingress == other.ingress).all()


@pytest.mark.parametrize("country", ["DE", None])
def test_the_rule_of_their_country_holds_where_they_enter(country):
    """Frankfurt fails: its users are served in Berlin, 9 ms away, and not in Zurich; of users of an unknown country every rule holds."""
    world = germany(fra=country)
    request = Request(source="fra", workload=world.workload, residency=world.residency)
    found = what_if(FAIL, world, request)
    assert (found.rehome.dst, found.after.routes[0].sites) == ("ber", ("ber",))
    assert [price.rule for price in found.after.rule_prices] == ["residency:law"]
    effect = Failure("fra", Serving(world)).effect(request)
    assert (effect.rehome, effect.after.sites) == (found.rehome, ("ber",))
    (place,) = measure(settle(apply(FAIL, world))).places
    assert (place.lost_share, place.ingress, place.served[0][0]) == (0.0, ("ber",), "ber-pool")
    # From what was known of the world before, too.
    assert same_ways(Reach(world, ["ber", "zrh"]).without({"fra"}), Reach(apply(FAIL, world), ["ber", "zrh"]))


def test_people_of_another_country_are_not_bound_and_those_without_a_pop_are_lost():
    """Data of people in Switzerland go to Zurich, the nearest; where only France is allowed there is nowhere to enter."""
    world = germany()
    swiss = Request(source="fra", workload=world.workload, residency=world.residency, subject_country="CH")
    assert what_if(FAIL, world, swiss).after.routes[0].sites == ("zrh",)
    nowhere = germany(rule=within("FR"))
    request = Request(source="fra", workload=world.workload, residency=nowhere.residency)
    found = what_if(FAIL, nowhere, request)
    assert (found.after, found.rehome) == (None, None)
    assert Failure("fra", Serving(nowhere)).effect(request).after is None
    assert measure(settle(apply(FAIL, nowhere))).lost_share == 1.0


@pytest.mark.parametrize("country", ["CH", None])
@pytest.mark.parametrize("mode", ["forward", "terminate"])
def test_users_at_a_pop_pass_it_unread(country, mode):
    """Data of people at Frankfurt's PoP, wherever that is, may be read in Germany only: Berlin serves them, as it does a route."""
    world = germany(fra=country, rule=within("DE", applies_to=("CH",)))
    route = planner_of(world, no_price, 0, None).plan(
        Request(source="fra", workload=world.workload, residency=world.residency, relay_mode=mode)
    )
    (place,) = measure(settle(world, FleetOptions(relay_mode=mode))).places
    assert route.routes[0].sites == ("fra", "ber")
    assert (place.lost_share, place.served[0][0]) == (0.0, "ber-pool")
    assert place.ttft_p50_ns == pytest.approx(route.routes[0].ttft.p50_ns, rel=0.01)


@pytest.mark.parametrize("measured", [(), (link("metro:mainz", "fra", 5),), (link("fra", "metro:mainz", 5),)])
def test_a_pop_that_may_serve_and_not_pass_on_serves_its_metro(measured):
    """Nothing is passed on where it is served: Frankfurt serves Mainz, however their line is known, and nobody enters there for Berlin."""
    rule = within("DE", transit_plaintext=frozenset({"CH"}))
    world = germany(rule=rule)
    sites = world.all_sites | {"metro:mainz": placed("metro:mainz", 50, 8.2, "DE", kind="metro")}
    world = replace(world, all_sites=sites, all_links=(*world.all_links, *measured), demand={"metro:mainz": 1.0})
    request = Request(source="metro:mainz", workload=world.workload, residency=world.residency)
    for pools, way in (((pool("fra"), pool("ber")), ("metro:mainz", "fra")), ((pool("ber"),), ("metro:mainz", "ber"))):
        over = replace(world, all_pools=pools)
        (best, *_) = planner_of(over, no_price, 0, None).plan(request).routes
        (place,) = measure(settle(over)).places
        assert (best.sites, place.ingress) == (way, way[1:])
        assert place.ttft_p50_ns == pytest.approx(best.ttft.p50_ns, rel=0.02)


def test_they_go_by_the_links_as_the_scenario_has_them():
    """The line to Zurich is slowed, or cut, in the same scenario: Berlin is the nearest."""
    world = germany(rule=within("DE", "CH"))
    request = Request(source="fra", workload=world.workload)
    assert what_if(FAIL, world, request).rehome.dst == "zrh"
    for edit in ({"op": "degrade", "src": "fra", "dst": "zrh", "add_ms": 50}, {"op": "fail_link", "src": "fra", "dst": "zrh"}):
        scenario = parse({"name": "x", "edits": [edit, {"op": "fail_site", "site": "fra"}]})
        assert what_if(scenario, world, request).rehome.dst == "ber"
        assert measure(settle(apply(scenario, world))).places[0].ingress == ("ber",)


LANDS = st.none() | st.frozensets(st.sampled_from(["DE", "FR", "US", "SG"]), min_size=1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), plaintext=LANDS, applies=LANDS, also=st.sampled_from([(), ("p2",), ("p2", "p3")]))
def test_all_demand_and_a_request_re_home_to_the_nearest_pop_by_enumeration(seed, plaintext, applies, also):
    """p1 fails, alone or with others; of the PoPs that stand and are allowed, the one with the least RTT, measured, assumed or modelled."""
    rule = within(applies_to=applies or (), process=None, store=None, transit_plaintext=plaintext)
    world = replace(kit.random_world(seed, places=1), residency=(rule,), demand={"p1": 2.0})
    after = apply(Scenario(name="x", edits=tuple(FailSite(name) for name in ("p1", *also))), world)
    binds = world.sites["p1"].country in rule.applies_to
    pairs = fastest(world.links)
    legs = {
        pop.id: rank_rtt_ns(pairs.get(("p1", pop.id)) or pairs.get((pop.id, "p1")) or model_link(world.sites["p1"], pop))
        for pop in after.sites.values()
        if pop.kind == "pop" and not (binds and not allows(rule, "transit_plaintext", pop.country))
    }
    nearest = min(legs, key=legs.__getitem__, default=None)
    reach = Reach(after, ["p0", "p4"])
    (row,) = reach.access_ms
    entered = {reach.infra[at]: ms for at, ms in enumerate(row.tolist()) if ms < float("inf")}
    assert entered == ({} if nearest is None else {nearest: legs[nearest] / MS})
    assert same_ways(Reach(world, ["p0", "p4"]).without({"p1", *also}), reach)
    scenario = Scenario(name="x", edits=tuple(FailSite(name) for name in ("p1", *also)))
    found = what_if(scenario, world, Request(source="p1", workload=world.workload, residency=(rule,), k=1))
    assert (found.rehome and found.rehome.dst) == nearest
    if found.after is not None:
        assert bool(found.after.rule_prices) == (binds and bool(found.after.routes))
