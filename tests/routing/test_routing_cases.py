"""The worked cases by hand: a file there and back, cameras by the terabyte, private links, rounds of federated learning."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import link

from records.errors import UserError
from records.units import MS, SECOND
from routing.cases import Cameras, break_even_gb, month_gb, monthly_usd, processed
from routing.federated import Federation, centralised, hierarchical, peer, star


def test_a_file_there_and_back_by_hand():
    """RTT 100 ms, 8 Mbit/s, 1 MB up and 100 kB down, 50 ms of work, cold.

    The pipe is 100 kB: windows of 14.6, 29.2 and 58.4 kB leave and wait a round trip each (102.2 kB), the fourth (116.8 kB)
    fills the pipe: 897.8 kB at 1 byte a us. Down: 14.6 + 29.2 kB and two round trips, 56.2 kB fit the third window.
    """
    found = processed([link("a", "b", 100, throughput_bps=8e6)], upload_bytes=10**6, download_bytes=10**5, processing_ns=50 * MS)
    assert found.connect_ns / MS == pytest.approx(200)
    assert found.upload_ns / MS == pytest.approx(50 + 300 + 897.8)
    assert found.download_ns / MS == pytest.approx(50 + 200 + 56.2)
    assert found.whole.p50_ns / MS == pytest.approx(200 + 1247.8 + 50 + 306.2)
    assert processed([], upload_bytes=10**6, download_bytes=1, processing_ns=50 * MS).whole.p50_ns == 50 * MS


def test_a_thousand_cameras_are_648_terabytes_a_month():
    """1,000 x 2 Mbit/s / 8 x 86,400 s x 30 = 648 TB; at 0.09 / 0.085 / 0.07 / 0.05 with tiers at 10.24, 51.2 and 153.6 TB."""
    cameras = Cameras(count=1000, bps_each=2e6, anomaly_share=0.01)
    assert cameras.uplink_bps == 2e9
    assert month_gb(cameras.uplink_bps) == 648_000

    def tiers(at):
        return 0.09 if at < 10_240 else 0.085 if at < 51_200 else 0.07 if at < 153_600 else 0.05

    everything, odd = cameras.streams("aws:us-east-1", tiers)
    by_hand = 10_240 * 0.09 + 40_960 * 0.085 + 102_400 * 0.07 + (648_000 - 153_600) * 0.05
    assert everything.usd == pytest.approx(by_hand, abs=0.1)
    assert (odd.gb, odd.usd) == (6480, pytest.approx(6480 * 0.09))
    assert cameras.streams("x", lambda _: None)[0].usd is None


def test_a_private_link_pays_from_some_volume_on():
    """0.09 against 0.02 a GB and a port of 1,620 USD: 1620 / 0.07 = 23,142.9 GB; an unknown port has no break-even."""
    found = break_even_gb(lambda _: 0.09, lambda _: 0.02, 1620.0)
    assert found == pytest.approx(1620 / 0.07, abs=0.01)
    assert monthly_usd(lambda _: 0.02, found, port_usd=1620.0) == pytest.approx(found * 0.09)
    assert break_even_gb(lambda _: 0.09, lambda _: 0.02, None) is None
    assert break_even_gb(lambda _: 0.01, lambda _: 0.02, 10.0) is None


def federation(**more):
    values = {
        "clients": ("a", "b", "c"),
        "model_bytes": 10**6,
        "update_bytes": 10**6,
        "train_ns": 10 * SECOND,
        "client_bps": 8e6,
        "aggregator_bps": 8e9,
        "raw_bytes": 10**9,
    }
    return Federation(**(values | more))


def flat(rtts):
    """RTT in ms by pair; within a site 0."""
    return lambda a, b: 0.0 if a == b else rtts[frozenset((a, b))] * MS


RTT = flat(
    {frozenset(pair): ms for pair, ms in ((("a", "b"), 0.0), (("a", "c"), 0.0), (("b", "c"), 0.0), (("a", "s"), 0.0))}
    | {frozenset(("b", "s")): 0.0, frozenset(("c", "s")): 0.0}
)


def test_rounds_by_hand_without_distance():
    """1 MB at 1 byte a us is 1 s each way: a star takes 1 + 10 + 1 s and 6 MB; a ring 10 + 4 x 1/3 s and 4 MB; 1 GB takes 1,000 s."""
    f = federation()
    found = star(f, ["s"], RTT)
    assert (found.round_ns / SECOND, found.sent_bytes, found.aggregator) == (pytest.approx(12), 6 * 10**6, "s")
    ring = peer(f, RTT)
    assert ring.round_ns / SECOND == pytest.approx(10 + 4 / 3, rel=1e-5)
    assert ring.sent_bytes == pytest.approx(4 * 10**6, rel=1e-5)
    whole = centralised(f, ["s"], RTT)
    assert (whole.upload_ns / SECOND, whole.sent_bytes) == (pytest.approx(1000), 3 * 10**9)


def test_an_aggregators_line_is_shared():
    """Three clients on 12 Mbit/s have 4 Mbit/s each: 2 s each way."""
    assert star(federation(aggregator_bps=12e6), ["s"], RTT).round_ns / SECOND == pytest.approx(14)


def test_a_hierarchy_by_hand():
    """c is far from s: it aggregates at c's own region and one update crosses instead of its clients'."""
    rtts = {
        ("a", "s"): 10,
        ("b", "s"): 10,
        ("c", "s"): 200,
        ("a", "c"): 200,
        ("b", "c"): 200,
        ("a", "b"): 10,
        ("d", "c"): 10,
        ("d", "s"): 200,
        ("a", "d"): 200,
        ("b", "d"): 200,
    }
    rtt = flat({frozenset(pair): ms for pair, ms in rtts.items()})
    found = hierarchical(federation(clients=("a", "b", "d")), ["s", "c"], ["s"], rtt)
    assert (found.regional, found.aggregator) == ({"a": "s", "b": "s", "d": "c"}, "s")
    assert found.sent_bytes == (3 + 1) * 2 * 10**6
    assert found.slowest == "d"


@settings(max_examples=40)
@given(st.lists(st.integers(1, 300), min_size=10, max_size=10), st.integers(1, 10**7))
def test_the_aggregator_is_the_best_of_all(distances, size):
    """No other candidate has a shorter round, and more candidates never make it longer."""
    names = ("a", "b", "c", "s", "t")
    pairs = {frozenset(pair) for pair in permutations(names, 2)}
    rtt = flat(dict(zip(sorted(pairs, key=sorted), distances, strict=True)))
    f = federation(model_bytes=size)
    alone = {site: star(f, [site], rtt).round_ns for site in ("s", "t", "a")}
    best = star(f, ["s", "t", "a"], rtt)
    assert best.round_ns == min(alone.values())
    assert star(f, ["s", "t"], rtt).round_ns >= best.round_ns
    assert centralised(f, ["s", "t"], rtt).upload_ns <= centralised(f, ["s"], rtt).upload_ns


def test_what_is_no_case_is_the_users_mistake():
    """No client, a client twice, no rate, a share above 1."""
    for wrong in ({"clients": ()}, {"clients": ("a", "a")}, {"client_bps": 0.0}, {"model_bytes": -1}):
        with pytest.raises(UserError):
            federation(**wrong)
    for ask in (
        lambda: star(federation(), [], RTT),
        lambda: centralised(federation(), [], RTT),
        lambda: hierarchical(federation(), [], ["s"], RTT),
    ):
        with pytest.raises(UserError, match="needs"):
            ask()
    with pytest.raises(UserError):
        Cameras(count=1, bps_each=1.0, anomaly_share=1.5)
    with pytest.raises(UserError):
        processed([], upload_bytes=-1, download_bytes=0, processing_ns=0)
