"""Whatever comes in, every parser of ping answers or says None: ICMP, quotes, UDP echo, control messages, the pcap of the benchmark.

Each property runs on a hundred examples by default, and on 10,000 where it is marked slow. The examples are octets at random and, which
finds more, real packets that are cut, extended or changed in places.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.ping import ancillary, udp_wire, wire
from probes.ping.filters import Instruction, echo_filter_v4, echo_filter_v6, udp_error_filter_v4
from probes.ping.icmp_socket import Answer, IcmpSocket
from probes.ping.mmsg import Incoming
from probes.ping.timing import Reading

BENCH = str(Path(__file__).parents[2] / "bench")
IDENTIFIER = 0x1234
SOURCE = "192.0.2.7"

EXAMPLES = [pytest.param(100, id="lean"), pytest.param(10_000, id="10000", marks=[pytest.mark.slow, pytest.mark.timeout(600)])]


def fuzz(examples: int, strategy: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Hold `check` to so many examples of the strategy."""
    unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large]
    settings(max_examples=examples, deadline=None, suppress_health_check=unhurried)(given(strategy)(check))()


def damaged(good: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Octets at random, or a good packet with some octets changed and its end cut off or extended."""

    def damage(parts: tuple[bytes, list[tuple[int, int]], int, bytes]) -> bytes:
        packet = bytearray(parts[0])
        for place, octet in parts[1]:
            packet[place % len(packet)] = octet
        return bytes(packet[: parts[2]]) + parts[3]

    changes = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4)
    return st.one_of(st.binary(max_size=300), st.tuples(good, changes, st.integers(0, 400), st.binary(max_size=8)).map(damage))


def ipv4(protocol: int, payload: bytes, options: int = 0) -> bytes:
    """A header (RFC 791) of 5 and `options` words, and its payload."""
    header = struct.pack("!BBHHHBBH4s4s", 0x45 + options, 0, 20 + len(payload), 1, 0, 61, protocol, 0, b"\xc0\0\2\1", b"\xc0\0\2\7")
    return header + bytes(4 * options) + payload


def ipv6(next_header: int, payload: bytes) -> bytes:
    """A header (RFC 8200) and its payload."""
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), next_header, 61, bytes(15) + b"\1", bytes(15) + b"\2") + payload


def error(version: int, kind: int, quoted: bytes) -> bytes:
    """An ICMP error (RFC 792, RFC 4443) around its quote."""
    return bytes([kind, 0, 0, 0, 0, 0, 0, 0]) + (ipv4(1, quoted) if version == 4 else ipv6(58, quoted))


identifiers = st.sampled_from([IDENTIFIER, 0, 0x3412])
requests = st.builds(
    wire.echo_request, st.sampled_from([4, 6]), identifiers, st.integers(0, 0xFFFF), st.integers(0, 2**64 - 1), st.just(32)
)
replies_v4 = requests.map(lambda request: b"\0" + request[1:])
replies_v6 = requests.map(lambda request: b"\x81" + request[1:])
errors_v4 = st.builds(lambda kind, request: error(4, kind, b"\x08" + request[1:]), st.sampled_from([3, 5, 11, 12]), requests)
errors_v6 = st.builds(lambda kind, request: error(6, kind, b"\x80" + request[1:]), st.integers(1, 5), requests)
icmp_v4 = damaged(st.one_of(replies_v4, errors_v4))
icmp_v6 = damaged(st.one_of(replies_v6, errors_v6))
packets_v4 = st.one_of(icmp_v4, st.builds(ipv4, st.just(1), icmp_v4, st.integers(0, 10)))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_icmp_is_decoded_or_refused(examples: int) -> None:
    """decode_icmp, decode_quoted_echo, decode_echo_header, extension_of, strip_ipv4, read_echo_reply: a value within its range, or None."""

    def check(message: bytes) -> None:
        for version in (4, 6):
            decoded = wire.decode_icmp(version, message)
            if isinstance(decoded, wire.IcmpError):
                quoted = wire.decode_quoted_echo(version, decoded.quoted)
                assert quoted is None or len(quoted.destination) == (4 if version == 4 else 16)
                assert message.endswith(wire.extension_of(version, decoded))
            elif decoded is not None:
                assert decoded.token is None or 0 <= decoded.token < 2**64
            wire.decode_quoted_echo(version, message)
            wire.decode_echo_header(version, message, b"")
            for offset in (0, 20, 60, len(message), len(message) + 1):
                reply = wire.read_echo_reply(version, message, offset)
                slow = wire.decode_icmp(version, message[offset:])
                whole = isinstance(slow, wire.EchoReply) and slow.token is not None
                assert (reply is not None) == whole, "the quick way and the slow one agree"
                if reply is not None and isinstance(slow, wire.EchoReply):
                    assert reply == (slow.identifier, slow.number, slow.token)
        stripped = wire.strip_ipv4(message)
        assert stripped is None or message.endswith(stripped[0])

    fuzz(examples, st.one_of(packets_v4, icmp_v6), check)


class Fed(IcmpSocket):
    """An IcmpSocket whose socket has nothing but what it is fed."""

    def __init__(self, version: int, mode: str, *fed: Incoming) -> None:
        self.version, self.mode, self._identifier = version, mode, IDENTIFIER  # type: ignore[assignment]
        self._family = socket.AF_INET if version == 4 else socket.AF_INET6
        self.socket = SimpleNamespace(read=lambda: fed)  # type: ignore[assignment]


@pytest.mark.parametrize("examples", EXAMPLES)
def test_nothing_that_comes_in_stops_an_icmp_socket(examples: int) -> None:
    """Packets and queued errors of either version and mode: an answer to our identifier with an address that is one, or nothing."""
    beside = st.builds(
        ancillary.Ancillary,
        stamp_ns=st.none() | st.integers(0, 2**63),
        ttl=st.none() | st.integers(-(2**31), 2**31 - 1),
        icmp_type=st.none() | st.integers(0, 255),
        icmp_code=st.none() | st.integers(0, 255),
        offender=st.none() | st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
        extension_offset=st.integers(0, 0xFFFF),
    )

    def check(case: tuple[bytes, ancillary.Ancillary, bool, int, str]) -> None:
        data, said, is_queued, version, mode = case
        if said.offender is not None and len(said.offender) != (4 if version == 4 else 16):
            said.offender = None  # a socket's errors are of its own family
        incoming = Incoming(data, SOURCE if version == 4 else "2001:db8::7", 0, said, is_queued, Reading(1, 2))
        for answer in Fed(version, mode, incoming).read():
            assert isinstance(answer, Answer)
            socket.inet_pton(socket.AF_INET if version == 4 else socket.AF_INET6, answer.host)
            assert answer.token is None or 0 <= answer.token < 2**64
            assert (answer.error is not None) or not is_queued

    cases = st.tuples(st.one_of(packets_v4, icmp_v6), beside, st.booleans(), st.sampled_from([4, 6]), st.sampled_from(["raw", "dgram"]))
    fuzz(examples, cases, check)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_udp_echo_is_decoded_or_refused(examples: int) -> None:
    """A request gets a reply of its own length, a reply never; the token comes back; a dwell is believed up to a second."""

    def check(datagram: bytes) -> None:
        echo, reply = udp_wire.decode(datagram), udp_wire.reply_to(datagram, 5)
        assert (reply is not None) == (echo is not None and not echo.is_reply)
        if reply is not None and echo is not None:
            returned = udp_wire.decode(reply)
            assert returned is not None
            assert (len(reply), returned.token, returned.dwell_ns) == (len(datagram), echo.token, 5)
        if echo is not None and echo.dwell_ns is not None:
            assert 0 < echo.dwell_ns <= udp_wire.MAX_DWELL_NS

    tokens = st.integers(0, 2**64 - 1)
    fuzz(examples, damaged(st.builds(udp_wire.request, tokens, st.integers(udp_wire.HEADER_BYTES, 60))), check)


def control(level: int, kind: int, data: bytes) -> bytes:
    """A control message as the kernel lays it out (socket.h), padded to 8 octets."""
    return struct.pack("@Qii", 16 + len(data), level, kind) + data + bytes(-len(data) % 8)


levels = st.sampled_from([(1, 65), (0, 2), (41, 52), (0, 11), (41, 25), (1, 40)])
stamps = st.builds(lambda s, n: struct.pack("@qqqqqq", s, n, 0, 0, 0, 0), st.integers(0, 2**31), st.integers(0, 999_999_999))
extended = st.builds(
    lambda origin, number, family, rest: struct.pack("@IBBBBII", 0, origin, 11, 0, 0, 0, number) + struct.pack("@H", family) + rest,
    st.integers(0, 5),
    st.integers(0, 2**32 - 1),
    st.sampled_from([2, 10, 0]),
    st.binary(max_size=26),
)
controls = st.lists(st.tuples(levels, st.one_of(stamps, extended, st.binary(max_size=60))), max_size=4)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_control_messages_are_read_the_same_by_both_ways(examples: int) -> None:
    """What the kernel wrote into memory, read there, is what Python's own recvmsg would have split and `read_ancillary` read; a sent
    packet's stamp found the quick way is the one found the slow way; and octets at random raise nothing."""

    def check(case: tuple[list[tuple[tuple[int, int], bytes]], bytes, int]) -> None:
        messages, noise, cut = case
        memory = b"before" + b"".join(control(*of, data) for of, data in messages)
        split = ancillary.read_ancillary([(*of, data) for of, data in messages])
        assert ancillary.read_control(memory, 6, len(memory)) == split
        quick = ancillary.read_sent_stamp(memory, 6, len(memory))
        if quick is not None and len(messages) == 2:
            assert (split.tx_number, split.stamp_ns or 0) == quick
        for junk in (memory[: max(6, cut)], noise, memory[6:] + noise):
            for end in (len(junk), len(junk) + 7, 0):
                ancillary.read_control(junk, 0, end)
                ancillary.read_sent_stamp(junk, 0, end)

    fuzz(examples, st.tuples(controls, st.binary(max_size=200), st.integers(0, 200)), check)


def run_filter(program: tuple[Instruction, ...], packet: bytes) -> int:
    """Classic BPF as linux/filter.h defines it, for the instructions that the filters use; a load beyond the packet drops it."""
    accumulator = index = counter = 0
    while True:
        code, if_true, if_false, constant = program[counter]
        counter += 1
        if code in {0x30, 0x28, 0x50, 0x48}:
            size, at = (1 if code in {0x30, 0x50} else 2), constant + (index if code in {0x50, 0x48} else 0)
            if at + size > len(packet):
                return 0
            accumulator = int.from_bytes(packet[at : at + size], "big")
        elif code == 0xB1:
            if constant >= len(packet):
                return 0
            index = (packet[constant] & 15) * 4
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x64:
            accumulator <<= constant
        elif code == 0x0C:
            accumulator += index
        elif code == 0x07:
            index = accumulator
        elif code == 0x15:
            counter += if_true if accumulator == constant else if_false
        else:
            assert code == 0x06
            return constant


@pytest.mark.parametrize("examples", EXAMPLES)
def test_socket_filters_let_in_every_answer_and_no_other_identifiers(examples: int) -> None:
    """Whatever the decoders take for ours passes the kernel's filter, which ends on every packet; another's reply does not pass."""

    def check(case: tuple[bytes, bytes]) -> None:
        packet, message = case
        for version, program, data in ((4, echo_filter_v4(IDENTIFIER), packet), (6, echo_filter_v6(IDENTIFIER), message)):
            passes = run_filter(program, data)
            beside = ancillary.Ancillary()
            host = SOURCE if version == 4 else "2001:db8::7"
            answers = list(Fed(version, "raw", Incoming(data, host, 0, beside, False, Reading(1, 2))).read())
            decoded = wire.decode_icmp(version, data if version == 6 else (wire.strip_ipv4(data) or (b"",))[0])
            if isinstance(decoded, wire.EchoReply):
                assert bool(passes) == (decoded.identifier == IDENTIFIER)
            elif answers:
                assert passes
        run_filter(udp_error_filter_v4(33434), packet)

    fuzz(examples, st.tuples(st.builds(ipv4, st.just(1), icmp_v4, st.integers(0, 10)) | packets_v4, icmp_v6), check)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_capture_is_read_as_far_as_it_goes(examples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark's reader of nanosecond captures: any damage behind the file's header gives the echoes before it, never an exception."""
    monkeypatch.syspath_prepend(BENCH)
    from ping_parts.link import echoes

    path = tmp_path / "some.pcap"

    def record(at_ns: int, frame: bytes) -> bytes:
        return struct.pack("<IIII", at_ns // 10**9, at_ns % 10**9, len(frame), len(frame)) + frame

    def check(case: tuple[bytes, bytes, int]) -> None:
        request, tail, cut = case
        good = record(10**18, bytes(14) + ipv4(1, b"\x08" + request[1:])) + record(10**18 + 77, bytes(14) + _back(request))
        path.write_bytes(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1) + good + tail[:cut])
        found = echoes(path)
        assert found["192.0.2.7"][0] == 77

    fuzz(
        examples,
        st.tuples(requests, damaged(requests.map(lambda one: record(10**18 + 9, bytes(14) + ipv4(1, one)))), st.integers(0, 99)),
        check,
    )
    assert "ping_parts" in sys.modules


def _back(request: bytes) -> bytes:
    """The reply on the wire: addresses exchanged, type 0."""
    packet = bytearray(ipv4(1, b"\0" + request[1:]))
    packet[12:16], packet[16:20] = packet[16:20], packet[12:16]
    return bytes(packet)
