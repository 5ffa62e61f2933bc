"""Flows, as routers tell them apart to share load over equally good next hops. Pure.

Hashed are the addresses, the protocol and the first four bytes of its header: the ports of TCP and UDP; of ICMP the
type, the code and the checksum, which is why pings whose checksums differ may take different ways. Of a
fragment, and of an IPv6 packet with extension headers, only addresses and protocol are, so that all fragments of a
packet stay together. In IPv6 the flow label is hashed too (RFC 6437, section 2): by it a host moves a connection that
is stuck on one path to another.
"""

from __future__ import annotations

from zlib import crc32

from lab import ipv6
from lab.wire import HEADER

__all__ = ["branch", "flow_of"]

_MASK = 0xFFFFFFFF
_NO_EXTENSIONS = 40


def flow_of(frame: bytes | bytearray) -> int:
    """32 bits that are the same for all packets of a flow, and different for most flows."""
    if frame[HEADER] >> 4 == 4:
        identity = frame[HEADER + 12 : HEADER + 20] + frame[HEADER + 9 : HEADER + 10]
        if frame[HEADER + 6] & 0x3F or frame[HEADER + 7]:
            return crc32(identity)
        at = HEADER + (frame[HEADER] & 15) * 4
        return crc32(identity + frame[at : at + 4])
    label = bytes((frame[HEADER + 1] & 15, frame[HEADER + 2], frame[HEADER + 3]))
    protocol, offset = ipv6.upper_layer(frame, HEADER)
    identity = frame[HEADER + 8 : HEADER + 40] + label + bytes((protocol,))
    if offset != _NO_EXTENSIONS:
        return crc32(identity)
    return crc32(identity + frame[HEADER + offset : HEADER + offset + 4])


def branch(flow: int, salt: int, count: int) -> int:
    """Which of `count` next hops a router takes for a flow: 0 .. count - 1.

    `salt` is the router's own, so that routers in a row choose independently. A checksum is linear, so salting alone
    would leave their choices alike; the bits are mixed by MurmurHash3's finalizer (A. Appleby, public domain).
    """
    x = (flow ^ salt) & _MASK
    x = ((x ^ x >> 16) * 0x85EBCA6B) & _MASK
    x = ((x ^ x >> 13) * 0xC2B2AE35) & _MASK
    return (x ^ x >> 16) % count
