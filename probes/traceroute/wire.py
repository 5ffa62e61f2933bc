"""Traceroute's own bytes: UDP probe packets, what errors quote of them, MPLS labels, the path's hash. Pure.

A UDP probe packet of the raw transport, as it leaves::

    offset  octets  field
    0       20      IPv4 header (RFC 791); its identification is the probe's 16-bit number, which every error quotes
    20      8       UDP header (RFC 768): the same ports and length for every packet of one flow
    28      8       token: 64 random bits
    36      ...     filler: the word "isochrone"

An ICMP extension (RFC 4884, section 7) and in it a label stack (RFC 4950)::

    0       1       version 2 in the upper four bits
    2       2       checksum of the whole structure; 0: none was sent
    4       2       length of the first object, its header included
    6       1       class: 1 for MPLS
    7       1       type: 1 for the incoming label stack
    8       4       label 20 bits, traffic class 3, bottom of stack 1, TTL 8; repeated
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from probes.ping.wire import checksum
from records.hop import MplsLabel

__all__ = ["BASE_PORT", "QuotedUdp", "decode_labels", "decode_quoted_udp", "icmp_flow", "ipv4_udp", "token_of", "udp_payload"]

#: The traditional first port of traceroute; flow n goes to BASE_PORT + n.
BASE_PORT = 33434

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_TOKEN = struct.Struct("!Q")
_FILLER = b"isochrone isochrone isoc"
_DONT_FRAGMENT = 0x4000


def icmp_flow(flow: int) -> int:
    """The ICMP checksum that the packets of a flow bear, 1 .. 0xfffe; far apart for neighbouring flows.

    >>> len({icmp_flow(n) for n in range(256)})
    256
    """
    return 1 + (0x1505 + flow * 0x1F3D) % 0xFFFE


def udp_payload(token: int) -> bytes:
    """What follows the UDP header of a probe packet, 32 octets."""
    return _TOKEN.pack(token) + _FILLER


def token_of(payload: bytes) -> int | None:
    """The token in a probe packet's payload; None when too little of it was quoted. Never raises."""
    return _TOKEN.unpack_from(payload)[0] if len(payload) >= 8 else None


def ipv4_udp(source: bytes, destination: bytes, source_port: int, port: int, ttl: int, number: int, token: int) -> bytes:
    """A whole IPv4 UDP probe packet; addresses as 4 octets. The kernel fills in the header's checksum on the way out."""
    payload = udp_payload(token)
    length = _UDP.size + len(payload)
    pseudo = source + destination + struct.pack("!BBH", 0, 17, length)
    # RFC 768: a checksum of zero is sent as all ones; zero would mean "none".
    check = checksum(pseudo + _UDP.pack(source_port, port, length, 0) + payload) or 0xFFFF
    header = _IPV4.pack(0x45, 0, _IPV4.size + length, number, _DONT_FRAGMENT, ttl, 17, 0, source, destination)
    return header + _UDP.pack(source_port, port, length, check) + payload


@dataclass(frozen=True, slots=True)
class QuotedUdp:
    """The IPv4 UDP probe packet an error quotes; `token` is None when the router quoted 8 octets only."""

    destination: bytes
    number: int
    source_port: int
    port: int
    token: int | None


def decode_quoted_udp(quoted: bytes) -> QuotedUdp | None:
    """Read an error's quote, which starts with the IPv4 header. None: not UDP or cut too short. Never raises."""
    if len(quoted) < 28 or quoted[0] >> 4 != 4 or quoted[9] != 17:
        return None
    offset = (quoted[0] & 15) * 4
    if offset < 20 or len(quoted) < offset + 8:
        return None
    source_port, port, _, _ = _UDP.unpack_from(quoted, offset)
    return QuotedUdp(quoted[16:20], int.from_bytes(quoted[4:6], "big"), source_port, port, token_of(quoted[offset + 8 :]))


def decode_labels(extension: bytes) -> tuple[MplsLabel, ...]:
    """The MPLS label stack in an RFC 4884 extension structure, outermost first.

    Empty when the bytes are no such structure (wrong version, bad checksum, impossible lengths): routers that do
    not know the RFC put padding there. Objects of other classes are skipped. Never raises.
    """
    if len(extension) < 4 or extension[0] >> 4 != 2:
        return ()
    if extension[2:4] != b"\0\0" and checksum(extension) != 0:
        return ()
    offset = 4
    while offset + 4 <= len(extension):
        length = int.from_bytes(extension[offset : offset + 2], "big")
        if length < 4 or offset + length > len(extension):
            return ()
        if extension[offset + 2] == 1 and extension[offset + 3] == 1:
            entries = extension[offset + 4 : offset + length]
            return tuple(_label(entries[start : start + 4]) for start in range(0, len(entries) - 3, 4))
        offset += length
    return ()


def _label(entry: bytes) -> MplsLabel:
    value = int.from_bytes(entry, "big")
    return MplsLabel(label=value >> 12, traffic_class=value >> 9 & 7, bottom=bool(value >> 8 & 1), ttl=value & 0xFF)
