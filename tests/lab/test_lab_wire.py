"""Packets, checked by scapy as an independent dissector."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import wire
from lab.addresses import pack

scapy = pytest.importorskip("scapy.all", reason="scapy is the independent dissector of these tests")

SRC, DST, ROUTER = "10.1.1.1", "10.2.1.1", "10.251.0.7"
PLAIN = bytes(10)


def wired(packet: object) -> bytes:
    """A scapy packet as bytes, checksums included."""
    return bytes(packet)  # type: ignore[call-overload]


def super_segment(payload: bytes, mss: int, *, sequence: int = 1000, flags: str = "PAF", options: bytes = b"") -> bytearray:
    """A frame as the kernel hands over a TCP super-segment: checksum left to finish, gso set."""
    packet = scapy.IP(src=SRC, dst=DST, id=77, flags="DF") / scapy.TCP(sport=1234, dport=80, seq=sequence, ack=5, flags=flags)
    packet[scapy.TCP].options = [("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)] if options else []
    data = bytearray(wired(packet / scapy.Raw(payload)))
    pseudo = data[12:20] + struct.pack("!BBH", 0, 6, len(data) - 20)
    struct.pack_into("!H", data, 36, wire.checksum(pseudo) ^ 0xFFFF)
    return bytearray(struct.pack("<BBHHHH", 1, 1, 40, mss, 20, 16)) + data


def assert_intact(packet: bytes) -> object:
    """Dissect a packet and compare every checksum with what scapy computes itself."""
    seen = scapy.IP(packet)
    again = scapy.IP(packet)
    del again.chksum
    for layer in (scapy.ICMP, scapy.TCP, scapy.UDP):
        if layer in again:
            del again[layer].chksum
    assert wired(again) == packet
    assert seen.len == len(packet)
    return seen


@given(st.binary(max_size=200))
def test_checksum_is_that_of_scapy(data: bytes) -> None:
    """The Internet checksum of any bytes is the one that scapy's own implementation computes."""
    ours, theirs = wire.checksum(data), scapy.checksum(data)
    assert ours == theirs or {ours, theirs} == {0, 0xFFFF}


@given(st.integers(2, 255), st.data(), st.integers(0, 65535))
def test_ageing_keeps_the_header_checksum_right(ttl: int, data: st.DataObject, ip_id: int) -> None:
    """However many routers a packet passes, its header checksum is what a full computation gives."""
    hops = data.draw(st.integers(1, ttl - 1))
    frame = bytearray(PLAIN + wired(scapy.IP(src=SRC, dst=DST, ttl=ttl, id=ip_id) / scapy.UDP() / b"x"))
    wire.age(frame, hops)
    aged = scapy.IP(bytes(frame[10:]))
    assert aged.ttl == ttl - hops
    assert scapy.checksum(bytes(frame[10:30])) in (0, 0xFFFF)


@pytest.mark.parametrize(("kind", "type_name"), [(wire.TTL_EXCEEDED, 11), (wire.NET_UNREACHABLE, 3), (wire.PORT_UNREACHABLE, 3)])
def test_icmp_error_quotes_the_packet(kind: tuple[int, int], type_name: int) -> None:
    """An ICMP error comes from the router, goes to the sender, and quotes the packet as it arrived."""
    packet = wired(scapy.IP(src=SRC, dst=DST, ttl=1) / scapy.UDP(sport=40000, dport=33434) / b"payload")
    seen = assert_intact(bytes(wire.icmp_error(pack(ROUTER), packet, kind)[10:]))
    assert (seen.src, seen.dst, seen[scapy.ICMP].type, seen[scapy.ICMP].code) == (ROUTER, SRC, type_name, kind[1])
    quoted = seen[scapy.IPerror]
    assert (quoted.src, quoted.dst, quoted.ttl, seen[scapy.UDPerror].dport) == (SRC, DST, 1, 33434)


def test_icmp_error_is_never_longer_than_576_bytes() -> None:
    """A long packet is quoted as far as an error of 576 bytes holds (RFC 1812)."""
    packet = wired(scapy.IP(src=SRC, dst=DST) / scapy.UDP() / bytes(1400))
    assert len(wire.icmp_error(pack(ROUTER), packet, wire.TTL_EXCEEDED)) - 10 == 576


def test_errors_fragments_and_multicast_are_not_answered() -> None:
    """RFC 1122: no error about an ICMP error, a later fragment or a multicast packet; one about everything else."""
    echo = scapy.IP(src=SRC, dst=DST) / scapy.ICMP()
    assert wire.may_be_answered(wired(echo))
    assert not wire.may_be_answered(wired(scapy.IP(src=SRC, dst=DST) / scapy.ICMP(type=11) / echo))
    assert not wire.may_be_answered(wired(scapy.IP(src=SRC, dst=DST, frag=10) / b"tail"))
    assert not wire.may_be_answered(wired(scapy.IP(src=SRC, dst="224.0.0.1") / scapy.ICMP()))


def test_a_router_answers_a_ping_of_its_own() -> None:
    """The echo reply has the request's identifier, sequence and payload; a damaged request gets none."""
    request = scapy.IP(src=SRC, dst=ROUTER) / scapy.ICMP(id=7, seq=9) / b"abcdefgh"
    reply = wire.echo_reply(wired(request))
    assert reply is not None
    seen = assert_intact(bytes(reply[10:]))
    assert (seen.src, seen.dst, seen[scapy.ICMP].type, seen[scapy.ICMP].id, seen[scapy.ICMP].seq) == (ROUTER, SRC, 0, 7, 9)
    assert wired(seen[scapy.Raw]) == b"abcdefgh"
    damaged = wired(request)[:-1] + b"!"
    assert wire.echo_reply(damaged) is None
    assert wire.echo_reply(wired(scapy.IP(src=SRC, dst=ROUTER) / scapy.UDP())) is None


@settings(max_examples=60)
@given(
    payload=st.binary(min_size=1, max_size=4000),
    mss=st.integers(100, 1460),
    lost=st.sets(st.integers(0, 40)),
    sequence=st.integers(0, 2**32 - 1),
)
def test_surviving_segments_carry_exactly_their_bytes(payload: bytes, mss: int, lost: set[int], sequence: int) -> None:
    """Cutting a super-segment leaves packets that are intact and hold the bytes of their own sequence numbers."""
    frame = super_segment(payload, mss, sequence=sequence)
    look = wire.shape(frame)
    assert look.packets == -(-len(payload) // mss)
    assert look.size == len(payload) + 40 * look.packets
    runs, first = [], 0
    for n in [*sorted(n for n in lost if n < look.packets), look.packets]:
        if n > first:
            runs.append((first, n))
        first = n + 1
    for (first, last), piece in zip(runs, wire.cut(frame, runs), strict=True):
        start, stop = first * mss, min(last * mss, len(payload))
        seen = scapy.IP(bytes(piece[10:]))
        assert seen[scapy.TCP].seq == (sequence + start) % 2**32
        assert wired(seen[scapy.TCP].payload) == payload[start:stop]
        assert seen.id == (77 + first) & 0xFFFF
        assert ("F" in seen[scapy.TCP].flags) == (last == look.packets)
        assert wire.shape(piece).packets == last - first
        # Finished as the receiver (or a quoting router) would, the first of it is a right packet.
        assert_intact(wire.finished_packet(piece))


def test_a_left_out_udp_checksum_is_finished_for_the_quote() -> None:
    """A frame whose checksum is left to the receiver becomes, in a quote, the packet a wire would have carried."""
    packet = wired(scapy.IP(src=SRC, dst=DST) / scapy.UDP(sport=1, dport=2) / b"hello")
    frame = bytearray(struct.pack("<BBHHHH", 1, 0, 28, 0, 20, 6)) + packet
    pseudo = packet[12:20] + struct.pack("!BBH", 0, 17, len(packet) - 20)
    struct.pack_into("!H", frame, 10 + 26, wire.checksum(pseudo) ^ 0xFFFF)
    assert wire.finished_packet(frame) == packet


@given(st.binary(max_size=60))
def test_rubbish_is_not_taken_for_ipv4(data: bytes) -> None:
    """Any bytes either are refused or are a whole IPv4 packet by their own header; nothing raises."""
    if wire.is_ipv4(data):
        assert data[10] >> 4 == 4
        assert struct.unpack_from("!H", data, 12)[0] == len(data) - 10
