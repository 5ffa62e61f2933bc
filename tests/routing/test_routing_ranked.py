"""What is not drawn changes no answer: the order, the front and the backup are those of drawing every candidate."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import link, pool, site, workload
from test_routing_planner import NAMES, PLACES, POOLS, SITES, price, worlds

from records.histogram import Histogram
from records.units import MS
from routing.evaluate import Ranked
from routing.planner import Planner
from routing.quantiles import DRAWS, least_draw_ns, link_draws_ns
from routing.request import Request


@st.composite
def requests(draw) -> Request:
    return Request(
        source=draw(st.sampled_from([*NAMES, "metro:m"])),
        workload=workload(upload_bytes=draw(st.sampled_from([400, 40_000, 3_000_000]))),
        objective=draw(st.sampled_from(["ttft", "e2e", "cost"])),
        relays=draw(st.integers(0, 2)),
        relay_mode=draw(st.sampled_from(["forward", "terminate"])),
        connection=draw(st.sampled_from(["cold", "warm"])),
        arrival_rps=draw(st.sampled_from([0.0, 2.0])),
        share_bps=draw(st.sampled_from([None, 5e6])),
        k=draw(st.integers(1, 4)),
    )


@settings(max_examples=80, deadline=None)
@given(worlds(), requests())
def test_the_order_and_the_front_are_those_of_drawing_all(world, request):
    links, pools = world
    planner = Planner(links, PLACES, pools, egress=price)
    every = planner.candidates(request)
    assert all(c.least_ttft_ns <= c.ttft_p50_ns for c in every)
    assert list(Ranked(planner.candidates(request), request)) == sorted(every, key=lambda c: c.objective(request))
    answer = planner.plan(request)
    priced = [(c.ttft_p50_ns, c.usd_per_1k) for c in every if c.usd_per_1k is not None]
    front = {a for a in priced if not any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in priced)}
    assert {(point.ttft_ns, point.usd_per_1k) for point in answer.pareto} == front


@given(
    st.one_of(st.none(), st.integers(1, 300)),
    st.integers(1, 300),
    st.one_of(st.none(), st.integers(1, 900)),
    st.lists(st.integers(1, 10**9), max_size=30),
    st.sampled_from(["measured", "modelled"]),
    st.integers(0, DRAWS - 1),
)
@settings(max_examples=200, deadline=None)
def test_no_more_draws_than_said_are_below(least, p50, p95, samples, evidence, rank):
    """By counting the draws."""
    if evidence == "modelled" and p95 is not None:
        p95 += p50  # a model's quantiles rise
    known = link(
        "a",
        "b",
        p50,
        rtt_min_ns=None if least is None else least * MS,
        rtt_p95_ns=None if p95 is None else p95 * MS,
        histogram=Histogram.of(samples) if samples and evidence == "measured" else None,
        evidence=evidence,
        fibre_floor_ns=3 * MS if evidence == "modelled" else None,
    )
    draws = link_draws_ns(known, 1)
    value = least_draw_ns(known, rank)
    assert (draws < value).sum() <= rank
    assert value >= sorted(draws)[rank] * (1 - 1e-9)  # and it is that draw, not some value below all of them


def in_metros(**metro_of: str):
    return SITES | {name: replace(SITES[name], metro=metro, country="XX") for name, metro in metro_of.items()}


def ask(sites, groups=None, pools=POOLS, **more):
    links = [
        link("sin", "fra", 100),
        link("sin", "aws:us-east-1", 250),
        link("sin", "gcp:us-east4", 240),
        link("sin", "iad", 230),
        link("iad", "gcp:us-east4", 1),
    ]
    return Planner(links, sites, pools, egress=price, groups=groups).plan(Request(source="sin", workload=workload(), **more))


def test_a_backup_leaves_the_metro_and_the_groups_of_the_first_route():
    """fra serves first. gcp is next and stays the backup until it shares fra's metro, or a cable with it; then aws is."""
    assert ask(SITES).backup.sites[-1] == "gcp:us-east4"
    for answer in (
        ask(in_metros(**{"fra": "rhein", "gcp:us-east4": "rhein"})),
        ask(SITES, {"fra": {"cable"}, "gcp:us-east4": {"cable", "other"}}),
    ):
        assert answer.backup.sites[-1] == "aws:us-east-1"
        assert (answer.backup.disjoint.providers, answer.backup.disjoint.groups) == ((), ())


def test_a_backup_that_cannot_leave_a_group_says_which_it_shares():
    """Only gcp is left, of fra's metro: better than none, and it says so; the ends' own group is nobody's fault."""
    pools = [found for found in POOLS if found.site != "aws:us-east-1"]
    sites = in_metros(fra="rhein", **{"gcp:us-east4": "rhein"})
    answer = ask(sites, pools=pools)
    assert answer.backup.disjoint.groups == ("metro:XX/rhein",)
    assert "shares no site with the first route, but its risk group metro:XX/rhein" in answer.backup.reasons
    same = ask(in_metros(sin="rhein", fra="rhein", **{"gcp:us-east4": "rhein"}), pools=pools)
    assert same.backup.disjoint.groups == ()


def test_providers_are_left_before_groups():
    """First gcp:us-east4. One backup shares the provider, one the group: the second is taken; both are named where both are shared."""
    sites = {s.id: s for s in (site("sin"), site("gcp:us-east4"), site("gcp:us-west1"), site("aws:us-east-1"))}
    links = [link("sin", "gcp:us-east4", 10), link("sin", "gcp:us-west1", 20), link("sin", "aws:us-east-1", 30)]
    pools = [pool(name) for name in sites if ":" in name]
    grouped = {"gcp:us-east4": {"x"}, "aws:us-east-1": {"x"}}
    found = Planner(links, sites, pools, groups=grouped).plan(Request(source="sin", workload=workload()))
    assert found.backup.sites == ("sin", "aws:us-east-1")
    assert (found.backup.disjoint.providers, found.backup.disjoint.groups) == ((), ("x",))
    left = Planner(links[:2], sites, pools[:2], groups={name: {"x"} for name in sites}).plan(Request(source="sin", workload=workload()))
    assert (left.backup.disjoint.providers, left.backup.disjoint.groups) == (("gcp",), ())  # the source is in x too
