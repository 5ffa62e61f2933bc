"""The UDP echo of agents among themselves, as bytes: pure functions, no socket, no clock.

Request and reply have the same layout and the same length, so that a reflector amplifies nothing::

    offset  octets  field
    0       4       magic: "ISOC"
    4       1       version: 1
    5       1       type: 1 request, 2 reply. A reflector answers requests only, so two of them never talk to each other
    6       2       zero
    8       8       token: 64 random bits, new for every probe packet
    16      8       dwell: ns the reply spent inside the reflector, 0 in a request and where not known
    24      ...     filler, returned as it came

The dwell time is what STAMP (RFC 8762) carries as the difference of its timestamps T2 and T3: the wait for the
reflector's processor is no part of the network's round-trip time.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["HEADER_BYTES", "MAX_DWELL_NS", "UdpEcho", "decode", "reply_to", "request"]

HEADER_BYTES = 24
#: A longer dwell is a stalled reflector or a stepped clock; the reply then says "not known".
MAX_DWELL_NS = 1_000_000_000

_LAYOUT = struct.Struct("!4sBBHQQ")
_MAGIC = b"ISOC"
_VERSION = 1
_REQUEST = 1
_REPLY = 2
_FILLER = b"isochrone " * 1000


@dataclass(frozen=True, slots=True)
class UdpEcho:
    """A request or a reply; `dwell_ns` is None in requests and where the reflector does not know it."""

    is_reply: bool
    token: int
    dwell_ns: int | None


def request(token: int, payload_bytes: int) -> bytes:
    """A request of `payload_bytes` octets, at least HEADER_BYTES and at most 9,000."""
    return _LAYOUT.pack(_MAGIC, _VERSION, _REQUEST, 0, token, 0) + _FILLER[: payload_bytes - HEADER_BYTES]


def decode(datagram: bytes) -> UdpEcho | None:
    """Read a datagram; None when it is not of this protocol. Never raises."""
    if len(datagram) < HEADER_BYTES:
        return None
    magic, version, kind, zero, token, dwell_ns = _LAYOUT.unpack_from(datagram)
    if magic != _MAGIC or version != _VERSION or kind not in {_REQUEST, _REPLY} or zero:
        return None
    return UdpEcho(kind == _REPLY, token, dwell_ns if 0 < dwell_ns <= MAX_DWELL_NS else None)


def reply_to(datagram: bytes, dwell_ns: int) -> bytes | None:
    """The reply to a request, of the same length; None when `datagram` is not a request."""
    echo = decode(datagram)
    if echo is None or echo.is_reply:
        return None
    dwell_ns = dwell_ns if 0 < dwell_ns <= MAX_DWELL_NS else 0
    return _LAYOUT.pack(_MAGIC, _VERSION, _REPLY, 0, echo.token, dwell_ns) + datagram[HEADER_BYTES:]
