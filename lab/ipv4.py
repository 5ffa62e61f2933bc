"""IPv4 packets (RFC 791): what a router reads in them, and how it cuts them. Pure bytes in, bytes out."""

from __future__ import annotations

import struct

from lab.checksum import checksum

__all__ = ["ICMP", "dont_fragment", "fragments", "header", "may_be_answered", "upper_layer"]

ICMP = 1
_DONT_FRAGMENT, _MORE_FRAGMENTS, _OFFSET = 0x4000, 0x2000, 0x1FFF
_COPIED = 0x80
_END, _NO_OPERATION = 0, 1
#: ICMP types that are errors themselves and never answered by one (RFC 1122, 3.2.2).
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})


def header(src: bytes, dst: bytes, protocol: int, payload_size: int, tos: int = 0) -> bytes:
    """A header without options, TTL 64, checksum included."""
    head = bytearray(struct.pack("!BBHHHBBH4s4s", 0x45, tos, 20 + payload_size, 0, 0, 64, protocol, 0, src, dst))
    struct.pack_into("!H", head, 10, checksum(head))
    return bytes(head)


def upper_layer(packet: bytes) -> tuple[int, int | None]:
    """The protocol, and where its header is; None when the packet is a later fragment, which has no such header."""
    return packet[9], None if int.from_bytes(packet[6:8], "big") & _OFFSET else (packet[0] & 15) * 4


def dont_fragment(packet: bytes) -> bool:
    """Whether the packet may not be fragmented on its way."""
    return bool(packet[6] & _DONT_FRAGMENT >> 8)


def may_be_answered(packet: bytes) -> bool:
    """Whether an ICMP error may answer a packet (RFC 1122, 3.2.2): no error, no later fragment, no multicast."""
    protocol, offset = upper_layer(packet)
    if offset is None or packet[16] >= 224 or packet[12] >= 224 or packet[12:16] == b"\0\0\0\0":
        return False
    return not (protocol == ICMP and len(packet) > offset and packet[offset] in _ICMP_ERRORS)


def fragments(packet: bytes, mtu: int) -> list[bytes]:
    """The packet in fragments of at most `mtu` bytes (RFC 791, 3.2; the packet may be a fragment itself)."""
    header_size = (packet[0] & 15) * 4
    (flags,) = struct.unpack_from("!H", packet, 6)
    first = packet[:header_size]
    later = _later_header(first)
    found: list[bytes] = []
    start = header_size
    while start < len(packet):
        head = bytearray(later if found else first)
        room = (mtu - len(head)) & ~7
        last = start + mtu - len(head) >= len(packet)
        stop = len(packet) if last else start + room
        offset = (flags & _OFFSET) + (start - header_size) // 8
        more = flags & _MORE_FRAGMENTS if last else _MORE_FRAGMENTS
        struct.pack_into("!H", head, 2, len(head) + stop - start)
        struct.pack_into("!H", head, 6, more | offset)
        struct.pack_into("!H", head, 10, 0)
        struct.pack_into("!H", head, 10, checksum(head))
        found.append(bytes(head) + packet[start:stop])
        start = stop
    return found


def _later_header(head: bytes) -> bytes:
    """The header of every fragment but the first: only options that are to be copied stay."""
    kept = bytearray()
    at = 20
    while at < len(head) and head[at] != _END:
        size = 1 if head[at] == _NO_OPERATION else (head[at + 1] if at + 1 < len(head) else 0)
        if size < 1:
            break
        if head[at] & _COPIED:
            kept += head[at : at + size]
        at += size
    kept += bytes(-len(kept) % 4)
    return bytes([0x40 | (20 + len(kept)) // 4]) + head[1:20] + bytes(kept)
