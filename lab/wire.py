"""Frames as the fabric sees them: IP packets behind the virtio header of a TUN. Pure bytes in, bytes out.

A frame is a `struct virtio_net_hdr` (10 bytes, virtio 1.2 section 5.1.6) followed by an IPv4 or IPv6 packet. With the
offloads on, a frame may hold a TCP super-segment (TSO) that stands for many packets on the wire, and its transport
checksum may be left for the receiver to finish. Both are kept as they are on the way to a host and resolved where
a real network would show the difference: when single segments are lost, when a packet is fragmented, and when a router
quotes it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from lab import ipv4, ipv6
from lab.checksum import checksum

__all__ = ["HEADER", "Shape", "age", "cut", "finished_packet", "fragments", "is_ip", "plain", "shape"]

#: Length of the virtio header in front of every packet.
HEADER = 10
_PLAIN = bytes(HEADER)
_NEEDS_CHECKSUM = 1
_GSO_ECN = 0x80
_GSO_TCP4, _GSO_TCP6 = 1, 4

_UDP_CHECKSUM_AT = 6
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
_TTL_4 = HEADER + 8
_CHECKSUM_4 = HEADER + 10
_LIMIT_6 = HEADER + 7


class Shape(NamedTuple):
    """What a frame is on the wire: how many packets, and the bytes of IP of all, of a full one and of the headers."""

    packets: int
    size: int
    segment_size: int
    header_size: int


def plain(packet: bytes) -> bytearray:
    """The frame of a packet that is complete."""
    return bytearray(_PLAIN) + packet


def is_ip(frame: bytes | bytearray) -> bool:
    """Whether a frame holds a whole IPv4 or IPv6 packet that the fabric can carry."""
    size = len(frame) - HEADER
    if size < 20:
        return False
    if frame[HEADER] >> 4 == 4:
        return 20 <= (frame[HEADER] & 15) * 4 <= size and frame[HEADER + 2] << 8 | frame[HEADER + 3] == size
    return frame[HEADER] >> 4 == 6 and size >= 40 and frame[HEADER + 4] << 8 | frame[HEADER + 5] == size - 40


def shape(frame: bytes | bytearray) -> Shape:
    """How a frame looks on the wire once it is segmented."""
    size = len(frame) - HEADER
    if frame[1] & ~_GSO_ECN not in (_GSO_TCP4, _GSO_TCP6):
        return Shape(1, size, size, size)
    # A super-segment always leaves its checksum to the receiver, so the virtio header says where TCP begins.
    mss, tcp = struct.unpack_from("<HH", frame, 4)
    header_size = tcp + (frame[HEADER + tcp + 12] >> 4) * 4
    payload = size - header_size
    count = max(1, -(-payload // mss)) if mss else 1
    return Shape(count, payload + count * header_size, mss + header_size, header_size)


def age(frame: bytearray, hops: int) -> None:
    """Count a packet's TTL or hop limit down by `hops` routers, in place; mends the IPv4 header checksum (RFC 1624).

    The caller has made sure that the TTL is larger than that.
    """
    if frame[HEADER] >> 4 == 6:
        frame[_LIMIT_6] -= hops
        return
    frame[_TTL_4] -= hops
    # The TTL is the upper byte of its word: so long as nothing is carried over, one byte of the sum changes.
    upper = frame[_CHECKSUM_4] + hops
    if upper < 0xFF:
        frame[_CHECKSUM_4] = upper
        return
    total = (upper << 8) + frame[_CHECKSUM_4 + 1]
    total = (total & 0xFFFF) + (total >> 16)
    if total == 0xFFFF:
        total = 0
    frame[_CHECKSUM_4], frame[_CHECKSUM_4 + 1] = total >> 8, total & 0xFF


def cut(frame: bytes | bytearray, keep: Sequence[tuple[int, int]]) -> list[bytearray]:
    """The surviving segments of a TCP super-segment as frames: one for every run [first, last) of segments kept.

    Each is a super-segment of its own, or a plain packet if it is one segment: sequence number, lengths, IP id and
    checksums set as a segmenting network card would set them, FIN and PSH only on the last segment of all.
    """
    whole = shape(frame)
    mss = whole.segment_size - whole.header_size
    headers = HEADER + whole.header_size
    is_v4 = frame[HEADER] >> 4 == 4
    (tcp,) = struct.unpack_from("<H", frame, 6)
    tcp += HEADER
    (ip_id,) = struct.unpack_from("!H", frame, HEADER + 4)
    (sequence,) = struct.unpack_from("!I", frame, tcp + 4)
    runs = []
    for first, last in keep:
        run = bytearray(frame[:headers]) + frame[headers + first * mss : headers + last * mss]
        if is_v4:
            struct.pack_into("!HH", run, HEADER + 2, len(run) - HEADER, (ip_id + first) & 0xFFFF)
            struct.pack_into("!H", run, _CHECKSUM_4, 0)
            struct.pack_into("!H", run, _CHECKSUM_4, checksum(run[HEADER : HEADER + (run[HEADER] & 15) * 4]))
        else:
            struct.pack_into("!H", run, HEADER + 4, len(run) - HEADER - 40)
        struct.pack_into("!I", run, tcp + 4, (sequence + first * mss) & 0xFFFFFFFF)
        if last < whole.packets:
            run[tcp + 13] &= ~(_FIN | _PSH)
        if first > 0:
            run[tcp + 13] &= ~_CWR
        if len(run) - headers <= mss:
            run[1] = 0
            struct.pack_into("<H", run, 4, 0)
        # What is left to the receiver: the field holds the pseudo-header's sum.
        struct.pack_into("!H", run, tcp + 16, checksum(_pseudo_header(run, tcp)) ^ 0xFFFF)
        runs.append(run)
    return runs


def _pseudo_header(frame: bytes | bytearray, tcp: int) -> bytes:
    size = len(frame) - tcp
    if frame[HEADER] >> 4 == 4:
        return bytes(frame[HEADER + 12 : HEADER + 20]) + struct.pack("!BBH", 0, 6, size)
    return ipv6.pseudo_header(bytes(frame[HEADER + 8 : HEADER + 24]), bytes(frame[HEADER + 24 : HEADER + 40]), 6, size)


def finished_packet(frame: bytes | bytearray) -> bytes:
    """The packet of a frame as it would be on a wire: the first segment of a super-segment, checksums complete."""
    if frame[1] & ~_GSO_ECN:
        frame = cut(frame, [(0, 1)])[0]
    packet = bytearray(frame[HEADER:])
    if frame[0] & _NEEDS_CHECKSUM:
        start, offset = struct.unpack_from("<HH", frame, 6)
        value = checksum(packet[start:])
        # RFC 768 and RFC 8200, 8.1: a UDP checksum of zero means none; its other form is sent instead.
        struct.pack_into("!H", packet, start + offset, value or (0xFFFF if offset == _UDP_CHECKSUM_AT else 0))
    return bytes(packet)


def fragments(frame: bytearray, mtu: int) -> list[bytearray] | None:
    """The frames that go on over a link with that MTU in bytes; None where the packet may not be fragmented.

    Of a super-segment every segment is fragmented. IPv6 packets are never fragmented on their way (RFC 8200, 4.5).
    """
    if frame[HEADER] >> 4 == 6 or ipv4.dont_fragment(bytes(frame[HEADER : HEADER + 20])):
        return None
    segments = cut(frame, [(n, n + 1) for n in range(shape(frame).packets)]) if frame[1] else [frame]
    return [plain(piece) for segment in segments for piece in ipv4.fragments(finished_packet(segment), mtu)]
