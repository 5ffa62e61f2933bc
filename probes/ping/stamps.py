"""The error queue of a socket: transmit stamps go to the packets they are of, ICMP errors to the caller.

The kernel numbers what a socket sends and gives each stamp with its number (SOF_TIMESTAMPING_OPT_ID). So this counts along.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Sequence

from probes.ping import ancillary as linux
from probes.ping.mmsg import Inbox, Incoming
from probes.ping.timing import Reading, Sent

__all__ = ["StampQueue", "await_stamping"]

_UNSTAMPED_KEPT = 65_536
#: The kernel counts so many packets before it begins again.
_NUMBERS = 1 << 32
_TRIES = 100


class StampQueue:
    """The error queue of one socket, which is read through its inbox.

    sock     it stays the caller's
    at_most  about so many messages are read at a time

    `has_stamps` says whether the kernel stamps what the socket sends.
    """

    def __init__(self, sock: socket.socket, inbox: Inbox, at_most: int) -> None:
        self._sock = sock
        self._inbox = inbox
        self._at_most = at_most
        if inbox.is_batched:
            self._layout = inbox.slot_layout("", linux.STAMP_AND_NUMBER_FORMAT, "")
        self._usual = linux.SENT_STAMP[4 if sock.family == socket.AF_INET else 6]
        self._unstamped: dict[int, Sent] = {}
        # The next packet that leaves, the next whose stamp is due, and the stamp of the one before that.
        self._next_number = self._next_stamped = self._last_ns = 0
        self.has_stamps = True
        self.restart()

    def restart(self) -> None:
        """Switch the numbering off and on again: the kernel's count of sent packets starts from zero."""
        self._unstamped.clear()
        self._next_number = self._next_stamped = self._last_ns = 0
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, linux.SO_TIMESTAMPING, linux.STAMPING_FLAGS & ~linux.STAMPING_OPT_ID)
            self._sock.setsockopt(socket.SOL_SOCKET, linux.SO_TIMESTAMPING, linux.STAMPING_FLAGS)
        except OSError:  # Linux before 5.1, or another system's emulation: the user clock remains
            self.has_stamps = False

    def expect(self, sent: Sequence[Sent]) -> None:
        """These packets have left, in this order."""
        if not self.has_stamps:
            return
        unstamped, numbers = self._unstamped, range(self._next_number, self._next_number + len(sent))
        unstamped.update(zip(numbers if numbers.stop <= _NUMBERS else (number % _NUMBERS for number in numbers), sent, strict=True))
        self._next_number = numbers.stop % _NUMBERS
        while len(unstamped) > _UNSTAMPED_KEPT:
            del unstamped[next(iter(unstamped))]

    def read(self) -> list[Incoming]:
        """Drain the queue: the ICMP errors in it."""
        inbox = self._inbox
        errors: list[Incoming] = []
        # A pending error of the socket ends a read; what the queue holds of it is read the next time.
        with contextlib.suppress(OSError):
            if not inbox.is_batched:
                errors += [one for one in inbox.read_queue(self._at_most, self._stamp) if one.beside.icmp_type is not None]
                return errors
            for count, picked_up in inbox.batches(self._at_most, socket.MSG_ERRQUEUE):
                rows = inbox.rows(self._layout, linux.STAMP_AND_NUMBER_BYTES)
                odd = range(count) if rows is None else self._stamp_all(rows)
                for slot in odd:
                    one = inbox.incoming(slot, picked_up, True, self._stamp)
                    if one is not None and one.beside.icmp_type is not None:
                        errors.append(one)
        return errors

    def _stamp_all(self, rows: Iterable[tuple[bytes, int, int, bytes, int]]) -> list[int]:
        """Stamp the packets that these messages are about; which of them are of another kind."""
        stamp_head, usual, pop = linux.STAMP_HEAD, self._usual, self._unstamped.pop
        odd: list[int] = []
        known: Reading | None = None
        least_ns, next_number, last_ns = 0, self._next_stamped, self._last_ns
        for slot, (head, seconds, nanoseconds, said, number) in enumerate(rows):
            if head != stamp_head or said != usual:
                odd.append(slot)
                continue
            stamp_ns = seconds * 1_000_000_000 + nanoseconds
            if number != next_number:
                self._skipped(next_number, number, last_ns)
            next_number, last_ns = number + 1, stamp_ns
            sent = pop(number, None)
            if sent is None:
                continue
            if sent.before is not known:  # packets that left together share it
                known = sent.before
                least_ns = known.real_ns - known.apart_ns
            if stamp_ns >= least_ns:
                sent.kernel_ns = stamp_ns
            else:  # see _stamp
                self._unstamped[number] = sent
        self._next_stamped, self._last_ns = next_number, last_ns
        return odd

    def _skipped(self, first: int, after: int, stamp_ns: int) -> None:
        """The stamps of these numbers are late or were dropped; `stamp_ns` is that of the packet before them.

        Packets that left together share a reading of the clocks from before the first of them: this is closer to when they left.
        """
        for number in range(first, min(after, first + len(self._unstamped))):
            sent = self._unstamped.get(number)
            if sent is not None:
                sent.left_after(stamp_ns)

    def _stamp(self, number: int, stamp_ns: int) -> None:
        sent = self._unstamped.pop(number, None)
        if sent is None:
            return
        # A stamp from before the numbering began anew is older than the packet that bears its number now.
        if stamp_ns >= sent.before.real_ns - sent.before.apart_ns:
            sent.kernel_ns = stamp_ns
        else:
            self._unstamped[number] = sent


def await_stamping() -> None:
    """Wait until the kernel stamps what arrives.

    Linux switches receive stamps on for the whole machine, in the background, when the first socket asks for them
    (net_enable_timestamp); packets that come before bear none. So send ourselves datagrams on loopback until one does,
    for at most _TRIES ms; without a loopback there is nothing to wait by.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.settimeout(0.1)
        own.bind(("127.0.0.1", 0))
        own.setsockopt(socket.SOL_SOCKET, linux.SO_TIMESTAMPING, linux.STAMPING_FLAGS & ~linux.STAMPING_OPT_ID)
        for _ in range(_TRIES):
            own.sendto(b"", own.getsockname())
            messages = own.recvmsg(1, 256)[1]
            if linux.read_ancillary(messages).stamp_ns is not None:
                return
            time.sleep(0.001)
