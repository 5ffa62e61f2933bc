"""The planner: parts by hand, alternatives, backup, ties, front, infeasibility, and what must hold for any world."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import link, pool, site, workload

from records.access import MediumLink
from records.errors import UnknownSite, UserError
from records.histogram import Histogram
from records.units import MS
from routing.answer import PARTS, route_json, to_json
from routing.planner import Planner, plan
from routing.request import Request

SITES = {
    s.id: s
    for s in (
        site("sin", 1.35, 103.82),
        site("fra", 50.11, 8.68),
        site("iad", 39.04, -77.49),
        site("aws:us-east-1", 39.04, -77.49),
        site("gcp:us-east4", 39.04, -77.49),
        site("metro:jakarta", -6.2, 106.8, kind="metro"),
    )
}
LINKS = [
    link("sin", "aws:us-east-1", 250),
    link("sin", "fra", 150),
    link("fra", "aws:us-east-1", 80),
    link("sin", "gcp:us-east4", 240),
    link("sin", "iad", 230),
    link("iad", "gcp:us-east4", 1),
]
POOLS = [pool("aws:us-east-1"), pool("gcp:us-east4"), pool("fra", usd_per_hour=36.0)]


def price(site_id, scope, _month_gb):
    return {"internet": 0.1, "inter-region": 0.02, "direct-connect": 0.01}[scope] if ":" in site_id else None


def ask(links=LINKS, pools=POOLS, sites=SITES, **more):
    more.setdefault("source", "sin")
    more.setdefault("workload", workload())
    return plan(Request(**more), links=links, sites=sites, pools=pools, egress=price)


def ms_of(route):
    return {name: getattr(route.parts, name) / MS for name in PARTS}


def test_every_part_of_a_relayed_route_by_hand():
    """sin -> fra -> aws, cold: RTT 150 + 80 + 0.5 = 230.5; connect 461; halves of 230; prefill 10 + 10; 100 tokens at 1 ms."""
    (route,) = ask(destination="aws:us-east-1", k=1).routes
    assert route.sites == ("sin", "fra", "aws:us-east-1")
    assert ms_of(route) == pytest.approx(
        {"connect": 461, "upload": 115, "relay": 0.5, "queue": 0, "prefill": 20, "network": 115, "decode": 100}
    )
    assert route.rtt.p50_ns / MS == pytest.approx(230.5)
    assert route.ttft.p50_ns / MS == pytest.approx(461 + 115 + 0.5 + 20 + 115)
    assert route.e2e.p50_ns / MS == pytest.approx(811.5)
    assert "relay via fra saves 19.5 ms against direct" in route.reasons


def test_a_leg_of_which_only_the_median_is_known_says_so():
    """Its p95 is the least that it can be; one with a p95, or with samples, says nothing."""
    said = "leg sin → fra: how its RTT varies is not known; p95 and p99 are the least that they can be"
    (bare,) = ask(destination="aws:us-east-1", k=1).routes
    assert said in bare.reasons
    for known in ({"rtt_p95_ns": 160 * MS}, {"histogram": Histogram.of([150 * MS] * 20)}):
        (route,) = ask([LINKS[0], link("sin", "fra", 150, **known), *LINKS[2:]], destination="aws:us-east-1", k=1).routes
        assert route.sites == bare.sites
        assert said not in route.reasons


def test_a_warm_connection_saves_the_hand_shakes():
    """The same route without 2 x 230.5 ms."""
    (route,) = ask(destination="aws:us-east-1", k=1, connection="warm").routes
    assert route.ttft.p50_ns / MS == pytest.approx(250.5)


def test_the_relay_is_not_taken_when_none_is_allowed_or_it_costs_too_much():
    """relays=0 and a relay of 30 ms both leave the direct link."""
    assert ask(destination="aws:us-east-1", relays=0).routes[0].sites == ("sin", "aws:us-east-1")
    assert ask(destination="aws:us-east-1", relay_ms=30.0).routes[0].sites == ("sin", "aws:us-east-1")


def test_routes_differ_in_where_they_are_served_before_they_differ_in_the_way():
    """Three pools, three routes at three sites; with more asked for, other ways to the same sites."""
    answer = ask(k=3)
    assert [route.sites[-1] for route in answer.routes] == ["fra", "aws:us-east-1", "gcp:us-east4"]
    more = ask(k=9)
    assert len({route.sites for route in more.routes}) == len(more.routes) > 3


def test_cost_by_hand():
    """Device: 120 ms x 3.6 USD/h x 1000 / 3600 s = 0.12; egress: 50 kB x 1000 x 0.1 USD/GB = 0.005 USD per 1,000."""
    route = next(r for r in ask(k=3).routes if r.sites[-1] == "gcp:us-east4")
    assert route.cost.device_usd == pytest.approx(0.12)
    assert route.cost.egress_usd == pytest.approx(0.005)
    assert route.usd_per_1k == pytest.approx(0.125)


def test_a_region_that_relays_meters_both_ways_again():
    """The request (4 kB) leaves the relaying region, the answer (50 kB) leaves the serving and the relaying region."""
    sites = SITES | {"aws:eu-west-1": site("aws:eu-west-1", 53.3, -6.2)}
    links = [link("sin", "aws:eu-west-1", 150), link("aws:eu-west-1", "aws:us-east-1", 70), link("sin", "aws:us-east-1", 250)]
    (route,) = ask(links, sites=sites, destination="aws:us-east-1", k=1).routes
    assert route.sites == ("sin", "aws:eu-west-1", "aws:us-east-1")
    # 4 kB eu -> us and 50 kB us -> eu inside AWS at 0.02, 50 kB eu -> sin at 0.1 USD/GB; 1,000 requests.
    assert route.cost.egress_usd == pytest.approx(1000 / 1e9 * (4_000 * 0.02 + 50_000 * 0.02 + 50_000 * 0.1))


def test_a_private_link_is_priced_by_its_contract_else_by_the_regions_list_and_its_port_stands_beside():
    """50 MB for 1,000 answers leave AWS: at the contract's 0.004 USD/GB, at the list's 0.01 without one; 90 USD a month for the port."""
    links = [link("sin", "aws:us-east-1", 250, medium="direct-connect")]
    made = {"capacity_bps": None, "commitment_months": 0, "currency": "USD", "source": "test", "as_of": "2025"}
    for contract, per_gb in ((0.004, 0.004), (None, 0.01)):
        row = MediumLink(src="aws:us-east-1", dst="sin", medium="direct-connect", port_usd_per_month=90.0, usd_per_gb=contract, **made)
        for known, rent in (({(row.src, row.dst, row.medium): row}, 90.0), ({}, None)):
            planner = Planner(links, SITES, POOLS, egress=price, link_prices=known)
            (route,) = planner.plan(Request(source="sin", destination="aws:us-east-1", workload=workload(), k=1)).routes
            assert route.cost.egress_usd == pytest.approx(50_000 * 1000 / 1e9 * (per_gb if known else 0.01))
            assert route.cost.rent_usd_per_month == rent
            assert any("90.00 USD a month" in reason for reason in route.reasons) == bool(known)
    assert ask(destination="aws:us-east-1").routes[0].cost.rent_usd_per_month == 0.0


def test_an_unknown_price_is_unknown_and_never_the_cheapest():
    """Without a price the cost is None, says what is missing, ranks last by cost and stays off the front."""
    pools = [pool("fra", usd_per_hour=None), pool("gcp:us-east4")]
    answer = ask(pools=pools, objective="cost", k=2)
    assert [route.sites[-1] for route in answer.routes] == ["gcp:us-east4", "fra"]
    assert answer.routes[1].usd_per_1k is None
    assert any("cost unknown: no price for an hour of gpu at fra" in reason for reason in answer.routes[1].reasons)
    assert [point.pool for point in answer.pareto] == ["gcp:us-east4-pool"]


def test_objectives_disagree():
    """fra answers first and costs ten times as much; of the two that cost the same the faster one is taken; the front has both."""
    assert ask(objective="ttft").routes[0].sites[-1] == "fra"
    assert ask(objective="cost").routes[0].sites[-1] == "aws:us-east-1"
    front = ask(k=3).pareto
    assert [point.pool for point in front] == ["fra-pool", "aws:us-east-1-pool"]
    assert [p.ttft_ns for p in front] == sorted(p.ttft_ns for p in front)
    assert [p.usd_per_1k for p in front] == sorted((p.usd_per_1k for p in front), reverse=True)


def test_the_slow_token_rate_turns_e2e_against_ttft():
    """A near pool of 40 ms a token and a far one of 1 ms: near wins the first token, far the last."""
    pools = [pool("fra", alpha_ns=40 * MS), pool("gcp:us-east4")]
    assert ask(pools=pools, objective="ttft").routes[0].sites[-1] == "fra"
    assert ask(pools=pools, objective="e2e").routes[0].sites[-1] == "gcp:us-east4"


def test_the_backup_shares_no_site_and_where_it_can_no_provider():
    """Best aws via fra; the backup is served elsewhere, not over fra, and not by AWS."""
    pools = [pool("aws:us-east-1"), pool("gcp:us-east4", gamma_ns=40 * MS)]
    answer = ask(pools=pools)
    assert answer.routes[0].sites == ("sin", "fra", "aws:us-east-1")
    assert answer.backup.sites[-1] == "gcp:us-east4"
    assert "fra" not in answer.backup.sites
    assert "shares no site with the first route" in answer.backup.reasons


def test_a_backup_to_a_given_destination_takes_another_way():
    """The end is given, so the ways differ: over fra first, direct as the backup."""
    answer = ask(destination="aws:us-east-1")
    assert answer.backup.sites == ("sin", "aws:us-east-1")
    assert ask([link("sin", "aws:us-east-1", 250)], destination="aws:us-east-1").backup is None


def test_what_is_modelled_says_so_and_measured_only_refuses_it():
    """No measurement to iad: a modelled leg, named in evidence and reasons; refused when only measured will do."""
    answer = ask([link("sin", "gcp:us-east4", 400)], [pool("iad"), pool("gcp:us-east4")], k=2)
    first = answer.routes[0]
    assert (first.sites, first.legs[0].evidence) == (("sin", "iad"), "modelled")
    assert "leg sin → iad modelled: no measurement" in first.reasons
    assert any("ranked first on a model" in reason and "route 2 is measured throughout" in reason for reason in first.reasons)
    strict = ask([link("sin", "gcp:us-east4", 400)], [pool("iad"), pool("gcp:us-east4")], k=2, measured_only=True)
    assert [route.sites[-1] for route in strict.routes] == ["gcp:us-east4"]


def test_a_gated_measurement_is_named_as_the_reason_for_a_model():
    """An impossible row is not used, and the route says why its leg is modelled."""
    answer = ask([link("sin", "iad", 1, gate="faster_than_light")], [pool("iad")])
    assert any("kept out (least RTT below 98 % of the fibre floor" in reason for reason in answer.routes[0].reasons)


def test_modelled_legs_never_make_a_relay():
    """A slow measured link is not undercut by two modelled legs through a third place."""
    answer = ask([link("sin", "iad", 900)], [pool("iad")], k=5)
    assert [route.sites for route in answer.routes] == [("sin", "iad")]


def test_the_reverse_of_a_measured_link_is_assumed():
    """Only iad -> sin was measured: sin -> iad takes its RTT and says so."""
    (route,) = ask([link("iad", "sin", 222)], [pool("iad")]).routes
    assert (route.legs[0].evidence, route.rtt.p50_ns) == ("assumed", 222 * MS)
    assert "leg sin → iad assumed from the measured iad → sin" in route.reasons


def test_a_leg_of_hand_shakes_says_so():
    """Where no ping is answered the RTT is of TCP: named in the reasons and in the evidence; a ping's is not."""
    by_tcp, by_ping = (ask([link("sin", "iad", 222, rtt_from=of)], [pool("iad")]).routes[0] for of in ("tcp", "ping"))
    assert [reason for reason in by_tcp.reasons if "TCP hand-shakes, packet loss not known" in reason]
    assert not [reason for reason in by_ping.reasons if "TCP" in reason]
    assert route_json(by_tcp)["evidence"][0]["rtt_from"] == "tcp"


def test_a_metro_enters_at_a_pop_and_shakes_hands_there():
    """Jakarta -> sin -> fra, cold: the hand-shakes cross the access leg only."""
    links = [*LINKS, link("metro:jakarta", "sin", 20)]
    (route,) = ask(links, [pool("fra")], source="metro:jakarta", relays=0, k=1).routes
    assert route.sites == ("metro:jakarta", "sin", "fra")
    assert ms_of(route)["connect"] == pytest.approx(40)
    assert route.ttft.p50_ns / MS == pytest.approx(40 + 170 + 20)


def test_a_metro_without_measurements_enters_over_a_modelled_leg():
    """The access leg is modelled and marked; a region is never an ingress."""
    route = ask(source="metro:jakarta").routes[0]
    assert route.legs[0].evidence == "modelled"
    assert SITES[route.sites[1]].kind == "pop"


def test_a_pool_at_the_source_needs_no_network():
    """The user's own site serves: no leg, RTT 0, TTFT is prefill."""
    route = ask(source="fra").routes[0]
    assert (route.sites, route.legs, route.rtt.p50_ns) == (("fra",), (), 0)
    assert route.ttft.p50_ns / MS == pytest.approx(20)
    assert route.reasons[0] == "served at fra itself: no network leg"


def test_a_destination_without_a_pool_gives_the_network_alone():
    """iad serves nothing: RTT is known, TTFT, E2E and cost are unknown and not zero."""
    answer = ask(destination="iad", relays=0)
    (route,) = answer.routes
    found = to_json(answer)["routes"][0]
    assert route.pool is None
    assert found["rtt_ms"]["p50"] == 230
    assert found["ttft_ms"] == {"p50": None, "p95": None, "p99": None}
    assert (found["usd_per_1k"], found["parts"]["prefill"], found["parts"]["decode"]) == (None, None, None)
    assert any("no pool at iad serves m" in reason for reason in route.reasons)


def test_load_makes_requests_wait_and_a_full_pool_is_left_out():
    """At 60 of 66.7 requests/s the pool queues and says so; at 70 it is full and the other pool serves."""
    slow = [pool("fra", max_batch=8, alpha_ns=MS, delta_ns=0, gamma_ns=20 * MS), pool("gcp:us-east4", devices=4)]
    busy = ask(pools=slow, arrival_rps=60.0)
    assert busy.routes[0].sites[-1] == "fra"
    assert any("ms for a slot on average" in reason for reason in busy.routes[0].reasons)
    assert {route.sites[-1] for route in ask(pools=slow, arrival_rps=70.0).routes} == {"gcp:us-east4"}


# ---- uncertain and impossible


def test_links_the_samples_cannot_tell_apart_are_tied():
    """Two links whose medians differ by less than their samples can show are tied; with thousands of samples they are not."""

    def histogram(centre_ms, n):
        return Histogram.of([centre_ms * MS * (0.8 + 0.4 * i / n) for i in range(n)])

    def answer(n):
        links = [
            link("sin", "fra", 100, histogram=histogram(100, n), sample_count=n),
            link("sin", "iad", 106, histogram=histogram(106, n), sample_count=n),
        ]
        return ask(links, [pool("fra"), pool("iad")], relays=0, k=2)

    assert answer(10).ties == ((0, 1),)
    assert answer(5000).ties == ()


def test_a_shared_leg_does_not_tie_what_lies_behind_it():
    """The modelled access leg is the same for both, so 230 and 240 ms behind it stay apart."""
    links = [link("sin", "fra", 150), link("sin", "iad", 230)]
    sites = {name: SITES[name] for name in ("sin", "fra", "iad", "metro:jakarta")}
    sites["fra"], sites["iad"] = replace(sites["fra"], kind="region"), replace(sites["iad"], kind="region")
    answer = ask(links, [pool("fra"), pool("iad")], sites=sites, source="metro:jakarta", k=2)
    assert [route.sites[1:] for route in answer.routes] == [("sin", "fra"), ("sin", "iad")]
    assert answer.ties == ()


def test_profiles_of_stated_error_tie_what_is_closer_than_their_error():
    """Prefill 20 against 23 ms with 20 % error each: tied; with 1 % not."""
    for error, tied in ((0.2, ((0, 1),)), (0.01, ())):
        pools = [pool("fra", error_ratio=error), pool("fra", name="other", gamma_ns=13 * MS, error_ratio=error)]
        assert ask(pools=pools, source="fra", k=2).ties == tied


def test_a_budget_nobody_keeps_names_itself_and_what_would_help():
    """Budget 300 ms cold: no; a warm connection alone gives 250.5, two relays do not help, else a budget of 712 ms."""
    answer = ask(destination="aws:us-east-1", budget_ms=300)
    assert answer.routes == ()
    (binding,) = answer.infeasible.binding
    assert (binding.rule, binding.limit) == ("budget_ms", 300)
    assert binding.best == pytest.approx(711.5)
    assert {(r.rule, r.to) for r in answer.infeasible.relax} == {("connection", "warm"), ("budget_ms", 712)} - {("to", "any")}


def test_each_relaxation_offered_does_give_a_route():
    """Asking again with a relaxation applied is feasible; tightening the budget never brings a route."""
    request = {"destination": "aws:us-east-1", "budget_ms": 560.0, "relays": 0}
    answer = ask(**request)
    assert answer.infeasible is not None
    names = {"relays": "relays", "connection": "connection", "budget_ms": "budget_ms"}
    for change in answer.infeasible.relax:
        changed = request | ({"destination": None} if change.rule == "to" else {names[change.rule]: change.to})
        assert ask(**changed).routes, change
    assert not ask(**(request | {"budget_ms": 100.0})).routes


def test_a_model_nobody_serves_says_which_are():
    """The binding rule is the model."""
    answer = ask(workload=workload(model="other"))
    assert answer.infeasible.binding[0].rule == "model"
    assert [change.to for change in answer.infeasible.relax] == ["m"]


def test_every_pool_full_says_how_much_they_take():
    """The binding rule is the load, with the largest pool's rate."""
    answer = ask(pools=[pool("fra", devices=2)], arrival_rps=1000.0)
    (binding,) = answer.infeasible.binding
    # A slot is held 10 + 0.01 x 1000 x 8 + 100 = 190 ms at batch 8: 2 x 8 / 0.19 s.
    assert (binding.rule, binding.best) == ("arrival_rps", pytest.approx(84.21, abs=0.01))
    assert ask(pools=[pool("fra", devices=2)], arrival_rps=binding.best * 0.99).routes


def test_nothing_measured_with_measured_only_binds_on_links():
    """No usable link: allowing models would give a route."""
    answer = ask([], [pool("fra")], measured_only=True)
    assert answer.infeasible.binding[0].rule == "links"
    assert [(r.rule, r.to) for r in answer.infeasible.relax] == [("measured_only", "no")]


def test_unknown_places_and_values_out_of_range_are_the_users_mistake():
    """UnknownSite proposes; ranges say what is allowed."""
    with pytest.raises(UnknownSite, match=r"did you mean.*sin"):
        ask(source="sni")
    with pytest.raises(UnknownSite):
        ask(destination="mars")
    for wrong in (
        {"relays": 3},
        {"k": 0},
        {"objective": "best"},
        {"budget_ms": -1.0},
        {"cache_hit_ratio": 2.0},
        {"arrival_rps": float("nan")},
    ):
        with pytest.raises(UserError):
            Request(source="sin", workload=workload(), **wrong)


def test_the_json_is_the_contract_and_plain():
    """Keys as written in the contract; every number finite; the same seed gives the same bytes."""
    first, again = (json.dumps(to_json(ask(k=3)), allow_nan=False) for _ in range(2))
    assert first == again
    document = json.loads(first)
    assert list(document)[:7] == ["snapshot", "request", "routes", "ties", "backup", "pareto", "infeasible"]
    route = document["routes"][0]
    assert list(route)[:9] == ["sites", "pool", "rtt_ms", "ttft_ms", "e2e_ms", "usd_per_1k", "parts", "evidence", "reasons"]
    assert list(route["parts"]) == ["connect", "upload", "relay", "queue", "prefill", "network", "decode"]
    assert {"ttft_ms", "usd_per_1k", "route"} <= set(document["pareto"][0])
    assert {"src", "dst", "medium", "rtt_ms", "evidence", "gate", "fibre_floor_ms", "inflation"} <= set(route["evidence"][0])


# ---- for any world

NAMES = ("a", "b", "c", "d", "e")
PLACES = {name: site(name, 5.0 * i, 7.0 * i) for i, name in enumerate(NAMES)} | {
    "metro:m": site("metro:m", 1, 1, kind="metro"),
}


@st.composite
def worlds(draw):
    """Random measured links, some with spread, and pools at some sites."""
    pairs = draw(st.lists(st.sampled_from(list(itertools.permutations(NAMES, 2))), unique=True, max_size=14))
    links = []
    for src, dst in pairs:
        p50 = draw(st.integers(5, 300))
        spread = {"rtt_p95_ns": p50 * 2 * MS, "rtt_min_ns": p50 * MS // 2} if draw(st.booleans()) else {}
        links.append(link(src, dst, p50, loss_ratio=draw(st.sampled_from([None, 0.0, 0.01])), **spread))
    where = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))
    pools = [
        pool(place, name=f"p{i}", gamma_ns=draw(st.integers(0, 50)) * MS, usd_per_hour=draw(st.sampled_from([None, 1.0, 9.0])))
        for i, place in enumerate(where)
    ]
    return links, pools


@settings(max_examples=120, deadline=None)
@given(worlds(), st.sampled_from([*NAMES, "metro:m"]), st.integers(0, 2), st.sampled_from(["ttft", "e2e", "cost"]), st.integers(1, 4))
def test_what_holds_for_any_answer(world, source, relays, objective, k):
    """Routes start and end right, keep the relay limit, are ranked, distinct, and their parts add up."""
    links, pools = world
    answer = ask(links, pools, PLACES, source=source, relays=relays, objective=objective, k=k)
    assert 1 <= len(answer.routes) <= k
    keys = []
    for route in answer.routes:
        assert route.sites[0] == source
        assert route.sites[-1] == route.pool.site
        assert len(set(route.sites)) == len(route.sites)
        ends = 3 if source.startswith("metro:") else 2
        assert len(route.sites) <= ends + relays
        assert [(leg.src, leg.dst) for leg in route.legs] == list(itertools.pairwise(route.sites))
        parts = ms_of(route)
        assert all(value >= 0 for value in parts.values())
        assert sum(parts.values()) == pytest.approx(route.e2e.p50_ns / MS)
        assert sum(parts.values()) - parts["decode"] == pytest.approx(route.ttft.p50_ns / MS)
        assert route.ttft.p50_ns <= route.ttft.p95_ns <= route.ttft.p99_ns
        assert all(leg.evidence != "modelled" for leg in route.legs[1 if len(route.sites) > ends else len(route.legs) :])
        value = {"ttft": route.ttft.p50_ns, "e2e": route.e2e.p50_ns}.get(
            objective, float("inf") if route.usd_per_1k is None else route.usd_per_1k
        )
        keys.append(value)
    assert keys == sorted(keys)
    assert len({(route.sites, route.pool.id) for route in answer.routes}) == len(answer.routes)
    assert all(0 <= i < j < len(answer.routes) for i, j in answer.ties)
    if answer.backup is not None:
        assert not (set(answer.backup.sites) & set(answer.routes[0].sites)) - {source}
    for a, b in itertools.pairwise(answer.pareto):
        assert a.ttft_ns < b.ttft_ns
        assert a.usd_per_1k > b.usd_per_1k
    json.dumps(to_json(answer), allow_nan=False)


def constants(world):
    """The same world without spread, so that a route's median is the sum of its legs."""
    links, pools = world
    return [replace(found, rtt_p95_ns=None, rtt_min_ns=None, loss_ratio=None) for found in links], pools


@settings(max_examples=120, deadline=None)
@given(worlds(), st.sampled_from(NAMES), st.integers(0, 2), st.data())
def test_fewer_links_pools_or_relays_never_improve(world, source, relays, data):
    """Refusing models, removing a link, a pool, or a relay leaves the best TTFT as it was or worse, or nothing."""
    links, pools = constants(world)

    def least(links, pools, relays):
        answer = ask(links, pools, PLACES, source=source, relays=relays, measured_only=True, k=1)
        return answer.routes[0].ttft.p50_ns if answer.routes else float("inf")

    before = least(links, pools, relays)
    if links:
        gone = data.draw(st.sampled_from(links))
        fewer = [found for found in links if {found.src, found.dst} != {gone.src, gone.dst}]
        assert least(fewer, pools, relays) >= before - 1
    lost = data.draw(st.sampled_from(pools))
    assert least(links, [p for p in pools if p is not lost], relays) >= before - 1
    if relays:
        assert least(links, pools, relays - 1) >= before - 1


@settings(max_examples=80, deadline=None)
@given(worlds(), st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(0, 2))
def test_between_two_places_the_planner_and_the_matrix_agree(world, source, destination, relays):
    """Where the direct link was measured, the planner's least RTT is the matrix's best."""
    from routing.matrix import rows

    links, _ = constants(world)
    table = {(row.src, row.dst): row for row in rows(links, relays=relays)}
    row = table.get((source, destination))
    if source == destination or row is None or row.direct_ms is None:
        return
    answer = ask(links, [pool(destination)], PLACES, source=source, destination=destination, relays=relays, k=1)
    assert answer.routes[0].rtt.p50_ns / MS == pytest.approx(row.best_ms, abs=2e-6)
