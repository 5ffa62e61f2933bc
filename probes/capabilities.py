"""What this machine lets this user measure, found out with real packets on loopback; `isochrone doctor` prints it.

An option that can be set says nothing about stamps that arrive, so every check sends a packet and looks at what comes.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from probes.ping.icmp_socket import IcmpSocket
from probes.ping.opening import GRANT_ICMP, Mode, open_udp
from records.errors import NotPermitted

__all__ = ["Capability", "inspect"]

T_co = TypeVar("T_co", covariant=True)

_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_WAIT_S = 0.5
_GROUP_RANGE = Path("/proc/sys/net/ipv4/ping_group_range")
_GRANT_PING_SOCKET = (
    "`sysctl -w net.ipv4.ping_group_range='0 2147483647'`, and the same line in /etc/sysctl.d/ to keep it; needs no capability"
)
_GRANT_RAW = "CAP_NET_RAW: `AmbientCapabilities=CAP_NET_RAW` in the systemd unit, or `setcap cap_net_raw+ep` on the interpreter"
_GRANT_LINUX = "Linux 5.1 or later (without it every RTT is timed in user space and marked so)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One thing the agent can use.

    name     what it is, such as ``ping socket IPv4``
    works    a real packet went out and came back as it should
    detail   what was seen
    grant    how to get it; None where it works or where nothing can be granted
    """

    name: str
    works: bool
    detail: str
    grant: str | None = None


def inspect() -> tuple[Capability, ...]:
    """Try everything once; takes well under a second, and at most some seconds where packets vanish. Never raises."""
    found = [_icmp(version, mode) for mode in ("dgram", "raw") for version in (4, 6)]
    return (*found, _summary(found), *(_stamps(version) for version in (4, 6)), *(_error_queue(version) for version in (4, 6)))


def _icmp(version: int, mode: Mode) -> Capability:
    name = f"{'ping socket' if mode == 'dgram' else 'raw ICMP'} IPv{version}"
    try:
        with contextlib.closing(IcmpSocket(version, 1 + secrets.randbelow(0xFFFF), mode)) as one:
            token = secrets.randbits(64)
            one.send(1, token, _LOOPBACK[version], 56)
            reply = next((answer for answer in _until_deadline(one) if answer.token == token and answer.error is None), None)
    except NotPermitted:
        if mode == "dgram":
            return Capability(name=name, works=False, detail=f"refused; {_group_range()}", grant=_GRANT_PING_SOCKET)
        return Capability(name=name, works=False, detail="refused", grant=_GRANT_RAW)
    except OSError as missing:
        return Capability(name=name, works=False, detail=f"no {_LOOPBACK[version]} here ({missing.strerror or missing})")
    if reply is None:
        return Capability(name=name, works=False, detail=f"opened, but no echo from {_LOOPBACK[version]} within {_WAIT_S} s; a firewall?")
    return Capability(name=name, works=True, detail=f"{_LOOPBACK[version]} answered")


def _summary(icmp: list[Capability]) -> Capability:
    """Whether ping and traceroute run at all: one of the four is enough for its address family."""
    working = [one.name for one in icmp if one.works]
    if working:
        return Capability(name="ping and traceroute", works=True, detail=f"by {working[0]}")
    return Capability(name="ping and traceroute", works=False, detail="no ICMP socket may be opened", grant=GRANT_ICMP)


def _stamps(version: int) -> Capability:
    """A UDP datagram to ourselves: it must have a transmit stamp, and a receive stamp not before that."""
    name = f"kernel timestamps IPv{version}"
    try:
        with contextlib.closing(open_udp(version, _LOOPBACK[version])) as one:
            port = one.sock.getsockname()[1]
            sent = one.send(b"isochrone", _LOOPBACK[version], port)
            came = next((incoming for incoming in _until_deadline(one) if not incoming.is_queued_error), None)
    except OSError as missing:
        return Capability(name=name, works=False, detail=f"no {_LOOPBACK[version]} here ({missing.strerror or missing})")
    received_ns = None if came is None else came.beside.stamp_ns
    if sent.kernel_ns is None or received_ns is None:
        lacking = "transmit" if received_ns is not None else "receive" if sent.kernel_ns is not None else "transmit and receive"
        return Capability(name=name, works=False, detail=f"the {lacking} stamp did not come", grant=_GRANT_LINUX)
    if received_ns < sent.kernel_ns:
        return Capability(name=name, works=False, detail=f"received {sent.kernel_ns - received_ns} ns before it was sent")
    return Capability(name=name, works=True, detail=f"transmit and receive, {received_ns - sent.kernel_ns} ns apart on loopback")


def _error_queue(version: int) -> Capability:
    """A UDP datagram to a closed port: the port unreachable must come back on the error queue."""
    name = f"error queue IPv{version}"
    try:
        with contextlib.closing(open_udp(version, _LOOPBACK[version])) as closed:
            port = closed.sock.getsockname()[1]
        with contextlib.closing(open_udp(version)) as one:
            one.queue_errors()
            one.send(b"isochrone", _LOOPBACK[version], port)
            came = next((incoming for incoming in _until_deadline(one) if incoming.is_queued_error), None)
    except OSError as missing:
        return Capability(name=name, works=False, detail=f"not here ({missing.strerror or missing})")
    if came is None:
        return Capability(name=name, works=False, detail="an ICMP error did not come back; a firewall?")
    return Capability(name=name, works=True, detail="ICMP errors arrive with their quote: traceroute needs no privilege for UDP")


class _Readable(Protocol[T_co]):
    def fileno(self) -> int: ...

    def read(self) -> Iterable[T_co]: ...


def _until_deadline(one: _Readable[T_co]) -> Iterator[T_co]:
    """Whatever comes in until _WAIT_S has passed."""
    deadline_s = time.monotonic() + _WAIT_S
    while (left_s := deadline_s - time.monotonic()) > 0:
        yield from one.read()
        select.select([one.fileno()], [], [one.fileno()], left_s)


def _group_range() -> str:
    try:
        return f"net.ipv4.ping_group_range is '{' '.join(_GROUP_RANGE.read_text(encoding='ascii').split())}'"
    except OSError:
        return "net.ipv4.ping_group_range cannot be read"
