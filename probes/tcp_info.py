"""What the kernel's TCP says of one connection (Linux, TCP_INFO): RTT, least RTT, retransmissions, delivery rate.

The RTT is taken from the connection's own acknowledgements, free of this process's scheduling; that splits a wait
into network and machine. `parse_tcp_info` is pure; the layout is `struct tcp_info` of Linux' include/uapi/linux/tcp.h,
which only ever grows at its end, so a field past the end of what an older kernel returns is None.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

__all__ = ["BbrInfo", "TcpInfo", "available_congestion_controls", "parse_bbr_info", "parse_tcp_info", "read_bbr_info", "read_tcp_info"]

_U32, _U64 = struct.Struct("=I"), struct.Struct("=Q")
_OFFSET_SEND_MSS = 16
_OFFSET_APP_LIMITED = 7
_OFFSET_UNACKED = 24
_OFFSET_RTT_US = 68
_OFFSET_RTTVAR_US = 72
_OFFSET_TOTAL_RETRANS = 100
_OFFSET_BYTES_ACKED = 120
_OFFSET_MIN_RTT_US = 148
_OFFSET_DATA_SEGMENTS_IN = 152
_OFFSET_DELIVERY_RATE = 160
_SIZE = 256
#: struct tcp_bbr_info of include/uapi/linux/inet_diag.h: bandwidth (low and high word, bytes a second), least RTT (us), gains in 1/256.
_BBR = struct.Struct("=IIIII")
_TCP_CC_INFO = 26
_NO_MIN_RTT = 0xFFFFFFFF  # the kernel's ~0U: no sample yet


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpInfo:
    """State of one TCP connection; None where the kernel has no value.

    rtt_ns, rtt_variation_ns   smoothed RTT and its mean deviation (RFC 6298), kept by the kernel in us
    min_rtt_ns                 least RTT of the last minutes
    retransmits                segments sent again since the connection began
    acked_bytes                payload the other end has acknowledged
    delivery_rate_bps          newest rate at which data was delivered, bits per second
    is_app_limited             that rate was the program's doing, which had nothing to send, and not the path's
    unacked_segments           sent and not acknowledged yet
    mss_bytes                  largest segment that is sent
    data_segments_in           segments with data that were received since the connection began
    """

    rtt_ns: int | None = None
    rtt_variation_ns: int | None = None
    min_rtt_ns: int | None = None
    retransmits: int | None = None
    acked_bytes: int | None = None
    delivery_rate_bps: int | None = None
    unacked_segments: int | None = None
    mss_bytes: int | None = None
    data_segments_in: int | None = None
    is_app_limited: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BbrInfo:
    """What BBR thinks of the path: the greatest delivery rate of the last ten round trips (payload), the least RTT.

    is_starting  it still probes for the rate, sending 2.9 times what was delivered; a lower bound then
    """

    bandwidth_bps: int
    min_rtt_ns: int | None
    is_starting: bool


def parse_tcp_info(raw: bytes) -> TcpInfo:
    """The fields above from what getsockopt returned; never fails, short input has fewer fields.

    >>> parse_tcp_info(b"") == TcpInfo()
    True
    """

    def field(layout: struct.Struct, offset: int) -> int | None:
        if len(raw) < offset + layout.size:
            return None
        value: int = layout.unpack_from(raw, offset)[0]
        return value

    def time_ns(offset: int) -> int | None:
        value_us = field(_U32, offset)
        # An srtt of 0 and a min_rtt of ~0 are how the kernel says that there is no sample.
        return None if value_us is None or value_us in (0, _NO_MIN_RTT) else value_us * 1000

    rate = field(_U64, _OFFSET_DELIVERY_RATE)
    rtt_ns = time_ns(_OFFSET_RTT_US)
    return TcpInfo(
        rtt_ns=rtt_ns,
        rtt_variation_ns=None if rtt_ns is None else time_ns(_OFFSET_RTTVAR_US),
        min_rtt_ns=time_ns(_OFFSET_MIN_RTT_US),
        retransmits=field(_U32, _OFFSET_TOTAL_RETRANS),
        acked_bytes=field(_U64, _OFFSET_BYTES_ACKED),
        delivery_rate_bps=rate * 8 if rate else None,
        unacked_segments=field(_U32, _OFFSET_UNACKED),
        mss_bytes=field(_U32, _OFFSET_SEND_MSS),
        data_segments_in=field(_U32, _OFFSET_DATA_SEGMENTS_IN),
        is_app_limited=bool(raw[_OFFSET_APP_LIMITED] & 1) if len(raw) > _OFFSET_DELIVERY_RATE else None,
    )


def parse_bbr_info(raw: bytes) -> BbrInfo | None:
    """BBR's struct; None when it is shorter, or there is no rate yet."""
    if len(raw) < _BBR.size:
        return None
    low, high, least_us, pacing_gain, _ = _BBR.unpack_from(raw)
    rate = (high << 32 | low) * 8
    if not rate:
        return None
    # 739/256 while it starts; 88/256 while the queue of that drains; 192, 256 and 320 afterwards.
    return BbrInfo(bandwidth_bps=rate, min_rtt_ns=None if least_us in (0, _NO_MIN_RTT) else least_us * 1000, is_starting=pacing_gain > 512)


def read_bbr_info(sock: socket.socket) -> BbrInfo | None:
    """TCP_CC_INFO of a connection that runs BBR; None for another congestion control, or where the system does not say."""
    try:
        name = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")
        return parse_bbr_info(sock.getsockopt(socket.IPPROTO_TCP, _TCP_CC_INFO, 64)) if name == b"bbr" else None
    except (AttributeError, OSError):
        return None


def read_tcp_info(sock: socket.socket) -> TcpInfo:
    """TCP_INFO of a connected TCP socket; all None where the system has none or the socket is gone."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return TcpInfo()
    try:
        return parse_tcp_info(sock.getsockopt(socket.IPPROTO_TCP, option, _SIZE))
    except OSError:
        return TcpInfo()


def available_congestion_controls() -> frozenset[str]:
    """Congestion controls this process may choose (Linux); empty where the system does not say."""
    try:
        with open("/proc/sys/net/ipv4/tcp_allowed_congestion_control", encoding="ascii") as allowed:  # noqa: PTH123  read in one go
            names = allowed.read().split()
    except OSError:
        return frozenset()
    return frozenset(names)
