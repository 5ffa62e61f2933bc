"""TCP SYN probe packets, and what answers them, as bytes. Pure.

A probe packet is a SYN (RFC 9293, section 3.1) with the option that every real one has, the maximum segment size: some
firewalls drop those without. All packets of a flow bear the same ports. What tells them apart is the sequence number,
which is in the 8 octets that every ICMP error quotes, and which the target's answer acknowledges plus one, be it SYN and
ACK (the port is open) or RST (it is closed)::

    sequence   16 bits secret of the flow, then the 16-bit number of the probe packet

Sequence numbers of a flow lie near each other and grow in the order of sending. That matters at an open port, where all TTLs
behind the target arrive as SYNs of one connection: a number inside the window of the SYN that came first is answered by a RST that
acknowledges it; one outside only by an ACK of that other SYN.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from probes.ping.wire import checksum

__all__ = ["PROTOCOL", "QuotedSyn", "SynAnswer", "decode_quoted_syn", "decode_syn_answer", "pseudo_header_v4", "syn"]

PROTOCOL = 6
_HEADER = struct.Struct("!HHIIBBHHH")
_MSS_1460 = b"\x02\x04\x05\xb4"
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
_OFFSET_WORDS = (_HEADER.size + len(_MSS_1460)) // 4
_WINDOW = 64_240


def syn(source_port: int, port: int, sequence: int, pseudo_header: bytes = b"") -> bytes:
    """A SYN segment of 24 octets.

    sequence       32 bits
    pseudo_header  what the checksum covers besides (source, destination, zero, protocol and length); empty: the checksum is left zero,
                   for the kernel to fill in
    """
    segment = _HEADER.pack(source_port, port, sequence, 0, _OFFSET_WORDS << 4, _SYN, _WINDOW, 0, 0) + _MSS_1460
    if not pseudo_header:
        return segment
    return segment[:16] + checksum(pseudo_header + segment).to_bytes(2, "big") + segment[18:]


def pseudo_header_v4(source: bytes, destination: bytes) -> bytes:
    """Of a SYN segment of ours over IPv4 (RFC 9293, section 3.1); addresses as 4 octets."""
    return source + destination + struct.pack("!BBH", 0, PROTOCOL, _OFFSET_WORDS * 4)


@dataclass(frozen=True, slots=True)
class QuotedSyn:
    """The SYN an error quotes: of all it needs no more than the 8 octets that are promised."""

    destination: bytes
    source_port: int
    port: int
    sequence: int


def decode_quoted_syn(version: int, quoted: bytes) -> QuotedSyn | None:
    """Read an error's quote, which starts with the IP header. None: not TCP or cut too short. Never raises."""
    if version == 4:
        if len(quoted) < 28 or quoted[0] >> 4 != 4 or quoted[9] != PROTOCOL:
            return None
        offset, destination = (quoted[0] & 15) * 4, quoted[16:20]
    else:
        if len(quoted) < 48 or quoted[0] >> 4 != 6 or quoted[6] != PROTOCOL:
            return None
        offset, destination = 40, quoted[24:40]
    if offset < 20 or len(quoted) < offset + 8:
        return None
    return QuotedSyn(destination, *struct.unpack_from("!HHI", quoted, offset))


@dataclass(frozen=True, slots=True)
class SynAnswer:
    """The target's answer. `sequence` is that of the SYN it answers; `is_open`: SYN and ACK, not RST."""

    source_port: int
    port: int
    sequence: int
    is_open: bool


def decode_syn_answer(segment: bytes) -> SynAnswer | None:
    """Read a TCP segment as it came (no IP header). None: it answers no SYN. Never raises."""
    if len(segment) < _HEADER.size:
        return None
    source_port, port, _, acknowledged, _, flags, *_ = _HEADER.unpack_from(segment)
    if not flags & _ACK or not flags & (_SYN | _RST):
        return None
    return SynAnswer(source_port, port, (acknowledged - 1) & 0xFFFFFFFF, bool(flags & _SYN))
