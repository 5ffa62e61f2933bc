"""What each edit does to a world and to the demand in it; what must hold for any order of them; what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, replace

import fleet_kit as kit
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import profile, workload

from records.errors import UnknownSite, UserError
from records.histogram import Histogram
from records.residency import ResidencyRule
from records.units import MS
from routing.edits import OPS, Degrade
from routing.effects import slower
from routing.fleet import FleetOptions, settle
from routing.outcome import measure
from routing.scenario import apply, digest, op_of, parse
from routing.timeline import at_second, peak_second, timeline
from routing.variants import Axis, Spread, draws, grid
from routing.world import Burst, Stock, World

EU = ResidencyRule(
    id="eu",
    title="EU only",
    jurisdiction="EU",
    data_class="personal",
    applies_to=frozenset({"DE", "FR"}),
    process=frozenset({"DE", "FR"}),
    store=frozenset({"DE", "FR"}),
    transit_plaintext=frozenset({"DE", "FR"}),
    transit_ciphertext=None,
    conditions="",
    in_force_from="2018-05-25",
    variant_of=None,
    source="test",
    as_of="2025",
    note="",
)
STOCK = Stock(
    profiles=(profile(), profile(accelerator="fast", alpha_ns=MS // 10), profile(model="n", gamma_ns=90 * MS)),
    device_usd_per_hour={"fast": 10.0},
    workloads={"other": workload(name="other", output_tokens=2)},
    rules={"eu": EU},
)
WORLD = replace(kit.world(), stock=STOCK)


def edited(*edits, world=WORLD, **more):
    return apply(parse({"name": "t", "edits": list(edits), **more}, known=world.all_sites), world)


def outcome(world, **options):
    return measure(settle(world, FleetOptions(**options), egress=kit.price))


def served(world, place):
    return {pool for row in outcome(world).places if row.site == place for pool, _ in row.served}


def test_a_cut_link_is_not_modelled_either():
    """Berlin enters at a (8 ms); a cut pair has no way at all, in either direction, and the next PoP takes over."""
    world = edited({"op": "fail_link", "src": "a", "dst": "metro:berlin"})
    assert outcome(world, relays=0).places[0].ingress != ("a",)
    assert ("metro:berlin", "a") in world.cut
    both = edited({"op": "fail_link", "src": "b", "dst": "aws:us-east-1"})
    assert settle(both).reach.direct_ms[settle(both).reach.index["b"], settle(both).reach.index["aws:us-east-1"]] == float("inf")


def test_groups_regions_and_providers_fail_as_a_whole():
    """By cloud, by country, by circle, by a name of the scenario's and by city."""
    assert edited({"op": "fail_provider", "provider": "aws"}).down == {"aws:us-east-1"}
    assert edited({"op": "fail_region", "country": "FR"}).down == {"b", "gcp:europe-west9"}
    assert edited({"op": "fail_region", "lat": 49, "lon": 4, "radius_km": 400}).down == {"a", "b", "gcp:europe-west9"}
    group = {"power": {"sites": ["a", "d"], "links": [["c", "b"]]}}
    world = edited({"op": "fail_group", "group": "power"}, groups=group)
    assert (world.down, ("b", "c") in world.cut) == ({"a", "d"}, True)
    assert edited({"op": "fail_group", "group": "metro/us-east-1"}).down == {"aws:us-east-1"}


def test_a_degraded_link_is_slower_by_hand():
    """x 2 + 5 ms, 10 % more loss on 50 %, half the throughput; no longer `measured`; a histogram moves with it."""
    base = kit.link("a", "b", 10, rtt_min_ns=8 * MS, loss_ratio=0.5, throughput_bps=100.0, histogram=Histogram.of([10 * MS] * 9))
    found = slower(base, Degrade(src="a", dst="b", rtt_factor=2.0, add_ms=5.0, loss_ratio=0.1, throughput_factor=0.5))
    assert (found.rtt_p50_ns, found.rtt_min_ns, found.evidence) == (25 * MS, 21 * MS, "assumed")
    assert (found.loss_ratio, found.throughput_bps) == (pytest.approx(0.55), 50)
    assert found.histogram.quantile_ns(0.5) / MS == pytest.approx(25, rel=0.02)
    world = edited({"op": "degrade", "site": "a", "add_ms": 50})
    assert outcome(world).ttft_p95_ns > outcome(WORLD).ttft_p95_ns


def test_sites_are_added_with_a_pool_and_resized():
    """A fast pool beside Paris takes Paris; the price is the stock's; without devices the pool is gone."""
    world = edited({"op": "add_site", "site": "x", "lat": 48.8, "lon": 2.3, "country": "FR", "accelerator": "fast", "devices": 2})
    assert served(world, "metro:paris") == {"x-fast-m"}
    assert world.all_pools[-1].usd_per_hour == 20.0
    none = edited({"op": "resize", "site": "a", "devices": 0})
    assert "a-pool" not in {pool.id for pool in none.pools}
    double = edited({"op": "resize", "site": "a", "devices": 2})
    assert next(p for p in double.pools if p.id == "a-pool").usd_per_hour == 8.0
    assert edited({"op": "remove_site", "site": "c"}).all_sites.keys() == WORLD.all_sites.keys() - {"c"}


def test_prices_are_set_and_scaled():
    """Devices by accelerator or site, egress by provider."""
    base = outcome(WORLD)
    dear = outcome(edited({"op": "set_price", "scope": "device", "factor": 2}))
    assert dear.usd_devices == pytest.approx(2 * base.usd_devices)
    assert dear.usd_egress == pytest.approx(base.usd_egress)
    free = outcome(edited({"op": "set_price", "scope": "internet", "usd": 0}, {"op": "set_price", "scope": "inter-region", "usd": 0}))
    assert free.usd_egress == 0
    some = edited({"op": "set_price", "scope": "device", "usd": 1, "site": "aws:us-east-1"})
    assert [some.price_of(pool) for pool in some.pools] == [4.0, 2.0, 3.6]


def test_a_law_moves_the_people_it_protects_and_nobody_else():
    """Berlin and Paris stay in the EU; Boston and Jakarta go where they went."""
    world = edited({"op": "set_residency", "rules": ["eu"]})
    assert served(world, "metro:berlin") | served(world, "metro:paris") <= {"a-pool", "gcp:europe-west9-pool"}
    assert served(world, "metro:boston") == served(WORLD, "metro:boston")
    assert outcome(edited({"op": "set_residency", "rules": ["eu"]}, {"op": "set_residency", "rules": []})) == outcome(WORLD)


def test_demand_is_scaled_set_and_moved():
    """Twice, 100 in all, half of Berlin's to Paris; what moves is what was there."""
    total = sum(kit.DEMAND.values())
    assert sum(edited({"op": "set_demand", "factor": 2}).demand.values()) == pytest.approx(2 * total)
    assert sum(edited({"op": "set_demand", "rps": 100}).demand.values()) == pytest.approx(100)
    moved = edited({"op": "set_demand", "site": "metro:berlin", "to": "metro:paris", "share": 0.5}).demand
    assert (moved["metro:berlin"], moved["metro:paris"]) == (7.5, 27.5)
    assert sum(moved.values()) == pytest.approx(total)
    assert edited({"op": "set_demand", "site": "c", "rps": 4}).demand["c"] == 4


def test_workload_model_and_mode():
    """Another workload; another model on the devices that have a profile of it; PoPs only, clouds only, PoPs first."""
    assert edited({"op": "set_workload", "workload": "other"}).workload.output_tokens == 2
    world = edited({"op": "set_model", "model": "n"})
    assert {pool.model for pool in world.pools} == {"n"}
    assert outcome(world).ttft_p50_ns > outcome(WORLD).ttft_p50_ns
    few = replace(WORLD, demand={"metro:boston": 5.0, "metro:paris": 5.0})
    for mode, kinds in (("edge", {"a-pool"}), ("cloud", {"aws:us-east-1-pool", "gcp:europe-west9-pool"}), ("hybrid", {"a-pool"})):
        world = edited({"op": "set_mode", "mode": mode}, world=few)
        assert served(world, "metro:boston") | served(world, "metro:paris") <= kinds, mode
    push = edited({"op": "set_mode", "mode": "hybrid", "origin": "aws:us-east-1", "model_gb": 16, "pushes_per_month": 4})
    assert outcome(push).usd_push == pytest.approx(16 * 4 * 1 * 0.1)


def test_a_cold_cache_costs_the_ones_that_move():
    """Half the prompt held: prefill 15 ms at the pool that knows Berlin, 20 ms at the one it is moved to."""
    warm = edited({"op": "set_cache", "hit_ratio": 0.5}, world=replace(WORLD, demand={"metro:berlin": 1.0}))
    before = settle(warm)
    assert measure(before).places[0].ttft_p50_ns / MS == pytest.approx(3 * 8 + 15)
    gone = replace(warm, down=frozenset({"aws:us-east-1"}))
    assert measure(settle(gone, before=before)).places[0].ttft_p50_ns / MS == pytest.approx(3 * 8 + 15)
    moved = measure(settle(replace(warm, all_pools=warm.all_pools[1:]), before=before)).places[0]
    assert moved.served[0][0] == "gcp:europe-west9-pool"
    assert moved.ttft_p50_ns / MS == pytest.approx(3 * 8 + 11 + 20)


_SECONDS = st.integers(0, 40).map(lambda n: 30.0 * n)
_BURSTS = st.lists(
    st.builds(
        Burst,
        factor=st.sampled_from((0.0, 0.2, 1.5, 3.0, 5.0)),
        start_s=_SECONDS,
        rise_s=_SECONDS,
        hold_s=_SECONDS,
        fall_s=_SECONDS,
        site=st.sampled_from((None, "a", "b")),
    ),
    max_size=3,
)


@given(bursts=_BURSTS)
def test_the_peak_is_the_greatest_demand_at_any_second(bursts: list[Burst]) -> None:
    """Rises that overlap, dips, several on one site: no second of a fine scan has more, and none before it as much."""
    world = World(all_sites={}, all_links=(), all_pools=(), demand={"a": 100.0, "b": 10.0, "c": 40.0}, bursts=tuple(bursts))

    def total(second: float) -> float:
        return sum(at_second(world, second).demand.values())

    peak = peak_second(world)
    scan = [n * 7.5 for n in range(700)]
    assert total(peak) >= max(map(total, scan)) * (1 - 1e-9)
    assert all(total(second) < total(peak) * (1 - 1e-13) for second in scan if second < peak - 1e-6)


def test_a_burst_is_a_trapezoid_and_its_queues_drain():
    """x 3 from minute 10: half way up after half the rise; over capacity while it holds, and nothing waits at the end."""
    burst = {"op": "burst", "factor": 3.0, "start_s": 600, "rise_s": 300, "hold_s": 600, "fall_s": 300}
    world = edited(burst)
    total = sum(kit.DEMAND.values())
    for second, factor in ((0, 1), (750, 2), (900, 3), (1500, 3), (1650, 2), (1900, 1)):
        assert sum(at_second(world, second).demand.values()) == pytest.approx(total * factor), second
    assert peak_second(world) == 900
    asked, told = [], []

    @contextmanager
    def progress(_: str, count: int) -> Iterator[Callable[[int], None]]:
        asked.append(count)
        yield told.append

    steps = timeline(world, FleetOptions(), egress=kit.price, step_s=150.0, progress=progress)
    assert asked == [sum(told)]
    worst = max(steps, key=lambda step: step.wait_mean_ns)
    assert worst.over_share > 0
    assert steps[0].over_share == steps[-1].over_share == 0
    assert steps[-1].waiting < 0.01 * worst.waiting
    assert timeline(WORLD, FleetOptions(), egress=kit.price) == []


SITES = ["a", "b", "c", "d", "aws:us-east-1", "gcp:europe-west9"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(SITES), max_size=4), st.randoms())
def test_failures_commute_repair_undoes_and_the_world_given_stays(names, random):
    """Any order of failures is one world; restoring all of them is the world before; nothing was changed in place."""
    snapshot = kit.world()
    fails = [{"op": "fail_site", "site": name} for name in names]
    shuffled = random.sample(fails, len(fails))
    assert edited(*fails) == edited(*shuffled)
    repairs = [{"op": "restore_site", "site": name} for name in dict.fromkeys(names)]
    assert edited(*fails, *repairs) == WORLD
    assert replace(WORLD, stock=Stock()) == snapshot


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(SITES[:4]), unique=True, max_size=2), st.sampled_from(SITES))
def test_losing_more_never_helps(names, more):
    """The sum the split minimises, lost requests at their price included, does not fall with another failure."""
    few = settle(edited(*({"op": "fail_site", "site": name} for name in names)))
    lost_cost = 1e5
    worse = settle(edited(*({"op": "fail_site", "site": name} for name in [*names, more])))
    sums = [f.split.objective if f.split.lost.sum() < 1e-9 else f.split.lost.sum() * lost_cost for f in (few, worse)]
    assert sums[1] >= sums[0] * (1 - 1e-6)


def test_every_op_is_read_from_json_and_has_its_name():
    """The shortest edit of each op; the hash is one text for one question."""
    values = {"site": "a", "src": "a", "dst": "b", "provider": "aws", "group": "g", "lat": 1, "lon": 1, "devices": 1, "scope": "device"}
    values |= {"rules": ["eu"], "factor": 2, "workload": "other", "model": "n", "hit_ratio": 0.5, "mode": "edge"}
    for op, record in OPS.items():
        edit = {"op": op} | {f.name: values[f.name] for f in fields(record) if f.default is MISSING}
        scenario = parse({"name": "t", "edits": [edit]})
        assert op_of(scenario.edits[0]) == op
        assert digest(scenario, snapshot=1, seed=0) == digest(
            parse(json.loads(json.dumps({"name": "t", "edits": [edit]}))), snapshot=1, seed=0
        )
        assert digest(scenario, snapshot=2, seed=0) != digest(scenario, snapshot=1, seed=0) != digest(scenario, snapshot=1, seed=1)


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        ([{"op": "fail_link", "src": "a", "dst": "a"}], "no link to itself"),
        ([{"op": "fail_link", "src": "a", "dst": "c", "medium": "backbone"}], "no backbone link"),
        ([{"op": "fail_link", "src": "a", "dst": "c", "medium": "pigeon"}], "not one of internet"),
        ([{"op": "fail_provider", "provider": "oracle"}], "no site of oracle"),
        ([{"op": "fail_region", "country": "XX"}], "no PoP or region is in"),
        ([{"op": "fail_region"}], "takes a country"),
        ([{"op": "fail_group", "group": "moon"}], "no group 'moon'"),
        ([{"op": "degrade", "site": "a"}], "changes nothing"),
        ([{"op": "degrade", "site": "a", "src": "b", "dst": "c", "add_ms": 1}], "takes a site, or"),
        ([{"op": "degrade", "site": "a", "rtt_factor": 0}], "above 0"),
        ([{"op": "degrade", "site": "a", "loss_ratio": 2}], "from 0 to 1"),
        ([{"op": "add_site", "site": "y", "lat": 99, "lon": 0}], "off the Earth"),
        ([{"op": "add_site", "site": "y", "lat": 1, "lon": 0, "accelerator": "abacus"}], "no profile"),
        ([{"op": "remove_site", "site": "b"}], "users are there"),
        ([{"op": "remove_site", "site": "a"}, {"op": "restore_site", "site": "a"}], "unknown site"),
        ([{"op": "resize", "site": "c", "devices": 2}], "an accelerator makes one"),
        ([{"op": "set_demand", "site": "c", "factor": 2}], "no demand comes from"),
        ([{"op": "set_demand", "factor": -1}], "from 0 up"),
        ([{"op": "set_demand"}], "takes a factor"),
        ([{"op": "set_demand", "site": "metro:berlin", "to": "metro:paris"}], "site .from., to and share"),
        (
            [{"op": "set_demand", "site": "metro:paris", "to": "metro:paris", "share": 0.5}],
            "`to` is metro:paris, where the demand is already; it moves to another site, and factor or rps",
        ),
        ([{"op": "set_workload", "workload": "poetry"}], "no workload"),
        ([{"op": "set_model", "model": "q"}], "profile of 'q'"),
        ([{"op": "set_mode", "mode": "hybrid", "origin": "aws:us-east-1"}], "needs model_gb"),
        ([{"op": "set_cache", "hit_ratio": True}], "from 0 to 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_change(edits, says):
    """UserError or UnknownSite, never another."""
    with pytest.raises((UserError, UnknownSite), match=says):
        edited(*edits)


def test_failing_everything_loses_everything_and_says_so():
    """Every site down: all is lost; no error, no invented latency."""
    found = outcome(edited(*({"op": "fail_site", "site": name} for name in SITES)))
    assert (found.lost_share, found.ttft_p50_ns, found.usd_devices) == (1.0, None, 0)


def test_grids_and_draws():
    """Every combination, the last changing fastest; draws by seed, a longer run begins as a shorter one."""
    scenario = parse({"name": "t", "edits": [{"op": "set_demand", "factor": 1}, {"op": "degrade", "site": "a", "add_ms": 1}]})
    found = grid(scenario, [Axis(edit=1, field="factor", values=(1, 2)), Axis(edit=2, field="add_ms", values=(0.5, 9.0))])
    assert [tuple(v.values.values()) for v in found] == [(1, 0.5), (1, 9.0), (2, 0.5), (2, 9.0)]
    assert found[3].scenario.edits[1].add_ms == 9.0
    assert grid(scenario, []) == grid(scenario, [])
    spreads = [Spread(edit=2, field="add_ms", low=1, high=50, shape="lognormal"), Spread(edit=1, field="factor", low=0, high=1)]
    few, many = draws(scenario, spreads, count=3, seed=5), draws(scenario, spreads, count=300, seed=5)
    assert many[:3] == few
    below = sum(v.values["2.add_ms"] < 1 for v in many) / 300
    assert below == pytest.approx(0.05, abs=0.04)
    for wrong in (
        [Axis(edit=3, field="x", values=(1,))],
        [Axis(edit=1, field="x", values=(1,))],
        [Axis(edit=1, field="factor", values=())],
        [Axis(edit=1, field="factor", values=("a",))],
        [Axis(edit=2, field="add_ms", values=(float("nan"),))],
    ):
        with pytest.raises(UserError):
            grid(scenario, wrong)
    with pytest.raises(UserError):
        draws(scenario, [Spread(edit=1, field="factor", low=2, high=1)], count=1, seed=0)
