"""The only I/O of ping and traceroute: non-blocking sockets that send and receive with the kernel's timestamps.

`StampedSocket` is any datagram or raw socket with SO_TIMESTAMPING; `open_icmp` and `open_udp` make one. Nothing
here knows of rounds, time-outs or probes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from probes.ping import ancillary as linux
from probes.ping.filters import Instruction, echo_filter_v4, echo_filter_v6
from probes.ping.timing import Reading, Sent
from records.errors import NotPermitted

__all__ = ["GRANT_ICMP", "Incoming", "Mode", "StampedSocket", "attach_filter", "clocks", "open_icmp", "open_udp", "resolve"]

#: dgram: the kernel's ping socket, for ordinary users; raw: needs CAP_NET_RAW.
Mode = Literal["dgram", "raw"]

GRANT_ICMP = (
    "allow ping sockets with `sysctl -w net.ipv4.ping_group_range='0 2147483647'` (ordinary users, no capability), "
    "or give the process CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW; or `setcap cap_net_raw+ep` on its interpreter)"
)

_RECEIVE_BUFFER_BYTES = 4 << 20
_PACKET_BYTES = 9_216
_ANCILLARY_BYTES = 256
#: How often the two clocks are read before a pair torn apart by the scheduler is accepted.
_CLOCK_TRIES = 4
_CLOCK_APART_NS = 20_000
#: A pending ICMP error about an earlier packet fails the next send; so often do we take it as that.
_SEND_TRIES = 3
_UNSTAMPED_KEPT = 65_536
_STAMPING_TRIES = 100


def clocks() -> Reading:
    """Monotonic and wall clock, read within _CLOCK_APART_NS of each other unless the machine is badly overloaded."""
    for _ in range(_CLOCK_TRIES):
        mono_ns = time.monotonic_ns()
        real_ns = time.time_ns()
        if time.monotonic_ns() - mono_ns < _CLOCK_APART_NS:
            break
    return Reading(mono_ns, real_ns)


@dataclass(slots=True)
class Incoming:
    """One thing read from a socket.

    data     the packet; or, for an error of the error queue, the quoted packet from its transport header on
    host, port   the packet's source; for a queued error, where the quoted packet was going
    beside   stamp, TTL and, for a queued error, the ICMP type and who sent it
    is_queued_error   came from the error queue
    """

    data: bytes
    host: str
    port: int
    beside: linux.Ancillary
    is_queued_error: bool


class StampedSocket:
    """A non-blocking socket whose sends and receipts carry kernel timestamps where the kernel gives them."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.version = 4 if sock.family == socket.AF_INET else 6
        self._unstamped: dict[int, Sent] = {}
        self._unread: list[Incoming] = []
        self._next_number = 0
        self.has_stamps = True
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        if self.version == 4:
            sock.setsockopt(linux.SOL_IP, linux.IP_RECVTTL, 1)
        else:
            sock.setsockopt(linux.SOL_IPV6, linux.IPV6_RECVHOPLIMIT, 1)
        self._restart_stamps()
        if self.has_stamps:
            _await_stamping()

    def fileno(self) -> int:
        """For the event loop."""
        return self.sock.fileno()

    def close(self) -> None:
        """Close the socket; stamps not read yet are lost."""
        self.sock.close()

    def queue_errors(self) -> None:
        """Have ICMP errors about our packets put on the error queue, with their quote and RFC 4884 extensions."""
        if self.version == 4:
            options = ((linux.SOL_IP, linux.IP_RECVERR, True), (linux.SOL_IP, linux.IP_RECVERR_RFC4884, False))
        else:
            options = ((linux.SOL_IPV6, linux.IPV6_RECVERR, True), (linux.SOL_IPV6, linux.IPV6_RECVERR_RFC4884, False))
        for level, option, needed in options:
            try:
                self.sock.setsockopt(level, option, 1)
            except OSError:  # RFC 4884 came with Linux 5.9; without it hops lack their MPLS labels
                if needed:
                    raise

    def send(self, packet: bytes, host: str, port: int = 0, ttl: int | None = None) -> Sent:
        """Hand one packet to the kernel.

        The kernel's transmit stamp is filled into the result by a later `read`, usually the next one. Raises
        BlockingIOError when the kernel has no room now, OSError when it refuses the packet for good.
        """
        beside: Sequence[tuple[int, int, bytes]] = () if ttl is None else linux.send_ttl(self.version, ttl)
        address = (host, port)
        for attempt in range(_SEND_TRIES):
            sent = Sent(clocks())
            try:
                if beside:
                    self.sock.sendmsg((packet,), beside, 0, address)
                else:
                    self.sock.sendto(packet, address)
            except OSError as refused:
                # Older kernels number failed sends too: start the numbering anew, so that no stamp is misattributed.
                self._unread.extend(self._read_queue())
                self._restart_stamps()
                if refused.errno in {errno.EAGAIN, errno.ENOBUFS}:
                    raise BlockingIOError(refused.errno, refused.strerror) from refused
                if attempt + 1 == _SEND_TRIES:
                    raise
            else:
                if self.has_stamps:
                    self._unstamped[self._next_number] = sent
                    self._next_number = (self._next_number + 1) & 0xFFFFFFFF
                    if len(self._unstamped) > _UNSTAMPED_KEPT:
                        del self._unstamped[next(iter(self._unstamped))]
                return sent
        raise AssertionError("the last try returns or raises")

    def read(self) -> Iterator[Incoming]:
        """Everything that is waiting: first the error queue (stamps and ICMP errors), then packets."""
        unread, self._unread = self._unread, []
        yield from unread
        yield from self._read_queue()
        receive = self.sock.recvmsg
        while True:
            try:
                data, messages, _, address = receive(_PACKET_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error shown as the socket's error; its details are on the error queue
                yield from self._read_queue()
                continue
            if self._unstamped:  # the packet this one answers may have left after the queue was read
                yield from self._read_queue()
            beside = linux.read_ancillary(messages)
            yield Incoming(data, address[0], address[1], beside, is_queued_error=False)

    def _read_queue(self) -> Iterator[Incoming]:
        """Drain the error queue: transmit stamps go to their `Sent`, ICMP errors are yielded."""
        receive = self.sock.recvmsg
        while True:
            try:
                data, messages, _, address = receive(_PACKET_BYTES, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
            except BlockingIOError:
                return
            beside = linux.read_ancillary(messages)
            if beside.tx_number is not None:
                self._stamp(beside.tx_number, beside.stamp_ns)
            elif beside.icmp_type is not None and address:
                yield Incoming(data, address[0], address[1], beside, is_queued_error=True)

    def _stamp(self, number: int, stamp_ns: int | None) -> None:
        sent = self._unstamped.get(number)
        # A stamp from before the numbering began anew is older than the packet that bears its number now.
        if sent is not None and stamp_ns is not None and stamp_ns >= sent.before.real_ns:
            sent.kernel_ns = stamp_ns
            del self._unstamped[number]

    def _restart_stamps(self) -> None:
        """Switch the numbering off and on again: the kernel's count of sent packets starts from zero."""
        self._unstamped.clear()
        self._next_number = 0
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, linux.SO_TIMESTAMPING, linux.STAMPING_FLAGS & ~linux.STAMPING_OPT_ID)
            self.sock.setsockopt(socket.SOL_SOCKET, linux.SO_TIMESTAMPING, linux.STAMPING_FLAGS)
        except OSError:  # Linux before 5.1, or another system's emulation: the user clock remains
            self.has_stamps = False


def _await_stamping() -> None:
    """Wait until the kernel stamps what arrives.

    Linux switches receive stamps on for the whole machine, in the background, when the first socket asks for them
    (net_enable_timestamp); packets that come before bear none. So send ourselves datagrams on loopback until one does,
    for at most _STAMPING_TRIES ms; without a loopback there is nothing to wait by.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.settimeout(0.1)
        own.bind(("127.0.0.1", 0))
        own.setsockopt(socket.SOL_SOCKET, linux.SO_TIMESTAMPING, linux.STAMPING_FLAGS & ~linux.STAMPING_OPT_ID)
        for _ in range(_STAMPING_TRIES):
            own.sendto(b"", own.getsockname())
            messages = own.recvmsg(1, _ANCILLARY_BYTES)[1]
            if linux.read_ancillary(messages).stamp_ns is not None:
                return
            time.sleep(0.001)


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
        stamped = StampedSocket(sock)
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
        return StampedSocket(sock)
    except BaseException:
        sock.close()
        raise


def attach_filter(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Let only the packets through that the program takes; needs no privilege."""
    code = b"".join(struct.pack("@HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(socket.SOL_SOCKET, linux.SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(memory)))


async def resolve(address: str) -> tuple[int, str]:
    """(IP version, numeric address) of an address or host name; the resolver's own order of preference.

    Raises socket.gaierror when there is no such host.
    """
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        try:
            found = await asyncio.get_running_loop().getaddrinfo(address, None, type=socket.SOCK_DGRAM)
        except UnicodeError as malformed:  # an empty or overlong label; Python's IDNA codec refuses it before the resolver
            raise socket.gaierror(socket.EAI_NONAME, f"{address!r} is no host name") from malformed
    family, *_, sockaddr = found[0]
    return (4 if family == socket.AF_INET else 6), str(sockaddr[0])
