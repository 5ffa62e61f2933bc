"""The arithmetic of one link, from definitions."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.links import Change, LinkState
from lab.topology import Link
from records.errors import UserError

MS = 1_000_000


def link(**values: object) -> LinkState:
    return LinkState(Link(src="a", dst="b", medium="internet", delay_ns=MS, **values))  # type: ignore[arg-type]


def test_a_packet_takes_its_bits_at_the_rate() -> None:
    """1250 bytes at 10 Mbit/s take 1 ms; the next packet waits for them; an idle link starts at once."""
    slow = link(rate_bps=10_000_000, queue_ns=50 * MS)
    assert slow.transmit(0, 1, 1250, 1250) == (1, MS)
    assert slow.transmit(0, 1, 1250, 1250) == (1, 2 * MS)
    assert slow.transmit(10 * MS, 1, 1250, 1250) == (1, 11 * MS)


def test_without_a_rate_everything_passes_at_once() -> None:
    """A link without a rate neither delays nor drops."""
    assert link().transmit(7, 44, 65000, 1500) == (44, 7)


def test_a_full_queue_drops_what_would_wait_too_long() -> None:
    """With a queue of 5 ms at 10 Mbit/s and packets of 1 ms each, five of ten at once pass and five are dropped."""
    slow = link(rate_bps=10_000_000, queue_ns=5 * MS)
    passed = [slow.transmit(0, 1, 1250, 1250)[0] for _ in range(10)]
    assert passed == [1] * 5 + [0] * 5
    assert slow.counters.dropped == 5


def test_a_burst_is_cut_where_the_queue_is_full() -> None:
    """Ten segments of 1 ms together into a queue of 5 ms: the first five pass, as if they had come one by one."""
    slow = link(rate_bps=10_000_000, queue_ns=5 * MS)
    assert slow.transmit(0, 10, 12500, 1250) == (5, 5 * MS)
    assert slow.counters.dropped == 5
    assert slow.transmit(0, 10, 12500, 1250)[0] == 0


def test_an_idle_link_takes_at_least_one_packet() -> None:
    """A queue shorter than one packet does not close the link: an idle one takes the packet."""
    slow = link(rate_bps=1_000_000, queue_ns=MS)
    assert slow.transmit(0, 1, 1500, 1500) == (1, 12 * MS)
    assert slow.transmit(0, 1, 1500, 1500)[0] == 0


@given(st.lists(st.tuples(st.integers(0, 3 * MS), st.integers(40, 1500)), min_size=1, max_size=200), st.integers(1_000_000, 10**9))
def test_a_link_never_exceeds_its_rate_nor_its_queue(packets: list[tuple[int, int]], rate_bps: int) -> None:
    """Whatever comes: departures are in order, no busy period carries more bits than its time holds, no wait exceeds the queue."""
    queue_ns = 5 * MS
    state = link(rate_bps=rate_bps, queue_ns=queue_ns)
    now, last_out, busy_from, busy_bits = 0, 0, 0, 0
    for gap_ns, size in packets:
        now += gap_ns
        fits, out_ns = state.transmit(now, 1, size, size)
        if not fits:
            continue
        if now >= last_out:
            busy_from, busy_bits = now, 0
        busy_bits += size * 8
        assert out_ns >= last_out
        assert (out_ns - busy_from) * rate_bps >= (busy_bits - 1) * 10**9 - len(packets) * rate_bps
        assert out_ns - now <= max(queue_ns, size * 8 * 10**9 // rate_bps)
        last_out = out_ns


def test_loss_has_the_set_ratio() -> None:
    """100,000 packets at 2 % loss: the number lost is within 4 sigma of the binomial's mean, also in bursts."""
    random = Random(1).random
    for burst in (1, 40):
        lossy = link(loss_ratio=0.02)
        kept = sum(last - first for _ in range(100_000 // burst) for first, last in lossy.survivors(burst, random))
        sigma = (100_000 * 0.02 * 0.98) ** 0.5
        assert abs((100_000 - kept) - 2000) < 4 * sigma
        assert lossy.counters.lost == 100_000 - kept


def test_jitter_is_exponential_with_the_set_mean() -> None:
    """The mean wait is the set one within 4 standard errors, no wait is negative, and 1/e of them exceed the mean."""
    random, jittery = Random(2).random, link(jitter_ns=MS)
    waits = [jittery.wait_ns(random()) for _ in range(50_000)]
    assert min(waits) >= 0
    assert abs(sum(waits) / len(waits) - MS) < 4 * MS / 50_000**0.5
    assert abs(sum(w > MS for w in waits) / len(waits) - 0.3679) < 0.01


def test_changes_and_back() -> None:
    """Degrade sets what is given and no more, fail keeps values, restore brings everything back."""
    state = link(loss_ratio=0.1, rate_bps=10**6, queue_ns=MS)
    configured = state.current()
    state.change(Change(op="degrade", delay_ns=9 * MS))
    assert (state.delay_ns, state.loss_ratio, state.up) == (9 * MS, 0.1, True)
    state.change(Change(op="fail"))
    assert not state.up
    state.change(Change(op="restore"))
    assert state.up
    assert state.current() == configured


def test_the_metric_decides_the_weight_and_a_degraded_delay_does_not() -> None:
    """A link weighs its configured delay until it is shifted, and again after it is restored."""
    state = link()
    state.change(Change(op="degrade", delay_ns=9 * MS, mtu=1400))
    assert (state.weight, state.current().mtu) == (MS, 1400)
    state.change(Change(op="shift", metric=7))
    assert (state.weight, state.delay_ns, state.current().metric) == (7, 9 * MS, 7)
    state.change(Change(op="restore"))
    assert (state.weight, state.current()) == (MS, link().current())
    assert Link(src="a", dst="b", medium="internet", delay_ns=0).weight == 1


@pytest.mark.parametrize(
    "values",
    [
        {"op": "fail", "delay_ns": 1},
        {"op": "degrade"},
        {"op": "degrade", "loss_ratio": 1.5},
        {"op": "degrade", "rate_bps": 5},
        {"op": "degrade", "delay_ns": -1},
        {"op": "break"},
        {"op": "shift"},
        {"op": "shift", "metric": 0},
        {"op": "shift", "metric": 5, "delay_ns": 1},
        {"op": "degrade", "metric": 5},
        {"op": "degrade", "mtu": 576},
        {"op": "restore", "mtu": 1400},
    ],
)
def test_a_change_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    """A change says what is wrong with it instead of being half applied."""
    with pytest.raises(UserError):
        Change(**values)  # type: ignore[arg-type]
