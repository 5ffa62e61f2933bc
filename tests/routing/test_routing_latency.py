"""The parts of a request's latency against values worked out by hand, and the queue against Erlang and M/M/1."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_kit import profile

from records.units import MS, SECOND
from routing import latency
from routing.queueing import capacity_rps, service_ns, solve


def test_a_cold_connection_costs_two_round_trips_and_a_warm_one_none():
    """TCP and TLS 1.3 are one round trip each."""
    assert latency.connect_ns(80.0 * MS, "cold") == 160 * MS
    assert latency.connect_ns(80.0 * MS, "warm") == 0


@pytest.mark.parametrize(
    ("size_bytes", "waits_ms"),
    # Windows of 10, 20, 40, ... segments of 1460 bytes: 14,600 / 43,800 / 102,200 / 219,000 bytes in 1 / 2 / 3 / 4 rounds.
    # The last four are the research note's table for RTT 150 ms: 0, 150, 450 and 1,050 ms.
    [(14_600, 0), (14_601, 150), (43_801, 300), (2_000, 0), (20_000, 150), (200_000, 450), (2_000_000, 1050)],
)
def test_slow_start_waits_a_round_trip_for_every_window_but_the_last(size_bytes, waits_ms):
    """Beyond the last byte's one-way delay, from the initial window of RFC 6928."""
    assert latency.transfer_ns(size_bytes, 150.0 * MS) / MS == waits_ms


def test_the_last_window_leaves_at_the_measured_rate():
    """20 kB at 200 Mbit/s: one round trip, then 5,400 bytes = 43,200 bits in 0.216 ms."""
    assert latency.transfer_ns(20_000, 150.0 * MS, throughput_bps=200e6) / MS == pytest.approx(150.216)


def test_a_full_pipe_ends_slow_start():
    """1 Mbit/s x 100 ms is 12,500 bytes, less than the first window: 125,000 bytes take 1 s and no waiting."""
    assert latency.transfer_ns(125_000, 100.0 * MS, throughput_bps=1e6) / MS == pytest.approx(1000)


def test_the_second_window_may_fill_the_pipe():
    """2 Mbit/s x 100 ms = 25,000 bytes: 14,600 go out, one RTT, the other 85,400 at the rate: 100 + 341.6 ms."""
    assert latency.transfer_ns(100_000, 100.0 * MS, throughput_bps=2e6) / MS == pytest.approx(441.6)


def test_loss_caps_the_rate_by_the_law_of_mathis():
    """0.1 % and 150 ms give 3.02 Mbit/s (research note), and that or a lesser measured rate carries what slow start leaves."""
    assert latency.loss_limited_rate_bps(150.0 * MS, 0.001) / 1e6 == pytest.approx(3.02, abs=0.005)
    assert latency.loss_limited_rate_bps(150.0 * MS, None) == math.inf
    assert latency.loss_limited_rate_bps(150.0 * MS, 0.0) == math.inf
    slow = latency.transfer_ns(10_000_000, 150.0 * MS, loss_ratio=0.001)
    assert slow == pytest.approx(10_000_000 * 8 / 3.0158e6 * SECOND, rel=0.05)
    assert latency.transfer_ns(10_000_000, 150.0 * MS, throughput_bps=1e6, loss_ratio=0.001) > slow
    # A prompt that fits the first window is not clocked by a steady-state law.
    assert latency.transfer_ns(4_000, 150.0 * MS, loss_ratio=0.1) == 0


@pytest.mark.parametrize(
    ("connection", "round_trips"),
    [
        ("cold", 2),  # SYN / SYN-ACK, then ClientHello / ServerHello..Finished
        ("warm", 0),
        ("tls12", 3),  # SYN; ClientHello / ServerHelloDone; ClientKeyExchange / Finished
        ("tls-resumed", 2),  # SYN; ClientHello with ticket / Finished
        ("tls-early-data", 1),  # SYN; the request follows the ClientHello at once
        ("quic", 1),  # Initial with ClientHello / Handshake Finished
        ("quic-0rtt", 0),  # the request is in the first flight
    ],
)
def test_each_hand_shake_by_counting_its_flights(connection, round_trips):
    """80 ms for every time the client must wait before the request may leave."""
    assert latency.connect_ns(80.0 * MS, connection) == round_trips * 80 * MS


def test_a_fair_share_caps_the_rate_like_a_slow_line():
    """10 Gbit/s among 5,000 flows is 2 Mbit/s: the same 441.6 ms as a measured line of 2 Mbit/s; the lesser of both holds."""
    share = latency.fair_share_bps(10e9, 5000)
    assert share == 2e6
    assert latency.transfer_ns(100_000, 100.0 * MS, share_bps=share) / MS == pytest.approx(441.6)
    assert latency.transfer_ns(100_000, 100.0 * MS, throughput_bps=1e9, share_bps=share) / MS == pytest.approx(441.6)
    assert latency.transfer_ns(125_000, 100.0 * MS, throughput_bps=1e6, share_bps=share) / MS == pytest.approx(1000)
    with pytest.raises(ValueError, match="a flow"):
        latency.fair_share_bps(1e9, 0)


def test_within_a_site_nothing_waits():
    """RTT 0: no hand-shake, no slow start; only the rate where one is known."""
    assert latency.transfer_ns(1_000_000, 0.0) == 0
    assert latency.transfer_ns(1_000_000, 0.0, loss_ratio=0.1) == 0


def test_upload_and_network_are_half_a_round_trip_each():
    """The request goes there, the first token comes back; a small prompt adds nothing."""
    assert latency.upload_ns(4_000, 100.0 * MS) == 50 * MS
    assert latency.network_ns(100.0 * MS) == 50 * MS


def test_machine_parts_by_hand():
    """Prefill 1 + 0.07 x 1024 x (1 - 0.5) = 36.84 ms; 255 tokens at 21.8 + 0.288 x 8 ms = 6.14652 s; one token decodes nothing."""
    assert latency.prefill_ns(1 * MS, 70_000, 1024, 0.5) / MS == pytest.approx(36.84)
    assert latency.decode_ns(21.8 * MS, 0.288 * MS, 256, 8) / SECOND == pytest.approx(6.14652)
    assert latency.decode_ns(21.8 * MS, 0.288 * MS, 1, 8) == 0
    assert latency.decode_ns(21.8 * MS, 0.288 * MS, 0, 8) == 0
    assert latency.relay_ns(2, 0.5 * MS) == MS


@given(
    st.integers(0, 10**8),
    st.lists(st.floats(1e5, 5e8), min_size=1, max_size=5),
    st.one_of(st.none(), st.floats(1e5, 1e10)),
    st.one_of(st.none(), st.floats(0, 0.5)),
)
def test_an_array_of_draws_is_each_draw_by_itself(size_bytes, rtts, throughput, loss):
    """Element i of the array is the scalar answer for RTT i, and it is never below the time the wire needs."""
    together = latency.transfer_ns(size_bytes, np.array(rtts), throughput_bps=throughput, loss_ratio=loss)
    alone = [latency.transfer_ns(size_bytes, rtt, throughput_bps=throughput, loss_ratio=loss) for rtt in rtts]
    assert np.allclose(together, alone)
    assert (together >= 0).all()


# ---- the queue


def erlang_c(slots: int, load: float) -> float:
    """P(wait) of M/M/c by Erlang's B recursion; an independent way to it."""
    blocked = 1.0
    for n in range(1, slots + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1 - load / slots * (1 - blocked))


def test_no_load_no_wait():
    """An idle pool serves at once, alone in its batch."""
    queue = solve(profile(), 1, 0.0, input_tokens=1000, output_tokens=101)
    assert (queue.wait_mean_ns, queue.wait_probability, queue.batch, queue.utilisation) == (0, 0, 1, 0)
    assert (queue.wait_draws_ns(np.array([0.5, 0.999])) == 0).all()


def test_one_slot_is_mm1():
    """Service 120 ms, 5 requests/s: rho 0.6, Wq = rho S / (1 - rho) = 180 ms."""
    one = profile(max_batch=1)
    assert service_ns(one, 1, 1000, 101) == 120 * MS
    queue = solve(one, 1, 5.0, input_tokens=1000, output_tokens=101)
    assert queue.utilisation == pytest.approx(0.6)
    assert queue.wait_probability == pytest.approx(0.6)
    assert queue.wait_mean_ns / MS == pytest.approx(180)


@pytest.mark.parametrize(("slots", "load"), [(2, 1.0), (8, 6.5), (64, 58.0), (512, 480.0)])
def test_a_service_time_that_does_not_depend_on_the_batch_is_erlang(slots, load):
    """beta = delta = 0 is M/M/c: P(wait) and the mean wait are Erlang's C."""
    flat = profile(max_batch=slots, delta_ns=0, gamma_ns=0, alpha_ns=MS)
    service_s = 0.1
    queue = solve(flat, 1, load / service_s, input_tokens=1000, output_tokens=101)
    assert queue.wait_probability == pytest.approx(erlang_c(slots, load), rel=1e-9)
    assert queue.wait_mean_ns / SECOND == pytest.approx(erlang_c(slots, load) * service_s / (slots - load), rel=1e-9)


def test_devices_share_a_pool():
    """Two devices with four slots each, batch without effect, are one with eight."""
    flat = {"delta_ns": 0, "gamma_ns": 0}
    two = solve(profile(max_batch=4, **flat), 2, 60.0, input_tokens=0, output_tokens=101)
    one = solve(profile(max_batch=8, **flat), 1, 60.0, input_tokens=0, output_tokens=101)
    assert two.wait_mean_ns == pytest.approx(one.wait_mean_ns)
    assert two.batch < one.batch


def test_the_published_example_of_a_batch_server():
    """L40S, 64 slots, 255 tokens at 21.8 + 0.288 b ms: 16 ms at 5.0 and 792 ms at 5.8 requests/s, at most 6.24 (research note)."""
    l40s = profile(alpha_ns=round(21.8 * MS), beta_ns=round(0.288 * MS), gamma_ns=0, delta_ns=0, max_batch=64)
    assert capacity_rps(l40s, 1, 1024, 256) == pytest.approx(6.24, abs=0.005)
    slow, fast = (solve(l40s, 1, rate, input_tokens=1024, output_tokens=256) for rate in (5.0, 5.8))
    assert slow.wait_mean_ns / MS == pytest.approx(16, abs=1.5)
    assert fast.wait_mean_ns / MS == pytest.approx(792, rel=0.03)
    assert (21.8 + 0.288 * slow.batch) == pytest.approx(34.5, abs=0.6)


def test_an_overloaded_pool_says_so():
    """At and above the greatest rate there is no steady state: an infinite wait, not a number."""
    one = profile(max_batch=1)
    most = capacity_rps(one, 3, 1000, 101)
    assert most == pytest.approx(25)
    assert solve(one, 3, most, input_tokens=1000, output_tokens=101).overloaded
    assert solve(one, 3, most * 1.1, input_tokens=1000, output_tokens=101).wait_mean_ns == math.inf


def test_waits_are_drawn_from_the_distribution_that_has_their_mean():
    """The mean over a fine grid of probabilities is the mean wait; the share that waits is P(wait)."""
    queue = solve(profile(max_batch=1), 1, 5.0, input_tokens=1000, output_tokens=101)
    draws = queue.wait_draws_ns((np.arange(200_000) + 0.5) / 200_000)
    assert draws.mean() == pytest.approx(queue.wait_mean_ns, rel=1e-3)
    assert (draws > 0).mean() == pytest.approx(queue.wait_probability, abs=1e-4)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.integers(1, 40), st.integers(0, 10**6))
def test_more_load_waits_longer_in_fuller_batches(a, b, slots, beta_ns):
    """Wait, batch and utilisation do not fall with the rate; the batch never leaves 1..slots."""
    some = profile(max_batch=slots, beta_ns=beta_ns)
    most = capacity_rps(some, 1, 1000, 101)
    low, high = (solve(some, 1, share * most, input_tokens=1000, output_tokens=101) for share in sorted((a, b)))
    assert low.wait_mean_ns <= high.wait_mean_ns * (1 + 1e-9)
    assert 1 <= low.batch <= high.batch * (1 + 1e-9) <= slots * (1 + 1e-6)
