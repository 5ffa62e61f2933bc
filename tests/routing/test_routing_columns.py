"""Links as columns: the verdicts, the paths and the matrix are those of the same links as objects, which define them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import grid_links, grid_sites, link, pool, site, workload

from records.errors import BadRtt
from records.histogram import Histogram
from records.link import MEDIA, LinkEstimate
from records.place import fibre_floor_ns
from records.units import MS
from routing import columns, gates
from routing.columns import LinkColumns, Pairs
from routing.gates import GatePolicy
from routing.matrix import link_table, rows
from routing.media import fastest, usable
from routing.planner import Planner
from routing.reach import Reach
from routing.request import Request
from routing.scenario import apply, parse
from routing.world import World

SITES = {
    s.id: s
    for s in (
        site("fra", 50.11, 8.68),
        site("iad", 39.04, -77.49),
        site("sin", 1.35, 103.82),
        site("fra2", 50.11, 8.68),
        site("syd", -33.9, 151.2),
    )
}
NAMES = (*SITES, "nowhere")


def as_columns(links: list[LinkEstimate]) -> LinkColumns:
    """The same links by column."""
    index: dict[str, int] = {}
    ends = [[index.setdefault(name, len(index)) for name in (found.src, found.dst)] for found in links]
    src, dst = np.array(ends, dtype=np.intp).reshape(-1, 2).T

    def column(name: str) -> np.ndarray:
        return np.array([np.nan if (value := getattr(found, name)) is None else value for found in links], dtype=np.float64)

    known = np.array([found.histogram is not None for found in links], dtype=np.bool_)
    lengths = np.array([len(found.histogram.buckets) if found.histogram else 0 for found in links], dtype=np.int64)
    until = np.cumsum(lengths)
    return LinkColumns(
        names=list(index),
        src=src,
        dst=dst,
        medium=np.array([MEDIA.index(found.medium) for found in links], dtype=np.intp),
        **{name: column(name) for name in ("rtt_min_ns", "rtt_p50_ns", "rtt_p95_ns", "rtt_p99_ns", "loss_ratio", "age_s", "sample_count")},
        is_ungraded=np.array([found.gate == "ungraded" for found in links], dtype=np.bool_),
        **{name: np.array([getattr(found, name) for found in links], dtype=np.object_) for name in ("rtt_from", "grain")},
        bucket_from=np.where(known, until - lengths, -1),
        bucket_until=np.where(known, until, -1),
        buckets=np.array([pair for found in links if found.histogram for pair in found.histogram.buckets], dtype=np.int64).reshape(-1, 2),
        throughput_bps={i: found.throughput_bps for i, found in enumerate(links) if found.throughput_bps is not None},
    )


def times_ns(src: str, dst: str):
    """Unknown, or anything up to 400 ms, or just about the fibre floor's limit."""
    near = [] if src not in SITES or dst not in SITES else [round(0.98 * fibre_floor_ns(SITES[src], SITES[dst]))]
    return st.one_of(st.none(), st.integers(0, 400 * MS), *(st.integers(max(0, at - 3), at + 3) for at in near))


@st.composite
def measured(draw, found: LinkEstimate) -> LinkEstimate:
    """The link as packets or hand-shakes would tell it."""
    samples = draw(st.lists(st.integers(1, 10**9), max_size=6))
    return replace(
        found,
        rtt_p99_ns=draw(times_ns(found.src, found.dst)),
        sample_count=len(samples),
        gate=draw(st.sampled_from(["ok", "ok", "ungraded"])),
        histogram=Histogram.of(samples),
        rtt_from=draw(st.sampled_from(["ping", "tcp"])),
        grain=draw(st.sampled_from(["raw", "minute", "hour"])),
    )


@st.composite
def imports(draw) -> list[LinkEstimate]:
    keys = draw(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(MEDIA)), unique=True, max_size=40))
    ages = st.one_of(st.none(), st.floats(0, 200_000))
    found = [
        LinkEstimate(
            src=src,
            dst=dst,
            medium=medium,
            rtt_min_ns=draw(times_ns(src, dst)),
            rtt_p50_ns=draw(times_ns(src, dst)),
            rtt_p95_ns=draw(times_ns(src, dst)),
            loss_ratio=draw(st.one_of(st.none(), st.floats(0, 1))),
            throughput_bps=draw(st.one_of(st.none(), st.floats(1, 1e9))),
            age_s=draw(ages),
            rtt_from="import",
        )
        for src, dst, medium in sorted(keys)
    ]
    return [draw(measured(each)) if draw(st.booleans()) else each for each in found]


@given(
    imports(),
    st.sampled_from([GatePolicy(), GatePolicy(max_age_s=None), GatePolicy(fibre_tolerance=0.0, asymmetry_ns=MS, asymmetry_ratio=0.05)]),
)
@settings(max_examples=150, deadline=None)
def test_columns_are_graded_as_objects_are(links: list[LinkEstimate], policy: GatePolicy) -> None:
    truth = gates.grade(links, SITES, policy)
    found = columns.grade(as_columns(links), SITES, policy)
    assert list(found) == truth
    assert found.counts() == gates.counts(truth)
    assert all(found[i] is found[i] for i in range(len(found)))


@given(imports())
@settings(max_examples=100, deadline=None)
def test_pairs_are_those_of_the_objects(links: list[LinkEstimate]) -> None:
    truth = gates.grade(links, SITES)
    pairs = Pairs(columns.grade(as_columns(links), SITES))
    assert dict(pairs) == fastest(truth)
    by_objects, by_columns = link_table(truth), link_table(columns.grade(as_columns(links), SITES))
    assert by_columns.names == by_objects.names
    assert np.array_equal(by_columns.direct_ms, by_objects.direct_ms)
    out = {(f.src, f.dst): f.gate for f in truth if f.gate != "ok" and (f.src, f.dst) not in pairs}
    assert {pair: gate for pair in itertools.product(NAMES, NAMES) if (gate := pairs.kept_out(pair)) is not None} == out
    for src in NAMES:
        for dst in NAMES:
            assert pairs.parallel((src, dst)) == [found for found in truth if (found.src, found.dst) == (src, dst) and usable(found)]


@given(imports(), st.sampled_from(tuple(SITES)), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_a_route_over_columns_is_the_route_over_objects(links: list[LinkEstimate], source: str, relays: int) -> None:
    pools = [pool("fra"), pool("sin")]
    request = Request(source=source, workload=workload(), relays=relays)
    answers = [Planner(given, SITES, pools).plan(request) for given in (gates.grade(links, SITES), columns.grade(as_columns(links), SITES))]
    assert answers[0] == answers[1]


def test_the_public_grid_is_graded_and_routed_the_same() -> None:
    sites = grid_sites()
    (links,) = grid_links(premium=True)
    links.sort(key=lambda found: found.key)
    plain = [
        LinkEstimate(**{name: getattr(f, name) for name in ("src", "dst", "medium", "rtt_min_ns", "rtt_p50_ns")}, rtt_from="import")
        for f in links
    ]
    truth, found = gates.grade(plain, sites), columns.grade(as_columns(plain), sites)
    assert list(found) == truth
    assert len(set(found.counts())) > 1
    assert rows(found) == rows(truth)


def test_a_link_named_twice_or_below_zero_is_refused_in_the_same_words() -> None:
    for links, error in (([link("fra", "iad", 90), link("fra", "iad", 91)], ValueError), ([link("fra", "iad", -1)], BadRtt)):
        said = []
        for work in (lambda links=links: gates.grade(links, SITES), lambda links=links: columns.grade(as_columns(links), SITES)):
            with pytest.raises(error) as caught:
                work()
            said.append(str(caught.value))
        assert said[0] == said[1]


def test_no_links() -> None:
    found = columns.grade(as_columns([]), SITES)
    assert (len(found), list(found), found.counts(), dict(Pairs(found))) == (0, [], {}, {})


@given(imports(), st.sets(st.sampled_from(NAMES), max_size=2), st.sampled_from(["", "fail_site", "remove_site", "fail_link", "degrade"]))
@settings(max_examples=60, deadline=None)
def test_a_world_of_columns_is_the_world_of_objects(links: list[LinkEstimate], gone: set[str], op: str) -> None:
    """Links that stand, what all demand can reach over them, and every edit of links: the same as of links as objects."""
    graded = gates.grade(links, SITES), columns.grade(as_columns(links), SITES)
    assert list(graded[1].without(gone)) == [f for f in graded[0] if f.src not in gone and f.dst not in gone]
    places = SITES | {"fra2": replace(SITES["fra2"], kind="metro")}
    worlds = [World.of(places, given, [pool("fra"), pool("sin")], demand={"fra2": 1.0, "iad": 1.0}) for given in graded]
    site_of = {"site": "syd"} if op in ("fail_site", "remove_site") else {"src": "fra", "dst": "sin"}
    edit = {"op": op} | site_of | ({"add_ms": 5} if op == "degrade" else {})
    if op:
        worlds = [apply(parse({"name": "x", "edits": [edit]}, known=places), each) for each in worlds]
    assert list(worlds[1].links) == list(worlds[0].links)
    by_objects, by_columns = (Reach(each, ["fra", "sin"]) for each in worlds)
    for name in ("known_ms", "direct_ms", "access_ms", "straight_ms", "total_ms", "ingress"):
        assert np.array_equal(getattr(by_columns, name), getattr(by_objects, name)), name
    assert by_columns.evidence.leg("fra", "sin", places) == by_objects.evidence.leg("fra", "sin", places)
