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
