"""IPv6 packets (RFC 8200): what a router reads in them. Pure bytes in, bytes out."""

from __future__ import annotations

import struct

__all__ = ["ICMP", "header", "may_be_answered", "pseudo_header", "upper_layer"]

ICMP = 58
_FRAGMENT, _AUTHENTICATION = 44, 51
#: Hop-by-hop options, routing, destination options, mobility, HIP, shim6: the length is in units of 8 bytes, less one.
_EXTENSIONS = frozenset({0, 43, 60, 135, 139, 140})
_OFFSET = 0xFFF8
#: ICMPv6 types below this are errors (RFC 4443, 2.1); 137 is a redirect, which no error answers either (2.4 e).
_FIRST_INFORMATIONAL, _REDIRECT = 128, 137


def header(src: bytes, dst: bytes, next_header: int, payload_size: int, traffic_class: int = 0) -> bytes:
    """A header with hop limit 64 and no flow label."""
    return struct.pack("!IHBB16s16s", 6 << 28 | traffic_class << 20, payload_size, next_header, 64, src, dst)


def pseudo_header(src: bytes, dst: bytes, next_header: int, size: int) -> bytes:
    """What is summed up with an upper-layer packet of `size` bytes (RFC 8200, 8.1)."""
    return src + dst + struct.pack("!II", size, next_header)


def upper_layer(packet: bytes | bytearray, start: int = 0) -> tuple[int, int | None]:
    """The upper-layer protocol, and where its header is, counted from `start`, where the packet begins.

    None when it is not there: in a later fragment, or past the end of the packet. Extension headers are passed over.
    """
    protocol, at = packet[start + 6], start + 40
    while protocol in _EXTENSIONS or protocol in (_FRAGMENT, _AUTHENTICATION):
        if at + 8 > len(packet):
            return protocol, None
        if protocol == _FRAGMENT:
            protocol, offset = packet[at], int.from_bytes(packet[at + 2 : at + 4], "big") & _OFFSET
            if offset:
                return protocol, None
            at += 8
        else:
            size = (packet[at + 1] + 2) * 4 if protocol == _AUTHENTICATION else (packet[at + 1] + 1) * 8
            protocol, at = packet[at], at + size
    return protocol, at - start if at <= len(packet) else None


def may_be_answered(packet: bytes, *, too_big: bool = False) -> bool:
    """Whether an ICMPv6 error may answer a packet (RFC 4443, 2.4 e); `too_big`: that error, which may answer multicast.

    Of a later fragment of ICMPv6 it cannot be known whether it is an error, so none is answered.
    """
    src, dst = packet[8:24], packet[24:40]
    if src[0] == 0xFF or src == bytes(16) or (dst[0] == 0xFF and not too_big):
        return False
    protocol, offset = upper_layer(packet)
    if protocol != ICMP:
        return True
    return offset is not None and len(packet) > offset and packet[offset] >= _FIRST_INFORMATIONAL and packet[offset] != _REDIRECT
