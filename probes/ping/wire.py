"""ICMP echo and ICMP errors as bytes: pure functions, no socket, no clock.

An echo request of ours (RFC 792, RFC 4443 section 4.1), as it leaves::

    offset  octets  field
    0       1       type: 8 (v4) or 128 (v6)
    1       1       code: 0
    2       2       checksum: the same for every packet of one flow, see `echo_request`
    4       2       identifier: the socket's
    6       2       sequence: the probe's 16-bit number
    8       8       token: 64 random bits, new for every probe packet; its least octet first, as the processor reads it that
                    looks for it among thousands
    16      2       balance: chosen so that the checksum comes out as wanted; its least octet first as well
    18      ...     filler: the word "isochrone", so that whoever captures the packet knows whose it is

Routers spread traffic over equal-cost paths by a hash that for ICMP may take in the checksum. A checksum that
changes with every packet therefore measures several paths as if they were one; a constant one measures one
(Augustin et al., "Avoiding traceroute anomalies with Paris traceroute", IMC 2006).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = [
    "ADDRESSED",
    "DEFAULT_FLOW",
    "ECHO_REPLY",
    "ECHO_REQUEST",
    "ERROR_TYPES",
    "FLOWS",
    "MIN_PAYLOAD_BYTES",
    "TIME_EXCEEDED",
    "UNREACHABLE",
    "EchoReply",
    "IcmpError",
    "QuotedEcho",
    "checksum",
    "checksum_of",
    "decode_echo_header",
    "decode_icmp",
    "decode_quoted_echo",
    "echo_request",
    "extension_of",
    "read_echo_reply",
    "request_filler",
    "request_head",
    "strip_ipv4",
]

#: By IP version.
ECHO_REQUEST = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
UNREACHABLE = {4: 3, 6: 1}
TIME_EXCEEDED = {4: 11, 6: 3}
#: Errors that say what became of a packet: unreachable, packet too big, time exceeded, parameter problem.
ERROR_TYPES = {4: frozenset({3, 11, 12}), 6: frozenset({1, 2, 3, 4})}

#: Token and balance; the least payload a probe packet can have.
MIN_PAYLOAD_BYTES = 10
#: The checksum of a ping's packets: any constant but 0 and 0xffff serves.
DEFAULT_FLOW = 0x1506
#: Flows that `checksum_of` tells apart.
FLOWS = 256

_HEADER = struct.Struct("!BBHHH")
_HEAD = struct.Struct("!BBHH")
#: Type to identifier, the number's octets, token, balance; and the same behind a socket address, in 32 octets of its own.
_ECHO = struct.Struct("<6sBBQH")
ADDRESSED = struct.Struct("<28s4x6sBBQH")
_TOKEN = struct.Struct("<Q")
_FILLER = b"isochrone " * 1000


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071): ones' complement of the ones' complement sum of 16-bit words.

    >>> hex(checksum(bytes.fromhex("0001f203f4f5f6f7")))  # the example of RFC 1071, section 3: sum ddf2
    '0x220d'
    """
    return 0xFFFF - _sum16(data)


def _sum16(data: bytes) -> int:
    """Ones' complement sum of `data` as big-endian 16-bit words, an odd last octet padded with zero.

    The sum modulo 0xffff of a large integer's 16-bit digits is the integer modulo 0xffff; a non-zero multiple
    of 0xffff sums to 0xffff, not to 0.
    """
    if len(data) % 2:
        data += b"\0"
    value = int.from_bytes(data, "big")
    return value % 0xFFFF or (0xFFFF if value else 0)


_FILLER_SUMS: dict[int, int] = {}


def _filler_sum(size: int) -> int:
    found = _FILLER_SUMS.get(size)
    if found is None:
        found = _FILLER_SUMS[size] = _sum16(_FILLER[:size])
    return found


def echo_request(version: int, identifier: int, number: int, token: int, payload_bytes: int, flow: int = DEFAULT_FLOW) -> bytes:
    """An ICMP (version 4) or ICMPv6 (version 6) echo request whose checksum, for IPv4, is exactly `flow`.

    identifier, number   16 bits each; `number` travels as the sequence
    token                64 bits
    payload_bytes        octets after the ICMP header, at least MIN_PAYLOAD_BYTES and at most 9,000
    flow                 1 .. 0xfffe. For IPv6 the kernel adds the pseudo-header, so the checksum is constant per
                         pair of addresses and flow instead
    """
    head, base = request_head(version, identifier, payload_bytes, flow)
    balance = -(base + (number << 8) + token) % 0xFFFF
    return _ECHO.pack(head, number >> 8, number & 0xFF, token, balance) + _FILLER[: payload_bytes - MIN_PAYLOAD_BYTES]


def request_head(version: int, identifier: int, payload_bytes: int, flow: int) -> tuple[bytes, int]:
    """What the requests of a flow have in common: their octets before the number, and the sum of all that stays.

    The words of a message, its checksum included, must add up to ffff; so ``-(sum + (number << 8) + token) % 0xffff`` is the
    balance. All words are taken least octet first here, which the sum does not mind (RFC 1071 section 2B); an octet's shift
    exchanges the two of a word, modulo ffff.
    """
    total = (ECHO_REQUEST[version] << 8) + identifier + _filler_sum(payload_bytes - MIN_PAYLOAD_BYTES) + flow
    return _HEAD.pack(ECHO_REQUEST[version], 0, flow if version == 4 else 0, identifier), (total << 8) % 0xFFFF


def request_filler(payload_bytes: int) -> bytes:
    """A request of this size with nothing but its filler, to write into what changes."""
    return bytes(_ECHO.size) + _FILLER[: payload_bytes - MIN_PAYLOAD_BYTES]


def checksum_of(flow: int) -> int:
    """The checksum that makes a packet one of the `flow`-th flow to its target, from 0 to FLOWS - 1; traceroute's is the same.

    Far apart for neighbouring flows: a router's hash may be no more than a sum.

    >>> checksum_of(0) == DEFAULT_FLOW
    True
    """
    return 1 + (DEFAULT_FLOW - 1 + flow * 0x1F3D) % 0xFFFE


@dataclass(slots=True)
class EchoReply:
    """An echo reply; `token` is None when its payload is too short to hold one."""

    identifier: int
    number: int
    token: int | None


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error and what it quotes: everything behind the 8 octets of its own header.

    length_words   the RFC 4884 length attribute as sent (32-bit words for v4, 64-bit words for v6); 0 when absent
    """

    icmp_type: int
    icmp_code: int
    length_words: int
    quoted: bytes


@dataclass(frozen=True, slots=True)
class QuotedEcho:
    """The echo request an error quotes. Routers owe us 8 octets behind the IP header only: `token` may be None."""

    destination: bytes
    identifier: int
    number: int
    token: int | None


def read_echo_reply(version: int, packet: bytes, offset: int) -> tuple[int, int, int] | None:
    """Identifier, number and token of the echo reply that begins at `offset`; None for anything else. Never raises."""
    if len(packet) - offset < 16 or packet[offset] != ECHO_REPLY[version]:
        return None
    _, _, _, identifier, number = _HEADER.unpack_from(packet, offset)
    return identifier, number, _TOKEN.unpack_from(packet, offset + 8)[0]


def decode_icmp(version: int, message: bytes) -> EchoReply | IcmpError | None:
    """Read an ICMP message as it came (no IP header). None: nothing that answers a probe packet. Never raises."""
    if len(message) < 8:
        return None
    icmp_type = message[0]
    if icmp_type == ECHO_REPLY[version]:
        token = _TOKEN.unpack_from(message, 8)[0] if len(message) >= 16 else None
        return EchoReply((message[4] << 8) | message[5], (message[6] << 8) | message[7], token)
    if icmp_type in ERROR_TYPES[version]:
        # RFC 4884: the length is octet 5 of an ICMPv4 error and octet 4 of an ICMPv6 error.
        return IcmpError(icmp_type, message[1], message[5 if version == 4 else 4], message[8:])
    return None


def strip_ipv4(packet: bytes) -> tuple[bytes, int] | None:
    """Split what a raw IPv4 socket delivers into (payload, TTL); None when it is no whole IPv4 packet."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    header = (packet[0] & 15) * 4
    if header < 20 or len(packet) < header:
        return None
    return packet[header:], packet[8]


def decode_quoted_echo(version: int, quoted: bytes) -> QuotedEcho | None:
    """The echo request of ours in an error's quote, which starts with the IP header. None: it is something else."""
    if version == 4:
        if len(quoted) < 20 or quoted[0] >> 4 != 4 or quoted[9] != 1:
            return None
        offset = (quoted[0] & 15) * 4
        destination = quoted[16:20]
    else:
        # No extension headers: our requests carry none.
        if len(quoted) < 40 or quoted[0] >> 4 != 6 or quoted[6] != 58:
            return None
        offset = 40
        destination = quoted[24:40]
    return decode_echo_header(version, quoted[offset:], destination) if offset >= 20 else None


def decode_echo_header(version: int, quoted: bytes, destination: bytes) -> QuotedEcho | None:
    """Like `decode_quoted_echo` for a quote that starts with the ICMP header, as the kernel's error queue gives it."""
    if len(quoted) < 8:
        return None
    icmp_type, code, _, identifier, number = _HEADER.unpack_from(quoted)
    if icmp_type != ECHO_REQUEST[version] or code:
        return None
    token = _TOKEN.unpack_from(quoted, 8)[0] if len(quoted) >= 16 else None
    return QuotedEcho(destination, identifier, number, token)


def extension_of(version: int, error: IcmpError) -> bytes:
    """The RFC 4884 extension structure of an error, empty when it has none.

    Without a length attribute the RFC (section 5.5) has old routers put it behind 128 octets of quote; whoever
    decodes it must check its version and checksum.
    """
    start = error.length_words * (4 if version == 4 else 8) or 128
    return error.quoted[start:]
