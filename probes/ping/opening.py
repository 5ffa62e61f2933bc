"""Opens the sockets of ping and traceroute: ICMP, as an ordinary user or with a capability, and UDP."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import Literal

from probes.ping import ancillary as linux
from probes.ping.filters import Instruction, echo_filter_v4, echo_filter_v6
from probes.ping.sockets import StampedSocket
from records.errors import NotPermitted

__all__ = ["GRANT_ICMP", "Mode", "attach_filter", "open_icmp", "open_udp"]

#: dgram: the kernel's ping socket, for ordinary users; raw: needs CAP_NET_RAW.
Mode = Literal["dgram", "raw"]

GRANT_ICMP = (
    "allow ping sockets with `sysctl -w net.ipv4.ping_group_range='0 2147483647'` (ordinary users, no capability), "
    "or give the process CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW; or `setcap cap_net_raw+ep` on its interpreter)"
)

#: An ICMP message with the longest quote (RFC 4443: 1,280 octets with its own headers) and an IPv4 header with options.
_ICMP_BYTES = 1_360


def _constant_flow(sock: socket.socket) -> None:
    """Keep the kernel from choosing flow labels: routers hash them."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(linux.SOL_IPV6, linux.IPV6_AUTOFLOWLABEL, 0)


def open_udp(version: int, host: str | None = None, port: int = 0) -> StampedSocket:
    """A UDP socket; bound when `host` is given, and a port in use is an OSError."""
    sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _constant_flow(sock)
        if host is not None:
            sock.bind((host, port))
        return StampedSocket(sock)
    except BaseException:
        sock.close()
        raise


def open_icmp(version: int, identifier: int, mode: Mode | None = None) -> tuple[StampedSocket, Mode, int]:
    """An ICMP socket for echo requests: (socket, mode, the identifier its packets bear).

    identifier   what a raw socket's packets bear; of a ping socket the kernel chooses it
    mode         None: a ping socket where the group range allows, raw otherwise

    Raises NotPermitted, saying what to grant; OSError where the machine has no such address family.
    """
    for candidate in ("dgram", "raw") if mode is None else (mode,):
        try:
            if candidate == "dgram":
                stamped, number = _open_dgram(version)
                return stamped, "dgram", number
            return _open_raw(version, identifier), "raw", identifier
        except PermissionError as denied:
            refused = denied
    raise NotPermitted(f"this user may open no ICMP socket for IPv{version} ({refused.strerror}); {GRANT_ICMP}") from refused


def _open_dgram(version: int) -> tuple[StampedSocket, int]:
    family, protocol, anywhere = (
        (socket.AF_INET, socket.IPPROTO_ICMP, "0.0.0.0") if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6, "::")  # noqa: S104
    )
    sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
    try:
        _constant_flow(sock)
        sock.bind((anywhere, 0))
        stamped = StampedSocket(sock, _ICMP_BYTES)
        stamped.queue_errors()
        return stamped, int(sock.getsockname()[1])
    except BaseException:
        sock.close()
        raise


def _open_raw(version: int, identifier: int) -> StampedSocket:
    family, protocol = (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    sock = socket.socket(family, socket.SOCK_RAW, protocol)
    try:
        _constant_flow(sock)
        attach_filter(sock, echo_filter_v4(identifier) if version == 4 else echo_filter_v6(identifier))
        return StampedSocket(sock, _ICMP_BYTES)
    except BaseException:
        sock.close()
        raise


def attach_filter(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Let only the packets through that the program takes; needs no privilege."""
    code = b"".join(struct.pack("@HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(socket.SOL_SOCKET, linux.SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(memory)))
