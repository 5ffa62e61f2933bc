"""STAMP test packets as bytes (RFC 8762, with the session id and the TLVs of RFC 8972): pure functions, no socket, no clock.

Octets of each field, by packet; a sender's packet and its reply have the same length. The rest must be zero::

                                    unauthenticated (44)     authenticated (112)
                                    sender    reflector      sender    reflector
    sequence number         4       0         0              0         0
    timestamp               8       4         4  (T3)        16        16  (T3)
    error estimate          2       12        12             24        24
    session id (SSID)       2       14        14             26        26
    receive timestamp       8                 16 (T2)                  32  (T2)
    sender's sequence       4                 24                       48
    sender's timestamp      8                 28 (T1)                  64  (T1)
    sender's error estimate 2                 36                       72
    sender's TTL            1                 40                       80
    HMAC-SHA-256, first 16                                   96        96  over octets 0 to 95
    TLVs                            44 ...                   112 ...

An error estimate (RFC 4656, section 4.1.2) is S (1 bit: the clock is in step with UTC), Z (1 bit: 0 NTP, 1 PTPv2 timestamps;
RFC 8186), Scale (6 bits), Multiplier (8 bits, never 0): the error is Multiplier * 2^(Scale - 32) seconds.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from hashlib import sha256

__all__ = [
    "BASE_BYTES",
    "DEFAULT_PORT",
    "MAX_PACKET_BYTES",
    "MIN_PADDING_BYTES",
    "ErrorEstimate",
    "Reply",
    "Request",
    "decode_reply",
    "decode_request",
    "encode_reply",
    "encode_request",
    "from_timestamp",
    "to_timestamp",
]

#: UDP port of reflectors (section 4.1).
DEFAULT_PORT = 862
#: Length of a packet without TLVs, by whether it is authenticated.
BASE_BYTES = {False: 44, True: 112}
MAX_PACKET_BYTES = 8972
#: Header of a TLV: the least by which padding lengthens a packet.
MIN_PADDING_BYTES = 4

_SENDER = {False: struct.Struct("!IQHH28x"), True: struct.Struct("!I12xQHH68x")}
_REFLECTOR = {False: struct.Struct("!IQHHQIQH2xB3x"), True: struct.Struct("!I12xQHH4xQ8xI12xQH6xB15x")}
_TLV = struct.Struct("!BBH")
_HMAC_AT, _HMAC_BYTES = 96, 16
_UNRECOGNISED, _MALFORMED = 0x80, 0x40
_EXTRA_PADDING = 1
#: Seconds from 1900, where NTP's timestamps begin, to 1970.
_NTP_TO_UNIX_S = 2_208_988_800
_SECOND_NS = 1_000_000_000
_ERA_S = 1 << 32


@dataclass(frozen=True, slots=True)
class ErrorEstimate:
    """What a clock says of itself. error_ns None: it is not in step with UTC, or the field is not valid; is_ptp: the timestamps' format."""

    error_ns: int | None
    is_ptp: bool = False

    def encode(self) -> int:
        """Its 16 bits. The error is rounded up to what 8 bits of multiplier can say, and is at least 2^-32 s.

        >>> hex(ErrorEstimate(1_000_000_000).encode()), hex(ErrorEstimate(None).encode())  # 128 * 2^(25 - 32) s; not in step
        ('0x9980', '0x1')
        """
        z = 0x4000 if self.is_ptp else 0
        if self.error_ns is None:
            return z | 1
        units = max(1, -(-(self.error_ns << 32) // _SECOND_NS))
        scale = 0
        while units > 255:
            units, scale = -(-units // 2), scale + 1
        return 0xFFFF if scale > 63 else 0x8000 | z | scale << 8 | units

    @classmethod
    def decode(cls, bits: int) -> ErrorEstimate:
        """From 16 bits. A multiplier of 0 is not valid (RFC 4656) and says nothing."""
        multiplier, scale = bits & 0xFF, bits >> 8 & 0x3F
        is_known = bits & 0x8000 and multiplier
        # Rounded up: the error is a bound.
        return cls(-(-(multiplier * _SECOND_NS << scale) >> 32) if is_known else None, bool(bits & 0x4000))


def to_timestamp(unix_ns: int, *, is_ptp: bool = False) -> int:
    """64 bits of a Unix time in ns: NTP (seconds since 1900 and a binary fraction) or PTPv2 truncated (seconds since 1970 and ns).

    >>> hex(to_timestamp(500_000_000)), hex(to_timestamp(500_000_000, is_ptp=True))  # half a second into 1970
    ('0x83aa7e8080000000', '0x1dcd6500')
    """
    seconds, fraction_ns = divmod(unix_ns, _SECOND_NS)
    if is_ptp:
        return (seconds & 0xFFFFFFFF) << 32 | fraction_ns
    return ((seconds + _NTP_TO_UNIX_S) & 0xFFFFFFFF) << 32 | (fraction_ns << 32) // _SECOND_NS


def from_timestamp(bits: int, *, is_ptp: bool = False, near_ns: int) -> int:
    """The Unix time in ns that 64 bits mean, in the era that lies nearest to `near_ns` (32 bits of seconds return in 136 years)."""
    seconds, fraction = bits >> 32, bits & 0xFFFFFFFF
    if is_ptp:
        fraction_ns = fraction
    else:
        seconds -= _NTP_TO_UNIX_S
        fraction_ns = (fraction * _SECOND_NS + (1 << 31)) >> 32
    seconds += round((near_ns // _SECOND_NS - seconds) / _ERA_S) * _ERA_S
    return seconds * _SECOND_NS + fraction_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A sender's test packet. timestamp and error_bits as on the wire; ssid 0: none (RFC 8762 alone)."""

    sequence: int
    timestamp: int
    error_bits: int
    ssid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reflector's test packet: its own fields, and the sender's as it received them; timestamps as on the wire."""

    sequence: int
    timestamp: int
    error_bits: int
    ssid: int
    receive_timestamp: int
    sender_sequence: int
    sender_timestamp: int
    sender_error_bits: int
    sender_ttl: int


def _sealed(base: bytes, key: bytes | None) -> bytes:
    """The base packet with its HMAC, where there is a key: HMAC-SHA-256 over the first six blocks, truncated (section 4.4)."""
    return base if key is None else base[:_HMAC_AT] + hmac.digest(key, base[:_HMAC_AT], sha256)[:_HMAC_BYTES]


def _is_sealed(packet: bytes, key: bytes) -> bool:
    mine = hmac.digest(key, packet[:_HMAC_AT], sha256)[:_HMAC_BYTES]
    return hmac.compare_digest(mine, packet[_HMAC_AT : _HMAC_AT + _HMAC_BYTES])


def encode_request(request: Request, packet_bytes: int, key: bytes | None = None) -> bytes:
    """A sender's packet of `packet_bytes`; what is beyond the base is an Extra Padding TLV (RFC 8972, section 4.1) of zeros.

    Raises ValueError for a length that cannot be had: below the base, less than a TLV's header above it, or too long.
    """
    layout = _SENDER[key is not None]
    # The HMAC's room is part of the layout's last zeros plus the 16 octets behind them.
    base = layout.pack(request.sequence & 0xFFFFFFFF, request.timestamp, request.error_bits, request.ssid)
    base = _sealed(base, key)
    extra = packet_bytes - len(base)
    if extra == 0:
        return base
    if extra < MIN_PADDING_BYTES or packet_bytes > MAX_PACKET_BYTES:
        raise ValueError(f"a packet has {len(base)} octets, or {len(base) + MIN_PADDING_BYTES} to {MAX_PACKET_BYTES}, not {packet_bytes}")
    # The U flag is set by senders and cleared by reflectors that know the type (RFC 8972, section 4).
    return base + _TLV.pack(_UNRECOGNISED, _EXTRA_PADDING, extra - _TLV.size) + bytes(extra - _TLV.size)


def decode_request(packet: bytes, key: bytes | None = None) -> Request | None:
    """A sender's packet; None when it is too short or its HMAC is not that of the key. Never raises."""
    is_authenticated = key is not None
    if len(packet) < BASE_BYTES[is_authenticated] or (key is not None and not _is_sealed(packet, key)):
        return None
    sequence, timestamp, error_bits, ssid = _SENDER[is_authenticated].unpack_from(packet)
    return Request(sequence=sequence, timestamp=timestamp, error_bits=error_bits, ssid=ssid)


def encode_reply(reply: Reply, request_packet: bytes, key: bytes | None = None) -> bytes:
    """The answer to a request, exactly as long: what follows the base goes back with the flags of its TLVs set."""
    layout = _REFLECTOR[key is not None]
    base = layout.pack(
        reply.sequence & 0xFFFFFFFF,
        reply.timestamp,
        reply.error_bits,
        reply.ssid,
        reply.receive_timestamp,
        reply.sender_sequence,
        reply.sender_timestamp,
        reply.sender_error_bits,
        reply.sender_ttl,
    )
    base = _sealed(base, key)
    return base + _reflected_tlvs(request_packet[len(base) :])


def _reflected_tlvs(tlvs: bytes) -> bytes:
    """TLVs of a request as they go back: U cleared for padding and set for what we do not know, M for one that is cut short."""
    if not tlvs:
        return b""
    out = bytearray(tlvs)
    at = 0
    while at < len(out):
        if at + _TLV.size > len(out):
            out[at] |= _MALFORMED
            break
        flags, kind, length = _TLV.unpack_from(out, at)
        if at + _TLV.size + length > len(out):
            out[at] = flags | _MALFORMED
            break
        out[at] = flags & ~_UNRECOGNISED & 0xFF if kind == _EXTRA_PADDING else flags | _UNRECOGNISED
        at += _TLV.size + length
    return bytes(out)


def decode_reply(packet: bytes, key: bytes | None = None) -> Reply | None:
    """A reflector's packet; None when it is too short or its HMAC is not that of the key. Never raises."""
    is_authenticated = key is not None
    if len(packet) < BASE_BYTES[is_authenticated] or (key is not None and not _is_sealed(packet, key)):
        return None
    sequence, timestamp, error_bits, ssid, receive, sender_sequence, sender_timestamp, sender_error_bits, ttl = _REFLECTOR[
        is_authenticated
    ].unpack_from(packet)
    return Reply(
        sequence=sequence,
        timestamp=timestamp,
        error_bits=error_bits,
        ssid=ssid,
        receive_timestamp=receive,
        sender_sequence=sender_sequence,
        sender_timestamp=sender_timestamp,
        sender_error_bits=sender_error_bits,
        sender_ttl=ttl,
    )
