"""Packets as the fabric sees them: IPv4 behind the virtio header of a TUN. Pure bytes in, bytes out.

A frame is a `struct virtio_net_hdr` (10 bytes, virtio 1.2 section 5.1.6) followed by an IPv4 packet. With the
offloads on, a frame may hold a TCP super-segment (TSO) that stands for many packets on the wire, and its transport
checksum may be left for the receiver to finish. Both are kept as they are on the way to a host and resolved where
a real network would show the difference: when single segments are lost and when a router quotes the packet.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "ECHO_REPLY",
    "ECHO_REQUEST",
    "HEADER",
    "NET_UNREACHABLE",
    "PORT_UNREACHABLE",
    "TTL_EXCEEDED",
    "Shape",
    "age",
    "checksum",
    "cut",
    "echo_reply",
    "finished_packet",
    "icmp_error",
    "is_ipv4",
    "may_be_answered",
    "shape",
]

#: Length of the virtio header in front of every packet.
HEADER = 10
_PLAIN = bytes(HEADER)
_NEEDS_CHECKSUM = 1
_GSO_ECN = 0x80
_GSO_TCP4 = 1

_ICMP, _TCP, _UDP = 1, 6, 17
ECHO_REPLY = 0
ECHO_REQUEST = 8
#: ICMP (type, code) of the errors that a router sends, RFC 792.
TTL_EXCEEDED = (11, 0)
NET_UNREACHABLE = (3, 0)
PORT_UNREACHABLE = (3, 3)
#: ICMP types that are errors themselves and never answered by one (RFC 1122, 3.2.2).
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})

_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
#: As much of the packet as fits an ICMP error of 576 bytes (RFC 1812, 4.3.2.3).
_QUOTE = 576 - 20 - 8
_TTL = HEADER + 8
_IP_CHECKSUM = HEADER + 10


class Shape(NamedTuple):
    """What a frame is on the wire: how many packets, and the bytes of IP of all, of a full one and of the headers."""

    packets: int
    size: int
    segment_size: int
    header_size: int


def checksum(data: bytes | bytearray | memoryview) -> int:
    """The Internet checksum (RFC 1071) of bytes; over data that carries a right one it is 0.

    >>> hex(checksum(bytes.fromhex("0001f203f4f5f6f7")))
    '0x220d'
    """
    # The one's complement sum of 16-bit words is the number modulo 2^16 - 1, because 2^16 is 1 modulo that.
    value = int.from_bytes(data, "big")
    if len(data) & 1:
        value <<= 8
    total = value % 0xFFFF
    if total == 0 and value != 0:
        total = 0xFFFF
    return total ^ 0xFFFF


def is_ipv4(frame: bytes | bytearray) -> bool:
    """Whether a frame holds a whole IPv4 packet that the fabric can carry."""
    if len(frame) < HEADER + 20 or frame[HEADER] >> 4 != 4:
        return False
    header_size = (frame[HEADER] & 15) * 4
    return 20 <= header_size <= len(frame) - HEADER and int.from_bytes(frame[HEADER + 2 : HEADER + 4], "big") == len(frame) - HEADER


def shape(frame: bytes | bytearray) -> Shape:
    """How a frame looks on the wire once it is segmented."""
    size = len(frame) - HEADER
    if frame[1] & ~_GSO_ECN != _GSO_TCP4:
        return Shape(1, size, size, size)
    ip_size = (frame[HEADER] & 15) * 4
    header_size = ip_size + (frame[HEADER + ip_size + 12] >> 4) * 4
    (mss,) = struct.unpack_from("<H", frame, 4)
    payload = size - header_size
    count = max(1, -(-payload // mss)) if mss else 1
    return Shape(count, payload + count * header_size, mss + header_size, header_size)


def age(frame: bytearray, hops: int) -> None:
    """Count a packet's TTL down by `hops` routers, in place, and mend the header checksum (RFC 1624).

    The caller has made sure that the TTL is larger than that.
    """
    frame[_TTL] -= hops
    total = (frame[_IP_CHECKSUM] << 8 | frame[_IP_CHECKSUM + 1]) + (hops << 8)
    total = (total & 0xFFFF) + (total >> 16)
    if total == 0xFFFF:
        total = 0
    frame[_IP_CHECKSUM] = total >> 8
    frame[_IP_CHECKSUM + 1] = total & 0xFF


def cut(frame: bytes | bytearray, keep: Sequence[tuple[int, int]]) -> list[bytearray]:
    """The surviving segments of a TCP super-segment as frames: one for every run [first, last) of segments kept.

    Each is a super-segment of its own, or a plain packet if it is one segment: sequence number, lengths, IP id and
    checksums set as a segmenting network card would set them, FIN and PSH only on the last segment of all.
    """
    whole = shape(frame)
    mss = whole.segment_size - whole.header_size
    headers = HEADER + whole.header_size
    ip_size = (frame[HEADER] & 15) * 4
    tcp = HEADER + ip_size
    (ip_id,) = struct.unpack_from("!H", frame, HEADER + 4)
    (sequence,) = struct.unpack_from("!I", frame, tcp + 4)
    runs = []
    for first, last in keep:
        run = bytearray(frame[:headers]) + frame[headers + first * mss : headers + last * mss]
        struct.pack_into("!H", run, HEADER + 2, len(run) - HEADER)
        struct.pack_into("!H", run, HEADER + 4, (ip_id + first) & 0xFFFF)
        struct.pack_into("!I", run, tcp + 4, (sequence + first * mss) & 0xFFFFFFFF)
        if last < whole.packets:
            run[tcp + 13] &= ~(_FIN | _PSH)
        if first > 0:
            run[tcp + 13] &= ~_CWR
        if len(run) - headers <= mss:
            run[1] = 0
            struct.pack_into("<H", run, 4, 0)
        _seal_ip(run)
        # A super-segment always leaves its checksum to the receiver; the field holds the pseudo-header's sum.
        struct.pack_into("!H", run, tcp + 16, checksum(_pseudo_header(run)) ^ 0xFFFF)
        runs.append(run)
    return runs


def _seal_ip(frame: bytearray) -> None:
    ip_size = (frame[HEADER] & 15) * 4
    frame[_IP_CHECKSUM : _IP_CHECKSUM + 2] = b"\0\0"
    struct.pack_into("!H", frame, _IP_CHECKSUM, checksum(frame[HEADER : HEADER + ip_size]))


def _pseudo_header(frame: bytes | bytearray) -> bytes:
    ip_size = (frame[HEADER] & 15) * 4
    return bytes(frame[HEADER + 12 : HEADER + 20]) + struct.pack("!BBH", 0, frame[HEADER + 9], len(frame) - HEADER - ip_size)


def finished_packet(frame: bytes | bytearray) -> bytes:
    """The IPv4 packet of a frame as it would be on a wire: the first segment of a super-segment, checksums complete."""
    if frame[1] & ~_GSO_ECN:
        frame = cut(frame, [(0, 1)])[0]
    packet = bytearray(frame[HEADER:])
    if frame[0] & _NEEDS_CHECKSUM:
        start, offset = struct.unpack_from("<HH", frame, 6)
        value = checksum(packet[start:])
        # RFC 768: a UDP checksum of zero means none; its other form is sent instead.
        struct.pack_into("!H", packet, start + offset, value or (0xFFFF if packet[9] == _UDP else 0))
    return bytes(packet)


def may_be_answered(packet: bytes) -> bool:
    """Whether an ICMP error may answer a packet (RFC 1122, 3.2.2): no error, no later fragment, no multicast."""
    (fragment,) = struct.unpack_from("!H", packet, 6)
    if fragment & 0x1FFF or packet[16] >= 224 or packet[12:16] == b"\0\0\0\0":
        return False
    header_size = (packet[0] & 15) * 4
    return not (packet[9] == _ICMP and len(packet) > header_size and packet[header_size] in _ICMP_ERRORS)


def icmp_error(router: bytes, packet: bytes, kind: tuple[int, int]) -> bytearray:
    """The frame with which a router (packed address) answers a packet: an ICMP error that quotes it."""
    type_, code = kind
    body = bytearray(struct.pack("!BBHI", type_, code, 0, 0)) + packet[:_QUOTE]
    struct.pack_into("!H", body, 2, checksum(body))
    # Precedence "internetwork control", as routers mark their errors (RFC 1812, 4.3.2.5).
    return _from_router(router, packet[12:16], body, tos=0xC0)


def echo_reply(packet: bytes) -> bytearray | None:
    """The frame with which a router answers a ping of its own address; None when the packet is no echo request."""
    header_size = (packet[0] & 15) * 4
    if packet[9] != _ICMP or len(packet) < header_size + 8 or packet[header_size] != ECHO_REQUEST or checksum(packet[header_size:]):
        return None
    body = bytearray(packet[header_size:])
    body[0:4] = bytes((ECHO_REPLY, 0, 0, 0))
    struct.pack_into("!H", body, 2, checksum(body))
    return _from_router(packet[16:20], packet[12:16], body)


def _from_router(src: bytes, dst: bytes, body: bytes | bytearray, tos: int = 0) -> bytearray:
    frame = bytearray(_PLAIN) + struct.pack("!BBHHHBBH4s4s", 0x45, tos, 20 + len(body), 0, 0, 64, _ICMP, 0, src, dst) + body
    _seal_ip(frame)
    return frame
