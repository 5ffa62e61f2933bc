"""Scenarios: what a failed site takes along, where its users go, and what the comparison says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_kit import link, pool, site, workload

from records.errors import UnknownSite, UserError
from records.units import MS
from routing.matrix import rows, solve
from routing.request import Request
from routing.scenario import FailSite, Scenario, World, apply, compare_matrices, compare_matrix, parse, rehome, what_if, what_ifs

SITES = {s.id: s for s in (site("a", 0, 0), site("b", 0, 10), site("c", 0, 20), site("aws:us-east-1", 39, -77))}
LINKS = (
    link("a", "b", 30),
    link("b", "a", 30),
    link("b", "c", 20),
    link("a", "c", 70),
    link("a", "aws:us-east-1", 100),
    link("b", "aws:us-east-1", 90),
)
POOLS = (pool("c"), pool("aws:us-east-1"))
WORLD = World.of(SITES, LINKS, POOLS)
REQUEST = Request(source="a", workload=workload(), connection="warm")


def fail(*names):
    return Scenario(name="test", edits=tuple(FailSite(name) for name in names))


def test_a_failed_site_loses_links_relaying_and_pools_and_the_world_given_stays():
    """Nothing that touches it is left; the world before is not changed."""
    after = apply(fail("c"), WORLD)
    assert set(after.sites) == {"a", "b", "aws:us-east-1"}
    assert all("c" not in (found.src, found.dst) for found in after.links)
    assert [p.site for p in after.pools] == ["aws:us-east-1"]
    assert World.of(SITES, LINKS, POOLS) == WORLD


def test_no_edit_is_the_identity_and_order_and_repetition_do_not_matter():
    """apply of nothing is the world; failing two sites in either order, or one twice, is the same world."""
    assert apply(fail(), WORLD) == WORLD
    assert apply(fail("b", "c"), WORLD) == apply(fail("c", "b"), WORLD)
    assert apply(fail("b", "b"), WORLD) == apply(fail("b"), WORLD)


def test_a_site_nobody_knows_cannot_fail():
    """UnknownSite, with the nearest ids."""
    with pytest.raises(UnknownSite):
        apply(fail("mars"), WORLD)


def test_a_request_whose_relay_fails_takes_another_way():
    """a -> b -> c (50.5 ms) without b is a -> c (70 ms): 19.5 ms more on a warm connection, served at the same place."""
    found = what_if(fail("b"), WORLD, REQUEST)
    assert found.before.routes[0].sites == ("a", "b", "c")
    assert found.after.routes[0].sites == ("a", "c")
    assert found.delta.ttft_p50_ns / MS == pytest.approx(19.5)
    assert (found.delta.moved, found.delta.lost, found.rehome) == (False, False, None)


def test_a_request_whose_pool_fails_moves():
    """Without c the cloud serves: 100 ms instead of 50.5."""
    found = what_if(fail("c"), WORLD, REQUEST)
    assert found.after.routes[0].sites[-1] == "aws:us-east-1"
    assert found.delta.ttft_p50_ns / MS == pytest.approx(100 - 50.5)
    assert found.delta.moved


def test_users_of_a_failed_source_go_to_the_nearest_pop_and_pay_the_way():
    """a fails: its users ask from b, 30 ms away, where c is 20 ms: 50 ms against 50.5 before."""
    found = what_if(fail("a"), WORLD, REQUEST)
    assert (found.rehome.dst, found.rehome.rtt_p50_ns) == ("b", 30 * MS)
    assert found.after.request.source == "b"
    assert found.delta.ttft_p50_ns / MS == pytest.approx(30 + 20 - 50.5)
    cold = what_if(fail("a"), WORLD, Request(source="a", workload=workload(), connection="cold"))
    assert cold.delta.ttft_p50_ns / MS == pytest.approx(3 * (30 + 20 - 50.5))


def test_users_without_any_pop_left_are_lost():
    """Every PoP gone: no answer after."""
    found = what_if(fail("a", "b", "c"), WORLD, REQUEST)
    assert (found.after, found.rehome, found.delta) == (None, None, None)
    assert rehome("a", WORLD, apply(fail("a", "b", "c"), WORLD)) is None


def test_with_every_pool_gone_the_route_is_lost():
    """No pool for the model is left: lost, without a delta."""
    found = what_if(fail("c", "aws:us-east-1"), WORLD, REQUEST)
    assert found.delta.lost
    assert found.delta.ttft_p50_ns is None
    assert found.after.infeasible is not None


def test_the_table_before_and_after_names_what_changed_worst_first():
    """b relays a -> c; without it that pair is 19.5 ms worse, and pairs that end at b are cut off."""
    before, after = rows(LINKS), rows(LINKS, fail=["b"])
    changes = compare_matrix(before, after)
    assert [change.delta_ms for change in changes] == sorted((change.delta_ms for change in changes), reverse=True)
    by_pair = {(change.before.src, change.before.dst): change for change in changes}
    assert by_pair["a", "c"].delta_ms == pytest.approx(19.5)
    assert by_pair["a", "b"].delta_ms == math.inf
    assert by_pair["a", "b"].after is None
    assert ("a", "aws:us-east-1") not in by_pair
    assert compare_matrix(before, before) == []


@given(
    legs=st.dictionaries(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), st.integers(1, 9), max_size=20),
    gone=st.sets(st.sampled_from("abcdef"), max_size=3),
    relays=st.integers(0, 2),
)
def test_whole_tables_compare_as_their_rows_do(legs, gone, relays):
    """Few distances, so that ties are many: arrays name the same changes, in the same order, as one row after the other; both ways."""
    links = [link(src, dst, ms) for (src, dst), ms in legs.items() if src != dst]
    asked = {"relays": relays, "relay_ms": 0.5}
    for one, other in ((set(), gone), (gone, set())):
        a, b = ({"links": links, "fail": fail, **asked} for fail in (one, other))
        assert compare_matrices(solve(**a), solve(**b)) == compare_matrix(rows(**a), rows(**b))
    table = solve(links, **asked)
    assert table.joined == sum(row.best_ms is not None for row in table.rows())


def test_a_scenario_is_read_from_json():
    """The contract's example."""
    found = parse({"name": "no sin", "objective": "e2e", "workload": "chat", "edits": [{"op": "fail_site", "site": "a"}]}, known=SITES)
    assert found == Scenario(name="no sin", objective="e2e", workload="chat", edits=(FailSite("a"),))


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "JSON object"),
        ({"edits": []}, "needs a name"),
        ({"name": 3}, "name must be a text"),
        ({"name": "x", "edit": []}, "no field 'edit'"),
        ({"name": "x", "edits": {}}, "must be a list"),
        ({"name": "x", "edits": ["fail a"]}, "edit 1 must be an object"),
        (
            {"name": "x", "edits": [{"op": "fail_site", "site": "a"}, {"op": "explode"}]},
            "edit 2 has the op 'explode'; known ops are fail_site",
        ),
        ({"name": "x", "edits": [{"op": "fail_site"}]}, "takes site; this one has none"),
        ({"name": "x", "edits": [{"op": "fail_site", "site": "a", "at": 3}]}, "takes site; this one has at, site"),
        ({"name": "x", "edits": [{"op": "fail_site", "site": 4}]}, "site must be a site id"),
        ({"name": "x", "objective": "fun"}, "objective 'fun' is not one of ttft, e2e, cost"),
        ({"name": "x", "edits": [{"op": "fail_site", "site": "sni"}]}, "unknown site 'sni'"),
    ],
)
def test_what_is_no_scenario_is_the_users_mistake(document, says):
    """Each fault is named, with what is allowed."""
    with pytest.raises(UserError, match=says):
        parse(document, known=SITES)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["name", "edits", "op", "site", "objective", "workload"]), inner, max_size=4)
        ),
    )
)
def test_no_json_document_breaks_the_reader(document):
    """Whatever JSON holds, the reader gives a scenario or a UserError."""
    try:
        found = parse(document)
    except UserError:
        return
    assert isinstance(found, Scenario)


def test_many_requests_are_answered_as_one_by_one():
    """Two worlds made ready once, asked in any order, say what worlds made for each request alone say."""
    requests = [Request(source=source, workload=workload(), connection=kind) for source in "cab" for kind in ("cold", "warm")]
    for edits in (fail("a"), fail("b"), fail("a", "b", "c")):
        assert what_ifs(edits, WORLD, requests) == [what_if(edits, WORLD, request) for request in requests]
    assert what_ifs(fail("a"), WORLD, []) == []
