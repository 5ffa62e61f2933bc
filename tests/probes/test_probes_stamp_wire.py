"""STAMP's packets, timestamps and error estimates against the RFCs' figures, and against scapy's implementation."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.stamp import wire
from probes.stamp.account import losses, proves_stateful, variations
from probes.stamp.reflect import Reflection, parse_networks
from probes.stamp.wire import ErrorEstimate, Reply, Request
from records.errors import ConfigError

SECOND = 1_000_000_000
KEY = b"a key of 32 octets for the tests!"
#: 2020-03-01 00:00:00.5 UTC: 1,583,020,800 s of Unix, 3,792,009,600 = 0xe2057980 s of NTP (2,208,988,800 more), and 2^31 / 2^32 of one.
T1_NS = 1_583_020_800 * SECOND + SECOND // 2
T1, T2, T3 = 0xE2057980_80000000, 0xE2057981_20000000, 0xE2057981_40000000
#: S 1, Z 0, scale 20 (010100), multiplier 200 (11001000): 200 * 2^20 / 2^32 s = 200/4096 s.
ERROR, ERROR_NS = 0x94C8, 48_828_125

#: By hand from figures 3 to 6 of RFC 8762 with the SSID of RFC 8972 (its figures 1 to 4); HMACs by `openssl dgst -sha256 -mac HMAC`.
REQUEST = "01020304 e205798080000000 94c8 1234" + "00" * 28
REPLY = "00000007 e205798140000000 8001 1234 e205798120000000 01020304 e205798080000000 94c8 0000 3c 000000"
SEALED_REQUEST = "01020304" + "00" * 12 + "e205798080000000 94c8 1234" + "00" * 68 + "56532fcfdceafa103c6b8ecd73948744"
SEALED_REPLY = (
    *("00000007", "00" * 12, "e205798140000000 8001 1234 00000000 e205798120000000", "00" * 8, "01020304", "00" * 12),
    *("e205798080000000 94c8", "00" * 6, "3c", "00" * 15, "a0784ab9eb2e1f4c0fae38e444fcdd7d"),
)
QUESTION = Request(sequence=0x01020304, timestamp=T1, error_bits=ERROR, ssid=0x1234)
ANSWER = Reply(
    sequence=7,
    timestamp=T3,
    error_bits=0x8001,
    ssid=0x1234,
    receive_timestamp=T2,
    sender_sequence=0x01020304,
    sender_timestamp=T1,
    sender_error_bits=ERROR,
    sender_ttl=60,
)


@pytest.mark.parametrize(("key", "request_hex", "reply_hex"), [(None, REQUEST, REPLY), (KEY, SEALED_REQUEST, "".join(SEALED_REPLY))])
def test_packets_are_the_octets_of_the_figures(key: bytes | None, request_hex: str, reply_hex: str) -> None:
    """Both modes, both directions: 44 and 112 octets, encoded and read back."""
    asked, answered = bytes.fromhex(request_hex), bytes.fromhex(reply_hex)
    assert len(asked) == len(answered) == (44 if key is None else 112)
    assert wire.encode_request(QUESTION, len(asked), key) == asked
    assert wire.decode_request(asked, key) == QUESTION
    assert wire.encode_reply(ANSWER, asked, key) == answered
    assert wire.decode_reply(answered, key) == ANSWER


def test_timestamps_and_error_estimates() -> None:
    """NTP and PTP formats of one time, across the end of NTP's era (2036); the error rounded up, never down."""
    assert wire.to_timestamp(T1_NS) == T1
    assert wire.to_timestamp(T1_NS, is_ptp=True) == 1_583_020_800 << 32 | 500_000_000
    assert wire.from_timestamp(T1, near_ns=T1_NS + 10**15) == T1_NS
    late_ns = 2_085_978_496 * SECOND + 250_000_000  # 2^32 s after 1900: the era's first second
    assert wire.to_timestamp(late_ns) == 0x00000000_40000000
    assert wire.from_timestamp(0x40000000, near_ns=late_ns - SECOND) == late_ns
    assert ErrorEstimate.decode(ERROR) == ErrorEstimate(ERROR_NS)
    assert ErrorEstimate.decode(0x0001).error_ns is None  # not in step
    assert ErrorEstimate.decode(0x8000).error_ns is None  # a multiplier of 0 is not valid
    assert ErrorEstimate.decode(0xC001).is_ptp
    assert ErrorEstimate(ERROR_NS).encode() == ERROR


@given(st.integers(0, 2**33 * SECOND), st.booleans(), st.integers(-(10**17), 10**17))
def test_times_come_back_within_half_a_ns(unix_ns: int, is_ptp: bool, apart_ns: int) -> None:
    """Whatever the era and the format, read near its own time."""
    bits = wire.to_timestamp(unix_ns, is_ptp=is_ptp)
    assert abs(wire.from_timestamp(bits, is_ptp=is_ptp, near_ns=unix_ns + apart_ns) - unix_ns) <= 1


@given(st.integers(0, 10**15))
def test_an_error_is_never_made_smaller(error_ns: int) -> None:
    """The stated error is a bound: at least what was meant, and at most 1/127 more (8 bits of multiplier) and rounding."""
    said = ErrorEstimate.decode(ErrorEstimate(error_ns).encode()).error_ns
    assert said is not None
    assert error_ns <= said <= error_ns * 128 / 127 + 2


def test_scapy_reads_ours_and_we_read_scapys() -> None:
    """The independent implementation in scapy.contrib.stamp makes and takes the same unauthenticated packets, TLV included."""
    scapy = pytest.importorskip("scapy.contrib.stamp")
    theirs = scapy.STAMPSessionSenderTestUnauthenticated(wire.encode_request(QUESTION, 64))
    assert (theirs.seq, theirs.ssid, theirs.mbz) == (0x01020304, 0x1234, 0)
    estimate = theirs.err_estimate
    assert (estimate.S, estimate.Z, estimate.scale, estimate.multiplier) == (1, 0, 20, 200)
    assert float(theirs.ts) == pytest.approx(3_792_009_600.5)  # scapy gives seconds since 1900
    (tlv,) = theirs.tlv_objects
    assert (int(tlv.flags), tlv.type, tlv.len) == (0x80, 1, 16)  # U is the first bit; scapy's names of the flags go the other way round
    error = scapy.ErrorEstimate(S=1, Z=0, scale=20, multiplier=200)
    own = scapy.ErrorEstimate(S=1, Z=0, scale=0, multiplier=1)
    made = scapy.STAMPSessionReflectorTestUnauthenticated(
        seq=7, ts=3_792_009_601.25, err_estimate=own, ssid=0x1234, ts_rx=3_792_009_601.125, seq_sender=0x01020304,
        ts_sender=3_792_009_600.5, err_estimate_sender=error, ttl_sender=60,
    )  # fmt: skip
    assert wire.decode_reply(bytes(made)) == ANSWER
    asked = scapy.STAMPSessionSenderTestUnauthenticated(seq=0x01020304, ts=3_792_009_600.5, err_estimate=error, ssid=0x1234)
    assert wire.decode_request(bytes(asked)) == QUESTION
    assert bytes(asked) == bytes.fromhex(REQUEST)


def test_answers_are_as_long_as_questions_and_mark_tlvs() -> None:
    """Padding goes back with U cleared, an unknown TLV with U set, one that is cut short with M set; never an octet more."""
    padding, unknown = bytes([0x80, 1, 0, 4]) + bytes(4), bytes([0x80, 200, 0, 2, 9, 9])
    cut, rest = bytes([0x80, 1, 0, 50, 7]), bytes([0x80, 3])
    for tail, back in (
        (padding + unknown, bytes([0x00, 1, 0, 4]) + bytes(4) + bytes([0x80, 200, 0, 2, 9, 9])),
        (unknown + cut, bytes([0x80, 200, 0, 2, 9, 9, 0xC0, 1, 0, 50, 7])),
        (padding + rest, bytes([0x00, 1, 0, 4]) + bytes(4) + bytes([0xC0, 3])),
    ):
        answer = wire.encode_reply(ANSWER, bytes.fromhex(REQUEST) + tail)
        assert answer[44:] == back
        assert len(answer) == 44 + len(tail)


def test_a_wrong_key_or_a_flipped_bit_is_refused() -> None:
    """Any bit of the 112 octets matters, and so does the key."""
    sealed = bytes.fromhex(SEALED_REQUEST)
    assert wire.decode_request(sealed, KEY + b"!") is None
    rng = random.Random(5)
    for bit in rng.sample(range(112 * 8), 60):
        broken = bytearray(sealed)
        broken[bit // 8] ^= 1 << bit % 8
        assert wire.decode_request(bytes(broken), KEY) is None


def test_lengths_that_cannot_be_had_are_refused() -> None:
    """A packet is its base, or at least a TLV's header longer."""
    for size in (43, 45, 47, 8973):
        with pytest.raises(ValueError, match="octets"):
            wire.encode_request(QUESTION, size)
    assert len(wire.encode_request(QUESTION, 48)) == 48


_PACKETS = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda head, tail: bytes.fromhex(REQUEST)[:head] + tail, st.integers(0, 44), st.binary(max_size=80)),
    st.builds(lambda head, tail: bytes.fromhex(SEALED_REQUEST)[:head] + tail, st.integers(0, 112), st.binary(max_size=80)),
)


def _any_octets(packet: bytes) -> None:
    near_ns = T1_NS
    for key in (None, KEY):
        core = Reflection(own_port=862, key=key)
        taken = core.take(packet, "192.0.2.1", 5000, 0)
        assert (taken is not None) == (wire.decode_request(packet, key) is not None)
        assert sum(count for _, count in core.counts.items()) == (taken is None)
        if taken is not None:
            request, number = taken
            reply = core.reply(request, number, receive_timestamp=T2, timestamp=T3, error_bits=1, sender_ttl=None)
            answer = wire.encode_reply(reply, packet, key)
            assert len(answer) == len(packet)
            assert wire.decode_reply(answer, key) == reply
        reply_read = wire.decode_reply(packet, key)
        if reply_read is not None:
            estimate = ErrorEstimate.decode(reply_read.error_bits)
            wire.from_timestamp(reply_read.timestamp, is_ptp=estimate.is_ptp, near_ns=near_ns)


@given(_PACKETS)
def test_any_octets_are_answered_in_kind_or_dropped(packet: bytes) -> None:
    """Whatever comes in: an answer of the same length that reads as one, or a count of why not; nothing is raised."""
    _any_octets(packet)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(_PACKETS)
def test_any_octets_ten_thousand_times(packet: bytes) -> None:
    """As above."""
    _any_octets(packet)


def _take(core: Reflection, host: str = "192.0.2.1", port: int = 5000, now_ns: int = 0, **other: int) -> int | None:
    request = Request(sequence=other.get("sequence", 9), timestamp=T1, error_bits=ERROR, ssid=other.get("ssid", 1))
    taken = core.take(wire.encode_request(request, 44), host, port, now_ns)
    return None if taken is None else taken[1]


def test_a_stateful_reflector_counts_by_session_and_a_stateless_one_copies() -> None:
    """0, 1, 2 for each address, port and SSID; anew after two silent minutes; the stateless one gives back what it got."""
    core = Reflection(own_port=862)
    assert [_take(core), _take(core), _take(core, ssid=2), _take(core, port=5001), _take(core, host="2001:db8::1"), _take(core)] == [
        0, 1, 0, 0, 0, 2,
    ]  # fmt: skip
    assert _take(core, now_ns=121 * SECOND) == 0
    assert core.session_count == 1  # the others were forgotten
    assert _take(Reflection(own_port=862, is_stateful=False), sequence=77) == 77


def test_a_flood_fills_bounded_tables_and_gets_bounded_answers() -> None:
    """100,000 forged sources: bounded memory, the total rate; one source: its own rate."""
    core = Reflection(own_port=862, packets_per_s=5, total_packets_per_s=2000)
    answered = sum(_take(core, host=f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", ssid=n % 60_000 + 1) is not None for n in range(100_000))
    assert answered == 2000
    assert core.session_count <= 8192
    assert core.counts.rate_limited == 98_000
    one = Reflection(own_port=862, packets_per_s=5)
    assert sum(_take(one, now_ns=n * SECOND // 100) is not None for n in range(200)) == 5 + 9  # a burst of 5, then 5/s for 1.99 s


def test_whom_a_reflector_answers() -> None:
    """Only its allow-list; never a privileged port or its own, from where a reflector would answer back for ever."""
    core = Reflection(own_port=5862, allowed=parse_networks(["192.0.2.0/24", "2001:db8::/32"]))
    assert _take(core, host="192.0.2.200") == 0
    assert _take(core, host="2001:db8::7") == 0
    assert _take(core, host="198.51.100.1") is None
    assert _take(core, port=862) is None
    assert _take(core, port=5862) is None
    assert (core.counts.not_allowed, core.counts.bad_source_port) == (1, 2)
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1/24"):
        parse_networks(["192.0.2.1/24"])


def _play(
    sent: int,
    forward: set[int],
    backward: set[int],
    doubled: set[int],
    swapped: set[int] = frozenset(),  # type: ignore[assignment]
) -> tuple[dict[int, int], list[int]]:
    """(numbers, spare) of a stateful reflector: `forward` never reach it, `doubled` do twice, `backward` are lost on their way back.

    swapped   of those that reach it (by place) change places with the next one; one that has just done so does not
    """
    number, numbers, spare = 0, {}, []
    order, at = [packet for packet in range(sent) if packet not in forward], 0
    while at + 1 < len(order):
        if at in swapped:
            order[at], order[at + 1] = order[at + 1], order[at]
            at += 1
        at += 1
    for packet in order:
        for copy in range(1 + (packet in doubled)):
            if packet not in backward and copy == 0:
                numbers[packet] = number
            elif packet not in backward:
                spare.append(number)
            number += 1
    return numbers, spare


@given(st.integers(1, 40), st.sets(st.integers(0, 39)), st.sets(st.integers(0, 39)), st.sets(st.integers(0, 39)))
def test_loss_by_direction_is_the_truth(count: int, forward: set[int], backward: set[int], doubled: set[int]) -> None:
    """No direction gets more than was lost there, and nothing is lost twice. Up to the newest two packets in a row that were answered
    by numbers in a row every loss has its direction."""
    doubled -= backward
    numbers, spare = _play(count, forward, backward, doubled)
    found = losses(range(count), numbers, "stateful", is_fresh=True, spare=spare)
    newest = max((packet for packet in numbers if numbers.get(packet - 1) == numbers[packet] - 1), default=-1)
    lost_there = {packet for packet in forward if packet < count}
    lost_back = {packet for packet in backward - forward if packet < count}
    if not lost_there | lost_back:
        assert found == losses([], {}, None, is_fresh=False)
    elif found.forward is None or found.backward is None:
        assert newest < 0
        assert (found.forward, found.backward, found.undirected) == (None, None, len(lost_there | lost_back))
    else:
        assert sum(packet < newest for packet in lost_there) <= found.forward <= len(lost_there)
        assert sum(packet < newest for packet in lost_back) <= found.backward <= len(lost_back)
        assert found.forward + found.backward + found.undirected == len(lost_there | lost_back)


_few = st.sets(st.integers(0, 7))


@settings(max_examples=500)
@given(st.integers(1, 8), _few, _few, _few, st.integers(0, 9), st.booleans())
def test_neighbours_that_change_places_move_no_loss_to_the_wrong_way(
    count: int, forward: set[int], backward: set[int], swapped: set[int], began: int, is_fresh: bool
) -> None:
    """Whichever neighbours reach the reflector in the wrong order, whoever is lost: no direction gets more than was lost there."""
    numbers, _ = _play(count, forward, backward, set(), swapped)
    numbers = {packet: number + (0 if is_fresh else began) for packet, number in numbers.items()}
    found = losses(range(count), numbers, "stateful", is_fresh=is_fresh)
    lost_there = sum(packet < count for packet in forward)
    lost_back = sum(packet < count for packet in backward - forward)
    assert (found.forward or 0) + (found.backward or 0) + found.undirected == lost_there + lost_back
    assert (found.forward or 0) <= lost_there
    assert (found.backward or 0) <= lost_back


def test_a_loss_beside_a_newest_packet_that_may_have_overtaken_it_has_no_direction() -> None:
    """Of 0 to 3 the last two changed places and the overtaken one's reply was lost, or it never came: the numbers are the same."""
    found = losses(range(4), {0: 0, 1: 1, 3: 2}, "stateful", is_fresh=True)
    assert (found.forward, found.backward, found.undirected) == (0, 0, 1)
    # Seen in the wrong order: what is lost before those two has its direction, what is lost beside them has none.
    found = losses(range(8), {0: 0, 3: 2, 4: 3, 6: 4, 5: 5}, "stateful", is_fresh=True)
    assert (found.forward, found.backward, found.undirected) == (1, 1, 1)


def test_no_direction_is_claimed_without_a_proof() -> None:
    """A stateless reflector, one of unknown kind, and one that began anew in the middle: all losses are undirected."""
    copied = {0: 0, 2: 2, 5: 5}
    assert not proves_stateful(copied)
    for kind in (None, "stateless"):
        found = losses(range(6), copied, kind, is_fresh=True)  # type: ignore[arg-type]
        assert (found.forward, found.backward, found.undirected) == (None, None, 3)
    restarted = losses(range(6), {0: 0, 1: 1, 3: 0, 5: 1}, "stateful", is_fresh=True)
    assert (restarted.forward, restarted.undirected) == (None, 2)
    # A reflector that does not know the SSID goes on counting from the round before: what was lost before the first reply is unknown.
    going_on = losses(range(8), {2: 40, 3: 41, 6: 43, 7: 44}, "stateful", is_fresh=False)
    assert (going_on.forward, going_on.backward, going_on.undirected) == (1, 1, 2)


@given(st.lists(st.none() | st.integers(0, 10**9), max_size=20), st.integers(-(10**18), 10**18))
def test_variation_does_not_know_the_clocks(delays: list[int | None], apart_ns: int) -> None:
    """A constant difference of the clocks changes no variation; the least is 0; neighbours differ as the delays do (RFC 3393)."""
    found = variations([None if delay is None else delay + apart_ns for delay in delays])
    assert found == variations(delays)
    known = [value for value in found if value is not None]
    assert min(known, default=0) == 0
    for (a, b), (x, y) in zip(itertools.pairwise(delays), itertools.pairwise(found), strict=True):
        if a is not None and b is not None:
            assert x is not None
            assert y is not None
            assert y - x == b - a
