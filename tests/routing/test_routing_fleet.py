"""All demand at once: its ways against networkx and the planner, failures from what is known against worlds made anew."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import fleet_kit as kit
import networkx as nx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from routing_kit import link, pool, workload

from app.answers import prices_of
from app.memory import memory_of
from app.pools import processes
from inventory.load import load
from records.errors import UserError
from records.units import MS
from routing.bill import tiered_usd
from routing.compare import compare_outcomes, lost_without, single_points
from routing.fleet import FleetOptions, settle
from routing.harm import SWEEP_DRAWS, groups_of, pairs_of, rank, single_losses
from routing.latency import transfer_ns
from routing.load import solve_split
from routing.media import fastest, rank_rtt_ns
from routing.mixture import quantiles
from routing.modelled import model_link
from routing.outcome import Cache, measure, measure_places
from routing.planner import Planner
from routing.reach import Reach, upload_windows
from routing.request import Request
from routing.resplit import mend
from routing.world import World

SEEDS = st.integers(0, 10_000)


def onward_by_networkx(world, src, dst, relay_ms=0.5):
    """Least RTT in ms from a PoP or region over at most one relay of measured links, else the reverse, else the model."""
    graph = nx.DiGraph()
    graph.add_nodes_from((src, dst))
    for (a, b), found in fastest(world.links).items():
        if all(world.all_sites[end].kind != "metro" for end in (a, b)):
            graph.add_edge(a, b, ms=rank_rtt_ns(found) / MS)
    if src == dst:
        return 0.0
    if graph.has_edge(src, dst):
        direct = graph[src][dst]["ms"]
    elif graph.has_edge(dst, src):
        direct = graph[dst][src]["ms"]
    elif (src, dst) in world.cut:
        direct = math.inf
    else:
        direct = model_link(world.sites[src], world.sites[dst]).rtt_p50_ns / MS
    relayed = [
        graph[src][k]["ms"] + graph[k][dst]["ms"] + relay_ms
        for k in graph.successors(src)
        if k not in (src, dst) and graph.has_edge(k, dst)
    ]
    return min([direct, *relayed])


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_the_ways_are_those_of_networkx(seed):
    """3 x access + onward over every PoP, by enumeration; a PoP's own users cross the whole way three times."""
    world = kit.random_world(seed)
    serving = sorted({p.site for p in world.pools})
    reach = Reach(world, serving)
    legs = fastest(world.links)
    for m, name in enumerate(reach.places):
        for s, target in enumerate(serving):
            if world.sites[name].kind != "metro":
                expected = 3 * onward_by_networkx(world, name, target)
            else:
                ways = []
                for pop in (site for site in world.sites.values() if site.kind == "pop"):
                    known = legs.get((name, pop.id)) or legs.get((pop.id, name))
                    access = rank_rtt_ns(known or model_link(world.sites[name], pop)) / MS
                    ways.append(3 * access + onward_by_networkx(world, pop.id, target))
                straight = legs.get((name, target))
                if straight is not None and world.sites[target].kind == "region":
                    ways.append(3 * rank_rtt_ns(straight) / MS)
                expected = min(ways)
            assert reach.total_ms[m, s] == pytest.approx(expected, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.data())
def test_failures_from_what_is_known_equal_a_world_made_anew(seed, data):
    """without(sites) has the ways, and the costs, of Reach over the world in which they are down."""
    world = kit.random_world(seed)
    serving = sorted({p.site for p in world.pools})
    whole = Reach(world, serving)
    gone = frozenset(data.draw(st.lists(st.sampled_from(whole.infra), min_size=1, max_size=3)))
    step = whole.without(gone)
    anew = Reach(replace(world, down=gone), serving)
    assert np.array_equal(step.total_ms, anew.total_ms)
    for m in range(len(whole.places)):
        for s in range(len(serving)):
            if np.isfinite(anew.total_ms[m, s]):
                assert step.hop(m, s) == anew.hop(m, s)
    again = whole.without(frozenset(list(gone)[:1])).without(gone)
    assert np.array_equal(again.total_ms, anew.total_ms)


@pytest.mark.parametrize("down", [frozenset(), frozenset({"p1"}), frozenset({"p2"})])
def test_users_of_a_failed_site_move_on_when_the_next_one_fails_too(down):
    """However two failures come one after the other, before the world is made or after: as a world in which both are down."""
    world = kit.random_world(1107)
    serving = sorted({p.site for p in world.pools})
    anew = Reach(replace(world, down=frozenset({"p1", "p2"})), serving)
    for first, second in (("p1", "p2"), ("p2", "p1")):
        step = Reach(replace(world, down=down), serving).without({first}).without({second})
        assert np.array_equal(step.total_ms, anew.total_ms)


@given(seed=SEEDS, sizes=st.lists(st.sampled_from([0, 1, 14_600, 14_601, 43_800, 43_801, 10**6]), min_size=2, max_size=2))
@settings(max_examples=15, deadline=None)
def test_what_another_workload_reaches_is_taken_where_sizes_cross_as_often(seed, sizes):
    """Uploads that wait for as many windows of slow start have one Reach; the outcome is that of a world looked at anew either way."""
    worlds = [replace(kit.random_world(seed), workload=workload(upload_bytes=size, ttft_budget_ns=300 * MS)) for size in sizes]
    worlds[1] = replace(worlds[0], workload=worlds[1].workload)
    first = settle(worlds[0])
    found, anew = settle(worlds[1], beside=[first.reach]), settle(worlds[1])
    assert (found.reach is first.reach) == (upload_windows(sizes[0]) == upload_windows(sizes[1]))
    assert np.array_equal(found.reach.total_ms, anew.reach.total_ms)
    assert measure(found) == measure(anew)


@given(seed=st.integers(0, 10_000), factor=st.sampled_from([0.5, 1.0, 3.0]), mode=st.sampled_from(["any", "edge", "cloud"]))
@settings(max_examples=15, deadline=None)
def test_what_is_known_of_the_network_serves_other_loads_modes_and_prices(seed, factor, mode):
    """Reach is taken over from the state before, or given, and the outcome is that of a world looked at anew."""
    before = settle(kit.random_world(seed))
    world = replace(before.world, demand={name: factor * rps for name, rps in before.world.demand.items()}, mode=mode)
    with_it = settle(world, reach=before.reach)
    assert with_it.reach is settle(world, before=before).reach is before.reach
    assert measure(with_it) == measure(settle(world))


@pytest.mark.parametrize(("seed", "spread"), [(1, 0.5), (2, 3.0), (3, 0.0)])
def test_quantiles_of_a_large_mixture_are_those_of_all_its_draws_in_order(seed, spread):
    """20,480 draws of 40 flows, wide, narrow and all equal: the least value with half (95 %) of the weight at or below it."""
    rng = np.random.default_rng(seed)
    flows = [(float(rng.uniform(0.1, 9)), np.exp(rng.normal(18, spread, 512)).round()) for _ in range(40)]
    drawn = sorted((value, rate / 512) for rate, draws in flows for value in draws.tolist())
    total = math.fsum(weight for _, weight in drawn)
    for q, got in zip((0.5, 0.95), quantiles(flows), strict=True):
        reached = itertools.accumulate(weight for _, weight in drawn)
        assert got == next(value for (value, _), sofar in zip(drawn, reached, strict=True) if sofar >= q * total * (1 - 1e-12))


def test_places_alone_are_those_of_the_whole():
    """Without what all places come to, the places are the same."""
    fleet = settle(kit.random_world(5))
    assert measure_places(fleet) == measure(fleet).places


@pytest.mark.parametrize("change", [{"down": frozenset({"p1"})}, {"cut": frozenset({("p0", "p1")})}, {"demand": {"p1": 1.0}}])
def test_another_network_is_looked_at_anew(change):
    """A site down, a link cut, other places with users: what was known does not hold."""
    before = settle(kit.random_world(3))
    assert settle(replace(before.world, **change), before=before).reach is not before.reach


@pytest.mark.parametrize("size", [0, 1, 14_600, 14_601, 43_800, 43_801, 200_000, 2_000_000])
def test_upload_windows_are_those_of_slow_start(size):
    """Against routing.latency: what a transfer waits for at an unlimited rate, in round trips."""
    assert upload_windows(size) == transfer_ns(size, 100.0 * MS) / (100 * MS)


@settings(max_examples=8, deadline=None)
@given(SEEDS)
def test_one_place_alone_is_served_as_the_planner_says(seed):
    """A trickle of demand from one place: the same TTFT at p50 as the planner's first route, to 2 %."""
    world = kit.random_world(seed, places=1)
    world = replace(world, demand={"metro:m0": 1e-6})
    outcome = measure(settle(world), Cache(draws=4096))
    answer = Planner(world.links, world.sites, world.pools).plan(Request(source="metro:m0", workload=world.workload, k=1))
    # The fleet ranks ways by medians of legs; the planner by the median of the sum: the planner is never later by more than noise.
    assert answer.routes[0].ttft.p50_ns <= outcome.ttft_p50_ns * 1.02
    assert outcome.ttft_p50_ns <= answer.routes[0].ttft.p50_ns * 1.25
    served = next(p for p in world.pools if p.id == outcome.places[0].served[0][0])
    pinned = Planner(world.links, world.sites, [served]).plan(
        Request(source="metro:m0", workload=world.workload, destination=served.site, k=9)
    )
    same = [r for r in pinned.routes if r.sites[1:2] == outcome.places[0].ingress[:1] or len(r.sites) <= 2]
    assert min((abs(r.ttft.p50_ns / outcome.ttft_p50_ns - 1) for r in same), default=0) < 0.02


def test_by_hand():
    """Berlin at 1 req/s: 8 ms to a, cold: 3 x 8 + 20 ms of prefill at a's own pool; 1 ms a token for 100 more."""
    fleet = settle(kit.world(demand={"metro:berlin": 1.0}))
    outcome = measure(fleet)
    (place,) = outcome.places
    assert place.served == (("a-pool", pytest.approx(1.0)),)
    assert place.ttft_p50_ns / MS == pytest.approx(3 * 8 + 20)
    assert place.e2e_p50_ns / MS == pytest.approx(3 * 8 + 20 + 100, rel=0.02)
    assert (outcome.lost_share, outcome.miss_share, outcome.measured_share) == (0.0, 0.0, 1.0)


def test_money_by_hand():
    """Boston to aws over d at 1 req/s: 30 days x 50 kB leave the cloud: 129.6 GB x 0.1; all pools that stand cost 4 + 7.2 + 3.6 an hour."""
    outcome = measure(settle(kit.world(demand={"metro:boston": 1.0}), egress=kit.price))
    assert outcome.places[0].served[0][0] == "aws:us-east-1-pool"
    assert outcome.usd_egress == pytest.approx(2_592_000 * 50_000 / 1e9 * 0.1)
    assert outcome.usd_devices == pytest.approx(720 * (4 + 7.2 + 3.6))
    assert measure(settle(kit.world(demand={"metro:boston": 1.0}))).usd_per_month is None


def test_a_month_is_billed_tier_by_tier():
    """10 TB at 0.09, 40 TB at 0.085, 50 TB at 0.07: 900 + 3,400 + 3,500 USD; an unknown price is unknown."""
    tiers = lambda at: 0.09 if at < 10_000 else 0.085 if at < 50_000 else 0.07  # noqa: E731
    assert tiered_usd(tiers, 100_000) == pytest.approx(7_800, abs=0.1)
    assert tiered_usd(tiers, 0) == 0
    assert tiered_usd(lambda _: None, 5) is None


def test_a_full_pool_spills_and_says_what_room_is_worth():
    """a is given half of 42.1 req/s; Berlin asks for 40: the rest goes further, and a is healthy but full."""
    outcome = measure(settle(kit.world(demand={"metro:berlin": 40.0}), FleetOptions(max_utilisation=0.5)))
    pools = {p.id: p for p in outcome.pools}
    assert pools["a-pool"].state == "full"
    assert pools["a-pool"].load_rps == pytest.approx(0.5 * 8 / 0.19)
    assert pools["a-pool"].capacity_price > 0
    assert pools["gcp:europe-west9-pool"].state == "ok"
    assert len(outcome.places[0].served) == 2


def test_a_spread_over_providers_is_kept():
    """No one may serve more than half."""
    fleet = settle(kit.world(demand={"metro:berlin": 10.0}), FleetOptions(max_share=0.5))
    loads = {p.id: load for p, load in zip(fleet.pools, fleet.split.load, strict=True)}
    assert max(loads.values()) <= 5 + 1e-6
    assert measure(fleet).provider_price["own PoPs"] > 0


def test_the_cheapest_pool_serves_where_cost_is_the_objective():
    """gcp costs 3.6 an hour against aws' 7.2 for two and a's 4: with egress at 0.1 a GB, a's tokens need no egress; by hand."""
    options = FleetOptions(objective="cost")
    outcome = measure(settle(kit.world(demand={"metro:berlin": 1.0}), options, egress=lambda *_: 0.0))
    # Each device holds the same profile: USD per request is in proportion to the price of a device: 4, 3.6 and 3.6.
    assert outcome.places[0].served[0][0] in {"gcp:europe-west9-pool", "aws:us-east-1-pool"}
    dear = measure(settle(kit.world(demand={"metro:berlin": 1.0}), options, egress=kit.price))
    assert dear.places[0].served[0][0] == "a-pool"


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_a_mended_split_costs_what_the_programme_says(seed):
    """Where a mend is offered at all, its objective is that of solving again, to 2e-6; it is refused where demand is lost."""
    rng = np.random.default_rng(seed)
    world = kit.random_world(seed)
    before = settle(world)
    cost = before.reach.total_ms[:, before.column]
    changed = np.where(rng.random(cost.shape) < 0.2, cost * rng.uniform(1, 1.5, cost.shape), cost)
    rate = np.array([world.demand[name] for name in before.reach.places])
    weight = np.ones_like(cost)
    split = solve_split(cost, rate, before.curves)
    mended = mend(split, changed, rate, before.curves, weight)
    if mended is not None:
        again = solve_split(changed, rate, before.curves)
        assert mended.objective == pytest.approx(again.objective, rel=3e-6)
        assert mended.rate.sum(axis=1) == pytest.approx(rate)


@settings(max_examples=3, deadline=None)
@example(2881)
@given(SEEDS)
def test_a_ranking_is_that_of_settling_every_world_from_nothing(seed):
    """The objective and the lost share of each loss, and TTFT at p95 where the split is the same one (equals may differ)."""
    world = kit.random_world(seed, places=4, pops=4, regions=2)
    world = replace(world, demand={name: rps * 3 for name, rps in world.demand.items()})
    fleet = settle(world)
    before = measure(fleet, Cache(0, SWEEP_DRAWS))
    found = rank(fleet, single_losses(world))
    assert [one.order for one in found] == sorted(one.order for one in found)
    for one in found:
        anew = settle(replace(world, down=one.loss.sites))
        step = settle(world, before=fleet, reach=fleet.reach.without(one.loss.sites))
        assert step.split.objective == pytest.approx(anew.split.objective, rel=5e-6)
        after = measure(anew, Cache(0, SWEEP_DRAWS))
        assert one.lost_share == pytest.approx(max(0.0, after.lost_share - before.lost_share), abs=1e-5)
        # What nobody notices is the state before, though settling anew may find another that is as good.
        same = step if one.touched else fleet
        is_same = same.split.rate.shape == anew.split.rate.shape and np.allclose(same.split.rate, anew.split.rate, atol=1e-6)
        if after.ttft_p95_ns is not None and before.ttft_p95_ns is not None and is_same:
            assert after.ttft_p95_ns - before.ttft_p95_ns == pytest.approx(one.ttft_p95_ns, abs=0.005 * after.ttft_p95_ns)


def test_a_ranking_in_two_processes_is_the_ranking_to_the_bit():
    """With prices and memory as the commands give them; every loss is told as done."""
    inventory = load()
    world = kit.world(demand={name: rps * 2.2 for name, rps in kit.DEMAND.items()})
    fleet = settle(world, egress=prices_of(inventory), memory=memory_of(inventory))
    losses, done = single_losses(world), []
    here = rank(fleet, losses, memory=memory_of(inventory), progress=done.append)
    assert sum(done) == len(losses)
    done.clear()
    with processes(2) as pool:
        assert rank(fleet, losses, memory=memory_of(inventory), progress=done.append, **pool) == here
    assert sum(done) == len(losses)


def test_what_is_lost_without_a_site_is_the_programmes_answer():
    """Max-flow against the programme: the same requests a second are lost, for every loss of one and of two sites."""
    world = kit.world(demand={name: rps * 2.2 for name, rps in kit.DEMAND.items()})
    fleet = settle(world)
    singles = single_losses(world)
    for loss in (*singles, *pairs_of(singles[:5])):
        after = settle(replace(world, down=loss.sites))
        assert lost_without(fleet, loss.sites) == pytest.approx(float(after.split.lost.sum()), abs=1e-5), loss


def test_single_points_are_what_cannot_be_lost():
    """140 req/s of room, 126 asked for: losing any pool loses demand; nothing else does. At a tenth nothing is one."""
    total = sum(kit.DEMAND.values())
    busy = settle(kit.world(demand={name: rps * 126 / total for name, rps in kit.DEMAND.items()}))
    found = {point.name: point for point in single_points(busy)}
    assert set(found) == {"a", "aws:us-east-1", "gcp:europe-west9", "aws", "gcp"}
    room = {"a": 40.0, "aws:us-east-1": 80.0}
    for name, cap in room.items():
        assert found[name].lost_share == pytest.approx((126 - (160 - cap)) / 126, abs=1e-6)
    assert single_points(settle(kit.world(demand={name: rps / 10 for name, rps in kit.DEMAND.items()}))) == ()


def test_groups_are_cities_and_what_the_world_names():
    """Two sites in one city fail together."""
    sites = {name: replace(site, metro="Paris" if name in ("b", "gcp:europe-west9") else None) for name, site in kit.SITES.items()}
    world = World.of(sites, kit.LINKS, kit.POOLS, demand=kit.DEMAND, workload=workload())
    (group,) = groups_of(world)
    assert (group.name, group.sites) == ("metro/Paris", frozenset({"b", "gcp:europe-west9"}))


def test_a_comparison_with_itself_is_zero():
    """No edit: every delta is 0 and nobody moved."""
    outcome = measure(settle(kit.world(), egress=kit.price))
    change = compare_outcomes(outcome, outcome)
    figures = (change.ttft_p95_ns, change.e2e_p95_ns, change.usd_per_month, change.moved_share, change.miss_share, change.lost_share)
    assert figures == (0, 0, 0, 0, 0, 0)


def test_a_world_that_cannot_be_asked_says_why():
    """No workload, no demand, a model nobody serves, a share that is none."""
    with pytest.raises(UserError, match="needs a workload"):
        settle(kit.world(workload=None))
    with pytest.raises(UserError, match="no place asks"):
        settle(kit.world(demand={}))
    with pytest.raises(UserError, match="pools serve m"):
        settle(kit.world(workload=workload(model="other")))
    with pytest.raises(UserError, match="max_share"):
        FleetOptions(max_share=0.0)
    with pytest.raises(UserError, match="never ends"):
        FleetOptions(max_utilisation=1.0)


def test_users_of_a_place_nobody_can_reach_are_lost_and_counted():
    """Every pool down: all is lost and misses its objective, and no latency is invented."""
    outcome = measure(settle(replace(kit.world(), down=frozenset(p.site for p in kit.POOLS))))
    assert (outcome.lost_share, outcome.miss_share) == (1.0, 1.0)
    assert outcome.ttft_p95_ns is None
    assert {pool.state for pool in outcome.pools} == {"down"}


def test_a_link_of_a_metro_straight_to_a_region_is_used_only_for_that_region():
    """Measured 3 ms from Boston to aws: 3 x 3 ms; it is no way to anywhere else."""
    world = World.of(
        kit.SITES,
        (*kit.LINKS, link("metro:boston", "aws:us-east-1", 3)),
        (pool("aws:us-east-1"),),
        demand={"metro:boston": 1.0},
        workload=workload(),
    )
    place = measure(settle(world)).places[0]
    assert place.ttft_p50_ns / MS == pytest.approx(9 + 20)


def test_a_pool_may_be_filled_to_the_last_thousandth():
    """Its delay is as steep there as can be weighed; nearer to what it can do at all is refused."""
    world = kit.world(demand={name: rps * 5 for name, rps in kit.DEMAND.items()})
    found = settle(world, FleetOptions(max_utilisation=0.999))
    assert found.split.load == pytest.approx([curve.cap_rps for curve in found.curves])
    with pytest.raises(UserError, match=r"outside 0..0.999"):
        FleetOptions(max_utilisation=0.9999)
