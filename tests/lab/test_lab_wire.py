"""Frames, checked by scapy as an independent dissector."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import ipv4, wire
from lab.checksum import checksum

scapy = pytest.importorskip("scapy.all", reason="scapy is the independent dissector of these tests")

SRC, DST = {4: "10.1.1.1", 6: "fd0a:1:1::1"}, {4: "10.2.1.1", 6: "fd0a:2:1::1"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def wired(packet: object) -> bytes:
    """A scapy packet as bytes, checksums included."""
    return bytes(packet)  # type: ignore[call-overload]


def ip(version: int, **fields: object) -> object:
    """An IP header between the two hosts."""
    layer = scapy.IP if version == 4 else scapy.IPv6
    return layer(src=SRC[version], dst=DST[version], **fields)


def dissected(packet: bytes) -> object:
    return (scapy.IP if packet[0] >> 4 == 4 else scapy.IPv6)(packet)


def pseudo_sum(packet: bytes, header_size: int, protocol: int) -> int:
    """What the kernel leaves in a checksum field that the receiver is to finish."""
    size = len(packet) - header_size
    pseudo = (
        packet[12:20] + struct.pack("!BBH", 0, protocol, size) if header_size == 20 else packet[8:40] + struct.pack("!II", size, protocol)
    )
    return scapy.checksum(pseudo) ^ 0xFFFF


def super_segment(
    payload: bytes, mss: int, *, version: int = 4, ends: tuple[str, str] | None = None, sequence: int = 1000, flags: str = "PAF"
) -> bytearray:
    """A frame as the kernel hands over a TCP super-segment: checksum left to finish, gso set."""
    header = ip(4, id=77, flags="DF") if version == 4 else ip(6, fl=0x12345)
    header.src, header.dst = ends or (SRC[version], DST[version])  # type: ignore[attr-defined]
    tcp = scapy.TCP(sport=1234, dport=80, seq=sequence, ack=5, flags=flags)
    data = bytearray(wired(header / tcp / scapy.Raw(payload)))
    ip_size = 20 if version == 4 else 40
    struct.pack_into("!H", data, ip_size + 16, pseudo_sum(bytes(data), ip_size, 6))
    return bytearray(struct.pack("<BBHHHH", 1, 1 if version == 4 else 4, ip_size + 20, mss, ip_size, 16)) + data


def assert_intact(packet: bytes) -> object:
    """Dissect a packet and compare every checksum and length with what scapy computes itself."""
    seen, again = dissected(packet), dissected(packet)
    for layer in (scapy.IP, scapy.ICMP, scapy.TCP, scapy.UDP):
        if layer in again:
            del again[layer].chksum
    for field in ("len", "plen"):
        if hasattr(again, field):
            delattr(again, field)
    assert wired(again) == packet
    return seen


@given(st.binary(max_size=200))
def test_checksum_is_that_of_scapy(data: bytes) -> None:
    """The Internet checksum of any bytes is the one that scapy's own implementation computes."""
    ours, theirs = checksum(data), scapy.checksum(data)
    assert ours == theirs or {ours, theirs} == {0, 0xFFFF}


@given(st.integers(2, 255), st.data(), st.integers(0, 65535))
def test_ageing_keeps_the_header_checksum_right(ttl: int, data: st.DataObject, ip_id: int) -> None:
    """However many routers a packet passes, its header checksum is what a full computation gives."""
    hops = data.draw(st.integers(1, ttl - 1))
    frame = wire.plain(wired(ip(4, ttl=ttl, id=ip_id) / scapy.UDP() / b"x"))
    wire.age(frame, hops)
    aged = scapy.IP(bytes(frame[10:]))
    assert aged.ttl == ttl - hops
    assert scapy.checksum(bytes(frame[10:30])) in (0, 0xFFFF)


def test_ageing_counts_the_hop_limit_down_and_nothing_else() -> None:
    """IPv6 has no header checksum: one byte changes."""
    packet = wired(ip(6, hlim=64) / scapy.UDP() / b"x")
    frame = wire.plain(packet)
    wire.age(frame, 5)
    assert (frame[17], bytes(frame[10:17]), bytes(frame[18:])) == (59, packet[:7], packet[8:])


@VERSIONS
@settings(max_examples=60)
@given(
    payload=st.binary(min_size=1, max_size=4000),
    mss=st.integers(100, 1460),
    lost=st.sets(st.integers(0, 40)),
    sequence=st.integers(0, 2**32 - 1),
)
def test_surviving_segments_carry_exactly_their_bytes(version: int, payload: bytes, mss: int, lost: set[int], sequence: int) -> None:
    """Cutting a super-segment leaves packets that are intact and hold the bytes of their own sequence numbers."""
    frame = super_segment(payload, mss, version=version, sequence=sequence)
    look = wire.shape(frame)
    assert look.packets == -(-len(payload) // mss)
    assert look.size == len(payload) + (40 if version == 4 else 60) * look.packets
    runs, first = [], 0
    for n in [*sorted(n for n in lost if n < look.packets), look.packets]:
        if n > first:
            runs.append((first, n))
        first = n + 1
    for (first, last), piece in zip(runs, wire.cut(frame, runs), strict=True):
        start, stop = first * mss, min(last * mss, len(payload))
        seen = dissected(bytes(piece[10:]))
        assert seen[scapy.TCP].seq == (sequence + start) % 2**32
        assert wired(seen[scapy.TCP].payload) == payload[start:stop]
        assert version == 6 or seen.id == (77 + first) & 0xFFFF
        assert ("F" in seen[scapy.TCP].flags) == (last == look.packets)
        assert wire.shape(piece).packets == last - first
        # Finished as the receiver (or a quoting router) would, the first of it is a right packet.
        assert_intact(wire.finished_packet(piece))


@VERSIONS
def test_a_left_out_udp_checksum_is_finished_for_the_quote(version: int) -> None:
    """A frame whose checksum is left to the receiver becomes, in a quote, the packet a wire would have carried."""
    packet = wired(ip(version) / scapy.UDP(sport=1, dport=2) / b"hello")
    ip_size = 20 if version == 4 else 40
    frame = bytearray(struct.pack("<BBHHHH", 1, 0, ip_size + 8, 0, ip_size, 6)) + packet
    struct.pack_into("!H", frame, 10 + ip_size + 6, pseudo_sum(packet, ip_size, 17))
    assert wire.finished_packet(frame) == packet


@settings(max_examples=60)
@given(size=st.integers(0, 4000), mtu=st.integers(576, 1500), again=st.integers(100, 575), padding=st.booleans())
def test_fragments_put_together_are_the_packet(size: int, mtu: int, again: int, padding: bool) -> None:
    """scapy's reassembly of our fragments, some of them fragmented once more, gives the packet; none exceeds the MTU."""
    options = [scapy.IPOption_NOP(), scapy.IPOption_Router_Alert(), scapy.IPOption_RR(routers=["0.0.0.0"])] if padding else []
    packet = wired(ip(4, id=4711, options=options) / scapy.UDP(sport=5, dport=6) / random.Random(size).randbytes(size))
    frames = wire.fragments(wire.plain(packet), mtu)
    assert frames is not None
    pieces = [bytes(frame[10:]) for frame in frames]
    assert all(len(piece) <= mtu for piece in pieces)
    smaller = [small for n, piece in enumerate(pieces) for small in (ipv4.fragments(piece, again) if n % 2 else [piece])]
    assert all(scapy.checksum(small[: (small[0] & 15) * 4]) == 0 for small in smaller)
    seen = [dissected(small) for small in smaller]
    assert sum(len(one[scapy.IP].payload) for one in seen) == len(scapy.IP(packet).payload)
    # Only the first fragment keeps what is not to be copied (RFC 791): the record of the route.
    assert [any(option.option == 7 for option in one.options) for one in seen] == [bool(options)] + [False] * (len(seen) - 1)
    assert all(any(option.option == 20 for option in one.options) == bool(options) for one in seen)
    if len(seen) > 1:
        (whole,) = scapy.defragment(seen)
        assert wired(whole.payload) == wired(scapy.IP(packet).payload)


def test_what_may_not_be_fragmented_is_not() -> None:
    """Neither a packet with DF nor any of IPv6; of a super-segment without DF every segment is."""
    assert wire.fragments(wire.plain(wired(ip(4, flags="DF") / scapy.UDP() / bytes(1400))), 1280) is None
    assert wire.fragments(wire.plain(wired(ip(6) / scapy.UDP() / bytes(1400))), 1280) is None
    frame = super_segment(bytes(3000), 1460)
    assert wire.fragments(frame, 1280) is None
    frame[16] &= ~0x40
    pieces = wire.fragments(frame, 1280)
    assert pieces is not None
    assert [len(piece) - 10 for piece in pieces] == [1276, 244, 1276, 244, 120]


@given(st.binary(max_size=60))
def test_rubbish_is_not_taken_for_ip(data: bytes) -> None:
    """Any bytes either are refused or are a whole packet by their own header; nothing raises."""
    if wire.is_ip(data):
        version = data[10] >> 4
        assert version in (4, 6)
        assert struct.unpack_from("!H", data, 12 if version == 4 else 14)[0] == len(data) - (10 if version == 4 else 50)
