"""Packet limits: what a token bucket promises holds for any sequence of requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.limits import PacketLimits, TokenBucket
from records.units import MS, SECOND

requests = st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 20)), max_size=80)


@given(st.integers(1, 50), st.integers(20, 100), requests)
def test_no_window_carries_more_than_burst_and_rate_allow(rate: int, burst: int, asked: list[tuple[int, int]]) -> None:
    """In every window between two grants: granted <= burst + rate * length, exactly, however requests come."""
    bucket, now, grants = TokenBucket(rate, burst), 0, []
    for step, tokens in asked:
        now += step
        if bucket.take(tokens, now):
            grants.append((now, tokens))
    for i, (begin, _) in enumerate(grants):
        total = 0
        for end, tokens in grants[i:]:
            total += tokens
            assert total * SECOND <= burst * SECOND + rate * (end - begin)


@given(st.integers(1, 50), st.integers(20, 100), requests)
def test_the_promised_wait_is_enough_and_not_too_much(rate: int, burst: int, asked: list[tuple[int, int]]) -> None:
    """After exactly the stated wait the tokens are there, and one ns earlier they are not."""
    for step, tokens in asked:
        bucket = TokenBucket(rate, burst)
        bucket.take(burst, 0)
        wait = bucket.wait_ns(tokens, step)
        if wait:
            assert not bucket.take(tokens, step + wait - 1)
        assert bucket.take(tokens, step + wait)


def test_a_clock_that_stands_or_runs_back_gives_nothing() -> None:
    """Time that does not advance refills nothing."""
    bucket = TokenBucket(10, 10)
    assert bucket.take(10, 5 * SECOND)
    assert not bucket.take(1, 5 * SECOND)
    assert not bucket.take(1, SECOND)
    assert bucket.take(1, 5 * SECOND + 100 * MS)


def test_a_request_larger_than_the_bucket_is_an_error() -> None:
    """It could never be granted, so waiting for it would be for ever."""
    with pytest.raises(ValueError, match="never"):
        TokenBucket(10, 10).take(11, 0)
    with pytest.raises(ValueError, match="at least 1"):
        TokenBucket(0, 10)


def test_one_target_cannot_use_the_share_of_another() -> None:
    """A target at its own cap waits while another one is served at once; a refused request costs the total nothing."""
    limits = PacketLimits(total_per_s=100, per_target_per_s=10)
    assert limits.take("192.0.2.1", 10, 0) == 0
    assert limits.take("192.0.2.1", 5, 0) == 500 * MS
    assert limits.take("192.0.2.2", 10, 0) == 0
    # 20 of the 100 are gone, not 25: eight more targets fill the total, the ninth waits.
    for n in range(3, 11):
        assert limits.take(f"192.0.2.{n}", 10, 0) == 0
    assert limits.take("192.0.2.11", 1, 0) == 10 * MS


def test_a_round_larger_than_the_rate_passes_when_announced() -> None:
    """A traceroute of 60 packets passes a cap of 10 a second when the limits know of it; then its target rests."""
    limits = PacketLimits(total_per_s=100, per_target_per_s=10, largest_round=60)
    assert limits.take("192.0.2.1", 60, 0) == 0
    assert limits.take("192.0.2.1", 5, 0) == 500 * MS
    assert limits.take("192.0.2.1", 0, 0) == 0


def test_addresses_of_one_network_share_its_cap() -> None:
    """Ten packets a second into a /24, whichever of its addresses they go to; another /24 has its own."""
    limits = PacketLimits(total_per_s=100, per_target_per_s=10, per_network_per_s=10)
    granted = [limits.take(f"198.51.100.{n}", 5, 0, network="198.51.100.0/24") == 0 for n in range(4)]
    assert granted == [True, True, False, False]
    assert limits.take("203.0.113.1", 5, 0, network="203.0.113.0/24") == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2), st.integers(1, 6)), max_size=60))
def test_every_cap_holds_over_every_second(asked: list[tuple[int, int, int]]) -> None:
    """In all 20, an address 5, a network 8, bursts of as much: no window of a second grants more than burst + rate."""
    limits = PacketLimits(total_per_s=20, per_target_per_s=5, per_network_per_s=8, largest_round=6)
    granted: list[tuple[int, str, str, int]] = []
    now = 0
    for step, host, packets in asked:
        now += step * SECOND // 10
        target, network = f"10.0.{host // 2}.{host}", f"10.0.{host // 2}.0/24"
        if limits.take(target, packets, now, network=network) == 0:
            granted.append((now, target, network, packets))
    for start, *_ in granted:
        window = [entry for entry in granted if start <= entry[0] <= start + SECOND]
        assert sum(entry[3] for entry in window) <= 20 + 20
        for place, rate, burst in ((1, 5, 6), (2, 8, 8)):
            for name in {entry[place] for entry in window}:
                assert sum(entry[3] for entry in window if entry[place] == name) <= burst + rate


def test_new_limits_are_no_reason_for_a_burst() -> None:
    """What the old ones granted a moment ago is granted still: a reload does not fill the buckets."""
    old = PacketLimits(total_per_s=10, per_target_per_s=10)
    assert old.take("a", 10, 0) == 0
    new = PacketLimits(total_per_s=12, per_target_per_s=12)
    new.carry_over(old, 0)
    assert new.take("b", 3, 0) > 0
    assert new.take("b", 2, 0) == 0
    assert new.take("a", 3, SECOND) == 0


def test_ever_new_addresses_do_not_fill_the_memory() -> None:
    """100,000 addresses, one a second: buckets that are full again are forgotten."""
    limits = PacketLimits(total_per_s=10, per_target_per_s=10)
    for n in range(100_000):
        assert limits.take(f"host-{n}", 5, n * SECOND) == 0
    assert len(limits._buckets) <= 5000
