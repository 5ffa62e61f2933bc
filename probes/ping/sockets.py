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
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from probes.ping import ancillary as linux
from probes.ping.clock import clocks
from probes.ping.filters import Instruction, echo_filter_v4, echo_filter_v6
from probes.ping.mmsg import Inbox, Incoming, scoped
from probes.ping.timing import Reading, Sent
from records.errors import NotPermitted

__all__ = ["GRANT_ICMP", "Batch", "Incoming", "Mode", "StampedSocket", "attach_filter", "clocks", "open_icmp", "open_udp", "resolve"]

Sieve = Callable[[Iterable[tuple[Any, ...]]], list[tuple[Any, ...]] | None]
#: dgram: the kernel's ping socket, for ordinary users; raw: needs CAP_NET_RAW.
Mode = Literal["dgram", "raw"]

GRANT_ICMP = (
    "allow ping sockets with `sysctl -w net.ipv4.ping_group_range='0 2147483647'` (ordinary users, no capability), "
    "or give the process CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW; or `setcap cap_net_raw+ep` on its interpreter)"
)

#: What a stalled loop may let pile up: at 700 octets a small packet costs, some 10,000 packets and stamps.
_RECEIVE_BUFFER_BYTES = 4 << 20
_PACKET_BYTES = 9_216
#: An ICMP message with the longest quote (RFC 4443: 1,280 octets with its own headers) and an IPv4 header with options.
_ICMP_BYTES = 1_360
#: A pending ICMP error about an earlier packet fails the next send; so often do we take it as that.
_SEND_TRIES = 3
_UNSTAMPED_KEPT = 65_536
_STAMPING_TRIES = 100
#: The most that one `read` takes: a flood must not keep the loop from everything else.
READ_AT_MOST = 2_048
_PENDING_TRIES = 16
#: So many at once, and some may have been dropped: of a receive buffer of the kernel's default size that is half.
_BACKLOG = 128
#: And otherwise so often.
_DROPS_ASKED_NS = 100_000_000
_SO_RCVBUFFORCE, _SO_MEMINFO = 33, 55
#: Of SO_MEMINFO's nine words (linux/sock_diag.h), the one that counts packets dropped for want of room.
_MEMINFO = struct.Struct("@9I")
_MEMINFO_DROPS = 8


class Batch(NamedTuple):
    """What a sieve made of many packets, and the clocks when the program had them."""

    picked_up: Reading
    values: list[tuple[Any, ...]]


class StampedSocket:
    """A non-blocking socket whose sends and receipts carry kernel timestamps where the kernel gives them.

    packet_bytes   the most that is kept of a packet that comes in
    """

    def __init__(self, sock: socket.socket, packet_bytes: int = _PACKET_BYTES) -> None:
        self.sock = sock
        self.version = 4 if sock.family == socket.AF_INET else 6
        self._unstamped: dict[int, Sent] = {}
        self._unread: list[Incoming] = []
        self._next_number = 0
        self._inbox = Inbox(sock, packet_bytes)
        #: Many messages are read by one system call.
        self.is_batched = self._inbox.is_batched
        if self.is_batched:
            self._stamp_layout = self._inbox.slot_layout("", linux.STAMP_AND_NUMBER_FORMAT, "")
        self._queues_errors = False
        self.has_stamps = True
        #: The last `read` left nothing behind.
        self.is_drained = True
        #: Monotonic time at which `note_drops` found that the kernel had dropped packets since it asked before; 0: never.
        self.overflow_ns = 0
        self._drops = 0
        self._drops_asked_ns = 0
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        except OSError:  # needs CAP_NET_ADMIN; without it net.core.rmem_max is the most
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
        self._queues_errors = True
        for level, option, needed in options:
            try:
                self.sock.setsockopt(level, option, 1)
            except OSError:  # RFC 4884 came with Linux 5.9; without it hops lack their MPLS labels
                if needed:
                    raise

    def send(self, packet: bytes, host: str, port: int = 0, ttl: int | None = None, turn: Reading | None = None) -> Sent:
        """Hand one packet to the kernel.

        turn   the clocks a moment ago, as the loop's turn began: saves reading the wall clock for every packet

        The kernel's transmit stamp is filled into the result by a later `read`, usually the next one. Raises
        BlockingIOError when the kernel has no room now, OSError when it refuses the packet for good.
        """
        beside: Sequence[tuple[int, int, bytes]] = () if ttl is None else linux.send_ttl(self.version, ttl)
        address = (host, port) if "%" not in host else _scoped_address(host, port)
        for attempt in range(_SEND_TRIES):
            sent = Sent(clocks() if turn is None else turn.later(time.monotonic_ns()))
            try:
                if beside:
                    self.sock.sendmsg((packet,), beside, 0, address)
                else:
                    self.sock.sendto(packet, address)
            except OSError as refused:
                # Older kernels number failed sends too: start the numbering anew, so that no stamp is misattributed.
                self._unread += self._read_queue()
                self._restart_stamps()
                if refused.errno in {errno.EAGAIN, errno.ENOBUFS}:
                    raise BlockingIOError(refused.errno, refused.strerror) from refused
                if attempt + 1 == _SEND_TRIES:
                    raise
            else:
                break
        self._await_stamps((sent,))
        return sent

    def sent_together(self, before: Reading, asked: int, taken: int) -> list[Sent]:
        """Note that of `asked` packets the kernel has just taken the first `taken`, by a call of the caller's own on this socket.

        before   the clocks just before that call
        """
        sent = [Sent(before) for _ in range(taken)]
        self._await_stamps(sent)
        if taken < asked:  # as in `send`
            self._unread += self._read_queue()
            self._restart_stamps()
        return sent

    def _await_stamps(self, sent: Sequence[Sent]) -> None:
        """These packets have left, in this order: their stamps come by the error queue."""
        if not self.has_stamps:
            return
        number, unstamped = self._next_number, self._unstamped
        for one in sent:
            unstamped[number] = one
            number = (number + 1) & 0xFFFFFFFF
        self._next_number = number
        while len(unstamped) > _UNSTAMPED_KEPT:
            del unstamped[next(iter(unstamped))]

    def read(self) -> list[Incoming]:
        """What is waiting, up to about READ_AT_MOST packets: ICMP errors of the error queue first, then packets.

        The packets are taken before the queue is: the transmit stamp of whatever they answer is there by then.
        """
        packets: list[Incoming] = []

        def take() -> int:
            came = self._inbox.read(READ_AT_MOST)
            packets.extend(came)
            return len(came)

        self._drain(take)
        unread, self._unread = self._unread, []
        return [*unread, *self._read_queue(), *packets]

    def read_many(self, layout: struct.Struct, least_bytes: tuple[int, int], sieve: Sieve) -> tuple[list[Incoming], list[Batch]]:
        """The same where nearly all packets are of one shape: everything else as `read` gives it, and these as `sieve` made of them.

        layout, least_bytes   by `slot_layout`, and of control messages and data; see Inbox.rows
        sieve                 makes values of the rows of a batch; None where one of them is not as usual
        """
        if not self._inbox.is_batched:
            return self.read(), []
        batches: list[Batch] = []
        others: list[Incoming] = []

        def take() -> int:
            came = 0
            for count, picked_up in self._inbox.batches(READ_AT_MOST, 0):
                came += count
                rows = self._inbox.rows(layout, *least_bytes)
                values = None if rows is None else sieve(rows)
                if values is not None:
                    batches.append(Batch(picked_up, values))
                else:
                    read = (self._inbox.incoming(slot, picked_up, False, None) for slot in range(count))
                    others.extend(one for one in read if one is not None)
            return came

        self._drain(take)
        unread, self._unread = self._unread, []
        return [*unread, *self._read_queue(), *others], batches

    def host(self, name: bytes) -> str:
        """See Inbox."""
        return self._inbox.host(name)

    def slot_layout(self, name: str, control: str, data: str) -> struct.Struct:
        """See Inbox."""
        return self._inbox.slot_layout(name, control, data)

    def _drain(self, take: Callable[[], int]) -> None:
        """Read packets until none is left or READ_AT_MOST have come, whatever errors are pending."""
        total = came = 0
        self.is_drained = False
        for _ in range(_PENDING_TRIES):
            try:
                came = take()
                total += came
            except OSError:  # an ICMP error shown as the socket's error; its details are on the error queue
                continue
            self.is_drained = came < READ_AT_MOST
            if not (came and self.is_drained and self._queues_errors):  # an error ends a read early: there may be more behind it
                break
        if total >= _BACKLOG or (total and time.monotonic_ns() > self._drops_asked_ns + _DROPS_ASKED_NS):
            self.note_drops()

    def note_drops(self) -> None:
        """Ask the kernel whether it has dropped packets here since it was asked last."""
        drops, self._drops_asked_ns = self.dropped(), time.monotonic_ns()
        if drops != self._drops:
            self._drops, self.overflow_ns = drops, self._drops_asked_ns

    def dropped(self) -> int:
        """How many packets the kernel has dropped here for want of room; 0 where it does not say."""
        try:
            return int(_MEMINFO.unpack(self.sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[_MEMINFO_DROPS])
        except (OSError, struct.error):
            return 0

    def _read_queue(self) -> list[Incoming]:
        """Drain the error queue: transmit stamps go to their `Sent`, ICMP errors are returned."""
        inbox = self._inbox
        if not inbox.is_batched:
            with contextlib.suppress(OSError):
                return [one for one in inbox.read_queue(2 * READ_AT_MOST, self._stamp) if one.beside.icmp_type is not None]
            return []
        errors: list[Incoming] = []
        layout, head, usual = self._stamp_layout, linux.STAMP_HEAD, linux.SENT_STAMP[self.version]
        pop = self._unstamped.pop
        with contextlib.suppress(OSError):
            for count, picked_up in inbox.batches(2 * READ_AT_MOST, socket.MSG_ERRQUEUE):
                rows = inbox.rows(layout, linux.STAMP_AND_NUMBER_BYTES)
                if rows is None:
                    errors += self._queued(range(count), picked_up)
                    continue
                for slot, (first, seconds, nanoseconds, second, number) in enumerate(rows):
                    if first != head or second != usual:
                        errors += self._queued((slot,), picked_up)
                        continue
                    sent = pop(number, None)
                    if sent is not None:
                        stamp_ns = seconds * 1_000_000_000 + nanoseconds
                        before = sent.before
                        if stamp_ns >= before.real_ns - before.apart_ns:
                            sent.kernel_ns = stamp_ns
                        else:  # see _stamp
                            self._unstamped[number] = sent
        return errors

    def _queued(self, slots: Iterable[int], picked_up: Reading) -> list[Incoming]:
        """ICMP errors among these messages of the queue; stamps go where they belong."""
        found = (self._inbox.incoming(slot, picked_up, True, self._stamp) for slot in slots)
        return [one for one in found if one is not None and one.beside.icmp_type is not None]

    def _stamp(self, number: int, stamp_ns: int) -> None:
        sent = self._unstamped.pop(number, None)
        if sent is None:
            return
        # A stamp from before the numbering began anew is older than the packet that bears its number now.
        if stamp_ns >= sent.before.real_ns - sent.before.apart_ns:
            sent.kernel_ns = stamp_ns
        else:
            self._unstamped[number] = sent

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
            messages = own.recvmsg(1, 256)[1]
            if linux.read_ancillary(messages).stamp_ns is not None:
                return
            time.sleep(0.001)


def _scoped_address(host: str, port: int) -> tuple[str, int, int, int]:
    """A link-local address for a socket call, its interface as a number. Raises OSError when there is no such interface."""
    bare, _, interface = host.partition("%")
    return bare, port, 0, int(interface) if interface.isdecimal() else socket.if_nametoindex(interface)


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


async def resolve(address: str) -> tuple[int, str]:
    """(IP version, numeric address) of an address or host name; the resolver's own order of preference.

    Raises socket.gaierror when there is no such host.
    """
    if not address.count(":"):
        with contextlib.suppress(OSError, ValueError):
            return 4, socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, address))
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        try:
            found = await asyncio.get_running_loop().getaddrinfo(address, None, type=socket.SOCK_DGRAM)
        except UnicodeError as malformed:  # an empty or overlong label; Python's IDNA codec refuses it before the resolver
            raise socket.gaierror(socket.EAI_NONAME, f"{address!r} is no host name") from malformed
    family, *_, sockaddr = found[0]
    if family == socket.AF_INET6 and len(sockaddr) == 4 and sockaddr[3]:
        return 6, scoped(str(sockaddr[0]), int(sockaddr[3]))
    return (4 if family == socket.AF_INET else 6), str(sockaddr[0])
