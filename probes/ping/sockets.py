"""The only I/O of ping and traceroute: a non-blocking socket that sends and receives with the kernel's timestamps.

Nothing here knows of rounds, time-outs or probes; `opening` makes the sockets.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from probes.ping import ancillary as linux
from probes.ping.addresses import scoped_address
from probes.ping.clock import clocks
from probes.ping.drops import Drops
from probes.ping.mmsg import Inbox, Incoming
from probes.ping.stamps import StampQueue, await_stamping
from probes.ping.timing import Reading, Sent

__all__ = ["Batch", "Incoming", "StampedSocket", "clocks"]

Sieve = Callable[[Iterable[tuple[Any, ...]]], list[tuple[Any, ...]] | None]

#: What a stalled loop may let pile up: at 700 octets a small packet costs, some 10,000 packets and stamps.
_RECEIVE_BUFFER_BYTES = 4 << 20
_PACKET_BYTES = 9_216
#: A pending ICMP error about an earlier packet fails the next send; so often do we take it as that.
_SEND_TRIES = 3
#: The most that one `read` takes: a flood must not keep the loop from everything else.
READ_AT_MOST = 2_048
_PENDING_TRIES = 16
_SO_RCVBUFFORCE = 33


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
        self._unread: list[Incoming] = []
        self._inbox = Inbox(sock, packet_bytes)
        #: Many messages are read by one system call.
        self.is_batched = self._inbox.is_batched
        self._queues_errors = False
        #: The last `read` left nothing behind.
        self.is_drained = True
        self.drops = Drops(sock)
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        except OSError:  # needs CAP_NET_ADMIN; without it net.core.rmem_max is the most
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        if self.version == 4:
            sock.setsockopt(linux.SOL_IP, linux.IP_RECVTTL, 1)
        else:
            sock.setsockopt(linux.SOL_IPV6, linux.IPV6_RECVHOPLIMIT, 1)
        self._queue = StampQueue(sock, self._inbox, 2 * READ_AT_MOST)
        if self.has_stamps:
            await_stamping()

    @property
    def has_stamps(self) -> bool:
        """The kernel stamps what is sent."""
        return self._queue.has_stamps

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

    def send(
        self, packet: bytes, host: str, port: int = 0, ttl: int | None = None, turn: Reading | None = None, sent: Sent | None = None
    ) -> Sent:
        """Hand one packet to the kernel.

        turn   the clocks a moment ago, as the loop's turn began: saves reading the wall clock for every packet
        sent   where to note it, once it has left; None makes a new one

        The kernel's transmit stamp is filled into the result by a later `read`, usually the next one. Raises
        BlockingIOError when the kernel has no room now, OSError when it refuses the packet for good.
        """
        beside: Sequence[tuple[int, int, bytes]] = () if ttl is None else linux.send_ttl(self.version, ttl)
        address = (host, port) if "%" not in host else scoped_address(host, port)
        for attempt in range(_SEND_TRIES):
            before = clocks() if turn is None else turn.later(time.monotonic_ns())
            try:
                if beside:
                    self.sock.sendmsg((packet,), beside, 0, address)
                else:
                    self.sock.sendto(packet, address)
            except OSError as refused:
                # Older kernels number failed sends too: start the numbering anew, so that no stamp is misattributed.
                self._restart_stamps()
                if refused.errno in {errno.EAGAIN, errno.ENOBUFS}:
                    raise BlockingIOError(refused.errno, refused.strerror) from refused
                if attempt + 1 == _SEND_TRIES:
                    raise
            else:
                break
        if sent is None:
            sent = Sent(before)
        self.sent_together(before, (sent,), is_all=True)
        return sent

    def sent_together(self, before: Reading, sent: Sequence[Sent], *, is_all: bool) -> None:
        """Note that the kernel has just taken these packets, in this order, by a call of the caller's own on this socket.

        before   the clocks just before that call
        is_all   it refused none that came after them
        """
        for one in sent:
            one.before = before
        self._queue.expect(sent)
        if not is_all:  # as in `send`
            self._restart_stamps()

    def _restart_stamps(self) -> None:
        self._unread += self._queue.read()
        self._queue.restart()

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
        return [*unread, *self._queue.read(), *packets]

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
        return [*unread, *self._queue.read(), *others], batches

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
        self.drops.note_read(total)
