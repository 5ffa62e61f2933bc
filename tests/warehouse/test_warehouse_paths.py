"""Views of paths: when a flow changed its way, who stands at each hop over all flows, how long the way back was."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warehouse_builders import NOW, put, trace

from records.measurement import Hop, TracerouteResult, path_change, path_hash, reverse_hop_count
from warehouse import Warehouse

T = "t"  # the target, as an address


def path(n: int, *addresses: str | None, reached: bool = True, **other: object) -> TracerouteResult:
    """The nth trace, a minute after the one before; None is a silent hop."""
    hops = tuple(
        Hop(ttl=i, address=a, rtt_ns=None if a is None else i * 1_000_000, replies=int(a is not None)) for i, a in enumerate(addresses, 1)
    )
    return trace(n, NOW - timedelta(minutes=300 - n), hops=hops, reached=reached, path_hash=path_hash(addresses), **other)


#: (before, after, first TTL that certainly differs), by hand; a path that ends in "t" reached its target.
CHANGES = [
    (("a", "b", T), ("a", "b", T), None),
    (("a", "b", T), ("a", "x", T), 2),
    (("a", "b", T), ("a", None, T), None),
    (("a", None, T), ("a", "x", T), None),
    (("a", "b", T), ("a", "b", "c", T), 3),
    (("a", "b", "c", T), ("a", "b", T), 3),
    (("a", "b", T), ("a", "b", None, T), 3),
    (("a", "b", None, None), ("a", "b", T), 3),
    (("a", "b"), ("a", "b", None, None), None),
    (("a", None, "c"), ("x", None, "c"), 1),
    ((), ("a", T), None),
]


@pytest.mark.parametrize(("before", "after", "ttl"), CHANGES)
def test_a_change_is_what_certainly_differs(before: tuple[str | None, ...], after: tuple[str | None, ...], ttl: int | None) -> None:
    """Silence is no change; a path that reached its target sooner or later is one."""
    reached = [bool(addresses) and addresses[-1] == T for addresses in (before, after)]
    assert path_change(path(1, *before, reached=reached[0]), path(2, *after, reached=reached[1])) == ttl


TTLS = [None, 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 254, 255]


@pytest.fixture(scope="module")
def kept(shared: Warehouse) -> Warehouse:
    """The traces of all tests, told apart by dst."""
    for flow, (before, after, _) in enumerate(CHANGES):
        reached = [bool(addresses) and addresses[-1] == T for addresses in (before, after)]
        put(shared, path(2 * flow, *before, reached=reached[0], flow=flow), path(2 * flow + 1, *after, reached=reached[1], flow=flow))
    flows = [(101, 0, ("old", "old", T)), (102, 0, ("a", "b", "c", T)), (103, 1, ("a", "x", None, T)), (104, 2, ("a", "b", T))]
    hops = tuple(Hop(ttl=n, address="a", rtt_ns=1, replies=1, reply_ttl=ttl) for n, ttl in enumerate(TTLS, 1))
    put(shared, *(path(n, *addresses, flow=flow, dst="iad") for n, flow, addresses in flows), trace(200, hops=hops, dst="sjc"))
    return shared


def test_the_view_finds_the_same_changes(kept: Warehouse) -> None:
    """Each pair as a flow of its own: the view has a row exactly where there is a change, at that TTL, with both addresses."""
    with kept.cursor() as cursor:
        rows = cursor.execute(
            "SELECT flow, changed_ttl, previous_address, address, added_hop_count FROM path_changes WHERE dst = 'fra' ORDER BY flow"
        ).fetchall()
    expected = [
        (flow, ttl, before[ttl - 1], after[ttl - 1], len(after) - len(before))
        for flow, (before, after, ttl) in enumerate(CHANGES)
        if ttl is not None
    ]
    assert rows == expected


def test_each_hop_names_who_answered_over_all_flows(kept: Warehouse) -> None:
    """Of the newest trace of each of three flows: two routers at hop 2, one flow silent at hop 3; an old path is left out."""
    with kept.cursor() as cursor:
        rows = cursor.execute(
            "SELECT ttl, addresses, address_count, flow_count, silent_flow_count, rtt_max_ms "
            "FROM hop_diversity WHERE dst = 'iad' ORDER BY ttl"
        ).fetchall()
    assert rows == [
        (1, ["a"], 1, 3, 0, 1.0),
        (2, ["b", "x"], 2, 3, 0, 2.0),
        (3, ["c", T], 2, 3, 1, 3.0),
        (4, [T], 1, 2, 0, 4.0),
    ]


def test_the_way_back_is_guessed_alike_in_sql_and_python(kept: Warehouse) -> None:
    """For reply TTLs around every usual first TTL; unknown stays unknown."""
    with kept.cursor() as cursor:
        found = [value for (value,) in cursor.execute("SELECT reverse_hop_count FROM hops WHERE dst = 'sjc' ORDER BY ttl").fetchall()]
    assert found == [None, 32, 2, 1, 32, 2, 1, 64, 2, 1, 127, 2, 1] == [reverse_hop_count(ttl) for ttl in TTLS]


@given(st.integers(0, 40), st.sampled_from([64, 128, 255]))
def test_the_guess_is_right_for_a_host_that_starts_as_usual(routers: int, start: int) -> None:
    """Each router on the way back takes one off; up to 31 of them the guess is exact (64 less 32 could also be a start of 32)."""
    if routers < 32 or start != 64:
        assert reverse_hop_count(start - routers) == routers + 1
