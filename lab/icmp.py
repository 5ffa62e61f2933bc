"""What a router says: ICMP errors (RFC 792, RFC 4443) and echo replies, as IP packets of either version. Pure.

An error quotes the packet it is about, as much of it as is customary. A router with MPLS labels reports them in an
extension of its time-exceeded messages (RFC 4884, RFC 4950)::

    offset  octets  field
    0       1       version 2 in the upper four bits
    2       2       checksum of the whole structure
    4       2       length of the object, its header included
    6       1       class 1, MPLS label stack
    7       1       type 1, incoming stack
    8       4       label 20 bits, traffic class 3, bottom of stack 1, TTL 8; repeated
"""

from __future__ import annotations

import struct
from typing import Literal

from lab import ipv4, ipv6
from lab.checksum import checksum

__all__ = ["Reason", "echo_reply", "error", "may_be_answered"]

Reason = Literal["expired", "no-route", "port", "too-big"]
_TYPE_4: dict[Reason, tuple[int, int]] = {"expired": (11, 0), "no-route": (3, 0), "port": (3, 3), "too-big": (3, 4)}
_TYPE_6: dict[Reason, tuple[int, int]] = {"expired": (3, 0), "no-route": (1, 0), "port": (1, 4), "too-big": (2, 0)}
_ECHO_4, _ECHO_REPLY_4 = 8, 0
_ECHO_6, _ECHO_REPLY_6 = 128, 129
#: As much of the packet as fits an error of 576 bytes (RFC 1812, 4.3.2.3) or of the least MTU (RFC 4443, 2.4 c).
_QUOTE_4, _QUOTE_6 = 576 - 20 - 8, 1280 - 40 - 8
#: With an extension the quote is exactly this long, padded with zeros: older tools look for the extension there.
_QUOTE_EXTENDED = 128
#: Precedence "internetwork control", as routers mark their errors (RFC 1812, 4.3.2.5).
_CONTROL = 0xC0


def may_be_answered(packet: bytes, reason: Reason) -> bool:
    """Whether an error may be sent about a packet."""
    return ipv4.may_be_answered(packet) if packet[0] >> 4 == 4 else ipv6.may_be_answered(packet, too_big=reason == "too-big")


def error(router: bytes, packet: bytes, reason: Reason, mtu: int = 0, labels: tuple[int, ...] = ()) -> bytes:
    """The packet with which a router (its packed address) answers a packet.

    mtu     of the next link, in bytes; told when the packet is too big for it (RFC 1191, RFC 8201)
    labels  MPLS labels, outermost first, that the packet came with; told when it expired
    """
    is_v4 = packet[0] >> 4 == 4
    extended = reason == "expired" and bool(labels)
    if extended:
        quote = packet[:_QUOTE_EXTENDED].ljust(_QUOTE_EXTENDED, b"\0")
        extension = _extension(labels)
    else:
        quote, extension = packet[: _QUOTE_4 if is_v4 else _QUOTE_6], b""
    if is_v4:
        type_, code = _TYPE_4[reason]
        head = struct.pack("!BBHBBH", type_, code, 0, 0, len(quote) // 4 if extended else 0, mtu)
        return _sent_4(router, packet[12:16], head + quote + extension, _CONTROL)
    type_, code = _TYPE_6[reason]
    head = struct.pack("!BBHI", type_, code, 0, (len(quote) // 8) << 24 if extended else mtu)
    return _sent_6(router, packet[8:24], head + quote + extension, _CONTROL)


def _extension(labels: tuple[int, ...]) -> bytes:
    # The TTL of a label is that of the packet when it expired.
    stack = b"".join(struct.pack("!I", label << 12 | (n == len(labels)) << 8 | 1) for n, label in enumerate(labels, start=1))
    structure = bytearray(struct.pack("!BBHHBB", 0x20, 0, 0, 4 + len(stack), 1, 1) + stack)
    struct.pack_into("!H", structure, 2, checksum(structure))
    return bytes(structure)


def echo_reply(packet: bytes) -> bytes | None:
    """The packet with which a router answers a ping of its own address; None when it is no whole echo request."""
    if packet[0] >> 4 == 4:
        at = (packet[0] & 15) * 4
        whole = int.from_bytes(packet[6:8], "big") & 0x3FFF == 0
        if packet[9] != ipv4.ICMP or not whole or len(packet) < at + 8 or packet[at] != _ECHO_4 or checksum(packet[at:]):
            return None
        return _sent_4(packet[16:20], packet[12:16], bytes((_ECHO_REPLY_4, 0, 0, 0)) + packet[at + 4 :])
    src, dst = packet[8:24], packet[24:40]
    if packet[6] != ipv6.ICMP or len(packet) < 48 or packet[40] != _ECHO_6:
        return None
    if checksum(ipv6.pseudo_header(src, dst, ipv6.ICMP, len(packet) - 40) + packet[40:]):
        return None
    return _sent_6(dst, src, bytes((_ECHO_REPLY_6, 0, 0, 0)) + packet[44:])


def _sent_4(src: bytes, dst: bytes, message: bytes, tos: int = 0) -> bytes:
    body = bytearray(message)
    struct.pack_into("!H", body, 2, checksum(body))
    return ipv4.header(src, dst, ipv4.ICMP, len(body), tos) + body


def _sent_6(src: bytes, dst: bytes, message: bytes, traffic_class: int = 0) -> bytes:
    body = bytearray(message)
    struct.pack_into("!H", body, 2, checksum(ipv6.pseudo_header(src, dst, ipv6.ICMP, len(body)) + body))
    return ipv6.header(src, dst, ipv6.ICMP, len(body), traffic_class) + body
