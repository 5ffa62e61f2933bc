"""What the Linux kernel says beside a packet: control messages, stamps, the error queue. Pure: bytes to values.

Numbers and layouts are those of Linux's include/uapi (socket.h, in.h, in6.h, errqueue.h, net_tstamp.h); Python's
socket module names only some of them. A control message of the error queue::

    sock_extended_err             offset  octets  field
                                  0       4       errno
                                  4       1       origin: 2 ICMP, 3 ICMPv6, 4 timestamp (1: a local error)
                                  5       1       ICMP type
                                  6       1       ICMP code
                                  8       4       info
                                  12      4       data: number of the stamped packet; or, for ICMP, in its first
                                                  two octets the offset of the RFC 4884 extension in the quote
    then the offender's address   16      2       family: 2 or 10
                                  20      4       IPv4 address  (family 2)
                                  24      16      IPv6 address  (family 10)
    scm_timestamping64            0       16      software stamp: seconds and ns, 8 octets each
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = [
    "IPV6_AUTOFLOWLABEL",
    "IPV6_HOPLIMIT",
    "IPV6_RECVERR",
    "IPV6_RECVERR_RFC4884",
    "IPV6_RECVHOPLIMIT",
    "IP_RECVERR",
    "IP_RECVERR_RFC4884",
    "IP_RECVTTL",
    "IP_TTL",
    "SENT_STAMP",
    "SOL_ICMPV6",
    "SOL_IP",
    "SOL_IPV6",
    "SO_ATTACH_FILTER",
    "SO_TIMESTAMPING",
    "STAMPING_FLAGS",
    "STAMPING_OPT_ID",
    "STAMP_AND_NUMBER_BYTES",
    "STAMP_AND_NUMBER_FORMAT",
    "STAMP_AND_TTL_BYTES",
    "STAMP_AND_TTL_FORMAT",
    "STAMP_HEAD",
    "TTL_HEAD",
    "Ancillary",
    "read_ancillary",
    "read_control",
    "read_sent_stamp",
    "send_ttl",
]

SOL_SOCKET = 1
SOL_IP = 0
SOL_IPV6 = 41
SOL_ICMPV6 = 58
SO_ATTACH_FILTER = 26
#: SO_TIMESTAMPING_NEW: 64-bit seconds on every architecture.
SO_TIMESTAMPING = 65
IP_TTL = 2
IP_RECVERR = 11
IP_RECVTTL = 12
IP_RECVERR_RFC4884 = 26
IPV6_RECVERR = 25
IPV6_RECVERR_RFC4884 = 31
IPV6_RECVHOPLIMIT = 51
IPV6_HOPLIMIT = 52
IPV6_AUTOFLOWLABEL = 70

_TX_SOFTWARE, _RX_SOFTWARE, _SOFTWARE, STAMPING_OPT_ID, _OPT_TSONLY = 1 << 1, 1 << 3, 1 << 4, 1 << 7, 1 << 11
#: Stamp sends and receipts in software, number the sends, and return the stamp without the packet.
STAMPING_FLAGS = _TX_SOFTWARE | _RX_SOFTWARE | _SOFTWARE | STAMPING_OPT_ID | _OPT_TSONLY

_ORIGIN_ICMP, _ORIGIN_ICMP6, _ORIGIN_TIMESTAMPING = 2, 3, 4
_EXTENDED_ERR = struct.Struct("@IBBBBII")
_TIMESPEC = struct.Struct("@qq")
#: cmsghdr (linux/socket.h): length with the header, level, type.
_CMSG = struct.Struct("@Qii")
#: What nearly every message bears: the stamp first, always 64 octets, and behind it a TTL or, of a sent packet, its number.
_STAMP_AND_TTL = struct.Struct("@Qiiqq32xQiii")
_TTL_CMSG_BYTES = 20
_STAMP_AND_NUMBER = struct.Struct("@Qiiqq32xQiiIBBBBII")
_STAMP_CMSG_BYTES = 64
_CMSG_ALIGN = 8
_INT = struct.Struct("@i")
_OFFSET = struct.Struct("@H")
#: The same as formats, for whoever reads many at once: cmsghdr, seconds, ns; then cmsghdr and TTL, or what SENT_STAMP holds and number.
STAMP_AND_TTL_FORMAT, STAMP_AND_TTL_BYTES = "16sqq32x16si", 84
STAMP_AND_NUMBER_FORMAT, STAMP_AND_NUMBER_BYTES = "16sqq32x21s7xI", 112
STAMP_HEAD = _CMSG.pack(_STAMP_CMSG_BYTES, SOL_SOCKET, SO_TIMESTAMPING)
#: By IP version.
TTL_HEAD = {4: _CMSG.pack(_TTL_CMSG_BYTES, SOL_IP, IP_TTL), 6: _CMSG.pack(_TTL_CMSG_BYTES, SOL_IPV6, IPV6_HOPLIMIT)}
#: A sent packet's: cmsghdr around sock_extended_err and sockaddr_in or sockaddr_in6, then the errno (ENOMSG) and the origin.
SENT_STAMP = {
    4: _CMSG.pack(_CMSG.size + 16 + 16, SOL_IP, IP_RECVERR) + struct.pack("@IB", errno.ENOMSG, _ORIGIN_TIMESTAMPING),
    6: _CMSG.pack(_CMSG.size + 16 + 28, SOL_IPV6, IPV6_RECVERR) + struct.pack("@IB", errno.ENOMSG, _ORIGIN_TIMESTAMPING),
}
_SECOND_NS = 1_000_000_000
_TTL_KINDS = frozenset({(SOL_IP, IP_TTL), (SOL_IPV6, IPV6_HOPLIMIT)})
_ERROR_KINDS = frozenset({(SOL_IP, IP_RECVERR), (SOL_IPV6, IPV6_RECVERR)})


@dataclass(slots=True)
class Ancillary:
    """What came beside one packet; None where the kernel said nothing.

    stamp_ns         wall clock at which the kernel sent or received it
    ttl              TTL or hop limit it arrived with
    tx_number        number of the sent packet that `stamp_ns` belongs to
    icmp_type, icmp_code, offender   of an ICMP error about a packet of ours; offender as 4 or 16 octets
    extension_offset where in the quote the RFC 4884 extension begins; 0 when there is none
    """

    stamp_ns: int | None = None
    ttl: int | None = None
    tx_number: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    offender: bytes | None = None
    extension_offset: int = 0


def read_ancillary(messages: Iterable[tuple[int, int, bytes]]) -> Ancillary:
    """Read the control messages of one `recvmsg`; unknown and short ones are skipped. Never raises."""
    found = Ancillary()
    for level, kind, data in messages:
        if level == SOL_SOCKET:
            if kind == SO_TIMESTAMPING and len(data) >= 16:
                seconds, nanoseconds = _TIMESPEC.unpack_from(data)
                # All zero: the kernel has a stamp of another kind only.
                found.stamp_ns = seconds * _SECOND_NS + nanoseconds or None
        elif (level == SOL_IP and kind == IP_RECVERR) or (level == SOL_IPV6 and kind == IPV6_RECVERR):
            _read_error(found, data)
        elif ((level == SOL_IP and kind == IP_TTL) or (level == SOL_IPV6 and kind == IPV6_HOPLIMIT)) and len(data) >= 4:
            found.ttl = _INT.unpack_from(data)[0]
    return found


def read_control(memory: bytes | bytearray, start: int, end: int) -> Ancillary:
    """The same for control messages as the kernel writes them, between two offsets of `memory`. Never raises."""
    # Nearly always a stamp and a TTL, and nothing else.
    if _STAMP_AND_TTL.size <= end - start < _STAMP_CMSG_BYTES + 2 * _CMSG.size and end <= len(memory):
        size, level, kind, seconds, nanoseconds, size2, level2, kind2, ttl = _STAMP_AND_TTL.unpack_from(memory, start)
        is_stamp = size == _STAMP_CMSG_BYTES and level == SOL_SOCKET and kind == SO_TIMESTAMPING
        if is_stamp and size2 == _TTL_CMSG_BYTES and (level2, kind2) in _TTL_KINDS:
            return Ancillary(seconds * _SECOND_NS + nanoseconds or None, ttl)
    return read_ancillary(_split(memory, start, end))


def read_sent_stamp(memory: bytes | bytearray, start: int, end: int) -> tuple[int, int] | None:
    """Number and stamp (ns) of a sent packet; None when the control messages are of another kind. Never raises."""
    if end - start < _STAMP_AND_NUMBER.size or end > len(memory):
        return None
    size, level, kind, seconds, nanoseconds, size2, level2, kind2, _, origin, *_, number = _STAMP_AND_NUMBER.unpack_from(memory, start)
    if (
        origin != _ORIGIN_TIMESTAMPING
        or size2 < _CMSG.size + _EXTENDED_ERR.size
        or size != _STAMP_CMSG_BYTES
        or level != SOL_SOCKET
        or kind != SO_TIMESTAMPING
    ):
        return None
    return (number, seconds * _SECOND_NS + nanoseconds) if (level2, kind2) in _ERROR_KINDS else None


def _split(memory: bytes | bytearray, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    end = min(end, len(memory))
    while end - start >= _CMSG.size:
        size, level, kind = _CMSG.unpack_from(memory, start)
        if size < _CMSG.size:
            return
        yield level, kind, bytes(memory[start + _CMSG.size : min(start + size, end)])
        start += (size + _CMSG_ALIGN - 1) // _CMSG_ALIGN * _CMSG_ALIGN


def _read_error(found: Ancillary, data: bytes) -> None:
    if len(data) < _EXTENDED_ERR.size:
        return
    _, origin, icmp_type, icmp_code, _, _, number = _EXTENDED_ERR.unpack_from(data)
    if origin == _ORIGIN_TIMESTAMPING:
        found.tx_number = number
    elif origin in {_ORIGIN_ICMP, _ORIGIN_ICMP6}:
        found.icmp_type, found.icmp_code = icmp_type, icmp_code
        found.extension_offset = _OFFSET.unpack_from(data, 12)[0]
        family = _OFFSET.unpack_from(data, 16)[0] if len(data) >= 18 else 0
        if family == 2 and len(data) >= 24:
            found.offender = data[20:24]
        elif family == 10 and len(data) >= 40:
            found.offender = data[24:40]


def send_ttl(version: int, ttl: int) -> list[tuple[int, int, bytes]]:
    """The control message that gives one sent packet its own TTL or hop limit."""
    return [(SOL_IP, IP_TTL, _INT.pack(ttl)) if version == 4 else (SOL_IPV6, IPV6_HOPLIMIT, _INT.pack(ttl))]
