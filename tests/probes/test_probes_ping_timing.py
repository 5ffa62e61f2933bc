"""How an RTT is read off the stamps: the four rules, and a clock step that never reaches an RTT."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from probes.ping import ancillary
from probes.ping.opening import open_udp
from probes.ping.timing import Reading, Sent, round_trip

MS = 1_000_000
NOW = 1_800_000_000_000_000_000


def stamps(*, rtt_ns=10 * MS, wakeup_ns=3 * MS, step_ns=0, step_after_reply=False, has_tx=True, has_rx=True):
    """A packet handed over at mono 0, on the wire 5 us later, answered after `rtt_ns`, picked up `wakeup_ns` late."""
    sent = Sent(Reading(0, NOW), NOW + 5_000 if has_tx else None)
    seen_step_ns = 0 if step_after_reply else step_ns
    received_ns = NOW + 5_000 + rtt_ns + seen_step_ns if has_rx else None
    end_ns = 5_000 + rtt_ns + wakeup_ns
    return sent, received_ns, Reading(end_ns, NOW + end_ns + step_ns)


def test_both_kernel_stamps_give_the_rtt_without_the_wakeup():
    """The packet was picked up 3 ms late; the RTT is the stamps' 10 ms all the same."""
    assert round_trip(*stamps()) == (10 * MS, "kernel_txrx")


def test_without_a_transmit_stamp_the_send_call_counts_too():
    """The wall clock before the send stands in: 5 us of system call are in the RTT, and it is marked kernel_rx."""
    assert round_trip(*stamps(has_tx=False)) == (10 * MS + 5_000, "kernel_rx")


def test_without_a_receive_stamp_the_user_clock_is_used():
    """Nothing of the kernel's: 10 ms + 5 us + the 3 ms of the wake-up, marked user."""
    assert round_trip(*stamps(has_rx=False)) == (13 * MS + 5_000, "user")


def test_a_packet_whose_stamp_was_dropped_left_after_the_one_before_it():
    """Four packets by one call, 50 us apart, the clocks read once before it; the kernel dropped the third's stamp, and has room again
    for the fourth's. By the call's reading the third's RTT would be 150 us too long; by the second's stamp it is 50."""
    with contextlib.closing(open_udp(4)) as stamped:
        before, sent = Reading(0, NOW), [Sent(Reading(0, 0)) for _ in range(4)]
        stamped.sent_together(before, sent, is_all=True)
        left_ns = [NOW + 50_000 * (number + 1) for number in range(4)]
        told = (0, 1, 3)
        rows = [(ancillary.STAMP_HEAD, *divmod(left_ns[number], 10**9), ancillary.SENT_STAMP[4], number) for number in told]
        assert stamped._queue._stamp_all(rows) == []
    assert [one.kernel_ns for one in sent] == [left_ns[0], left_ns[1], None, left_ns[3]]
    picked_up = Reading(20 * MS, NOW + 20 * MS)
    assert round_trip(sent[2], left_ns[2] + 10 * MS, picked_up) == (10 * MS + 50_000, "kernel_rx")


@given(
    st.integers(-(10**12), 10**12).filter(lambda step_ns: abs(step_ns) > 200_000),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10**10),
    st.integers(0, 10**8),
)
def test_a_stepped_wall_clock_never_reaches_an_rtt(step_ns, step_after_reply, has_tx, rtt_ns, wakeup_ns):
    """Whenever in the round trip the wall clock steps, the RTT is the monotonic difference, marked user."""
    made = stamps(rtt_ns=rtt_ns, wakeup_ns=wakeup_ns, step_ns=step_ns, step_after_reply=step_after_reply, has_tx=has_tx)
    assert round_trip(*made) == (5_000 + rtt_ns + wakeup_ns, "user")


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12), st.integers(0, 10**11), st.integers(-(10**12), 10**12))
def test_no_stamps_give_a_negative_or_impossible_rtt(tx_ns, rx_ns, user_ns, drift_ns):
    """Whatever nonsense the stamps are, the RTT lies between 0 and what the monotonic clock saw (plus the tolerance)."""
    rtt_ns, source = round_trip(Sent(Reading(0, NOW), NOW + tx_ns), NOW + rx_ns, Reading(user_ns, NOW + user_ns + drift_ns))
    assert 0 <= rtt_ns <= user_ns + 100_000
    if source == "user":
        assert rtt_ns == user_ns
