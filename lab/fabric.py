"""The event loop that moves packets: reads the hosts' TUNs, lets the forwarder decide, writes what is due.

One thread. epoll tells which hosts have sent; select() on it, with its microsecond time-out and a timer slack of 1 ns,
wakes the thread within microseconds of a due time (epoll's own time-out and asyncio round to milliseconds). As root it
runs under SCHED_FIFO and spins through the last moments before an arrival.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import socket
import time
from collections.abc import Callable, Sequence

from lab import control
from lab.agenda import Agenda
from lab.tun import MAX_FRAME

__all__ = ["Fabric"]

_PR_SET_TIMERSLACK = 29
_FIFO_PRIORITY = 10
_SPIN_NS = 150_000
#: At most this share of the time is spent spinning (1/5), saved up for at most so long: with many hosts on few cores
#: an exact moment must not cost the hosts their processor.
_SPIN_ONE_IN = 5
_SPIN_SAVED_NS = 5_000_000
#: Frames read at once from a host that sends a stream.
_READS = 8
#: A pause for housekeeping when nothing is under way.
_IDLE_NS = 1_000_000_000


class Fabric:
    """Moves packets between TUNs until told to stop, and does what is on the agenda of their network.

    tuns      one non-blocking descriptor per host, in the order of the topology's sites
    listener  the control socket
    watch     further descriptors; when one becomes readable, `on_watch` is called with it
    """

    def __init__(
        self,
        agenda: Agenda,
        tuns: Sequence[int],
        listener: socket.socket,
        watch: Sequence[int] = (),
        on_watch: Callable[[int], None] = lambda _fd: None,
    ) -> None:
        self._agenda = agenda
        self._forwarder = agenda.forwarder
        self._poll = select.epoll()
        self._tun_of = tuple(tuns)
        self._host_of = {fd: host for host, fd in enumerate(tuns)}
        self._listener = listener
        self._clients: dict[int, socket.socket] = {}
        self._watch = frozenset(watch)
        self._on_watch = on_watch
        self._buffer = bytearray(MAX_FRAME)
        self._stopping = False
        self._spin_ns = 0
        for fd in (*tuns, listener.fileno(), *watch):
            self._poll.register(fd, select.EPOLLIN)

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopping = True

    def run(self) -> None:
        """Move packets until stopped."""
        self._hurry()
        forwarder, agenda, clock = self._forwarder, self._agenda, time.monotonic_ns
        write, read, host_of = self._write, self._read, self._host_of
        poll, sources = self._poll.poll, (self._poll,)
        agenda_ns = agenda.due_ns
        allowance_ns = _SPIN_SAVED_NS
        is_spinning = False
        last_fd = -1
        before_ns = clock()
        while not self._stopping:
            now_ns = clock()
            passed_ns = now_ns - before_ns
            before_ns = now_ns
            allowance_ns = min(_SPIN_SAVED_NS, allowance_ns + passed_ns // _SPIN_ONE_IN - (passed_ns if is_spinning else 0))
            if agenda_ns is not None and agenda_ns <= now_ns:
                agenda.advance(now_ns)
                agenda_ns = agenda.due_ns
            due_ns = forwarder.due_ns
            if due_ns is not None and due_ns <= now_ns:
                forwarder.advance(now_ns, write)
                wait_ns, is_spinning = 0, False
            else:
                last_fd = -1
                # The last moments before a packet arrives are spun through: a sleeping thread comes late, and never equally
                # late. A packet on its way may be taken up late: its own times, not the clock's, decide what becomes of it.
                spin_ns = self._spin_ns if allowance_ns > 0 and forwarder.is_arrival_next else 0
                wait_ns = _IDLE_NS if due_ns is None else min(max(0, due_ns - now_ns - spin_ns), _IDLE_NS)
                if agenda_ns is not None and agenda_ns - now_ns < wait_ns:
                    wait_ns = max(0, agenda_ns - now_ns)
                is_spinning = not wait_ns
            if wait_ns and not select.select(sources, (), (), wait_ns / 1e9)[0]:
                if due_ns is None:
                    gc.collect()
                continue
            events = poll(0)
            if events:
                is_spinning = False
                # What has been announced was there before now, so this is the latest moment at which it can have come.
                now_ns = clock()
            for fd, _ in events:
                if fd in host_of:
                    # A host that sends again and again is read several times at once; of one that has sent once, another
                    # look would mostly be in vain, and cost as much as a packet.
                    if fd == last_fd:
                        for _ in range(_READS):
                            if not read(fd, clock()):
                                break
                    else:
                        read(fd, now_ns)
                    last_fd = fd
                else:
                    self._attend(fd)
                    agenda_ns = agenda.due_ns

    def _hurry(self) -> None:
        """Ask for exact timers, for precedence over other processes, and keep the garbage collector out of the way."""
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(_FIFO_PRIORITY))
            self._spin_ns = _SPIN_NS
        # Frames and heap entries hold no cycles; a full collection would stall packets for milliseconds.
        gc.collect()
        gc.freeze()
        gc.disable()

    def _read(self, fd: int, now_ns: int) -> bool:
        """Take one frame that was there at a time, if there was one; if there are more, epoll will say so again."""
        try:
            size = os.readv(fd, (self._buffer,))
        except BlockingIOError:
            return False
        except OSError:
            # The host's namespace was deleted under us: it sends nothing any more.
            self._poll.unregister(fd)
            return False
        self._forwarder.accept(self._host_of[fd], self._buffer[:size], now_ns)
        return True

    def _write(self, host: int, frame: bytearray) -> int:
        now_ns = time.monotonic_ns()
        try:
            os.write(self._tun_of[host], frame)
        except OSError:
            # A full or vanished interface loses the packet, as a real one would.
            return now_ns
        return now_ns

    def _attend(self, fd: int) -> None:
        if fd == self._listener.fileno():
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                client.setblocking(False)
                self._clients[client.fileno()] = client
                self._poll.register(client.fileno(), select.EPOLLIN)
        elif fd in self._watch:
            self._on_watch(fd)
        else:
            self._poll.unregister(fd)
            with contextlib.suppress(OSError), self._clients.pop(fd) as client:
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        message = client.recv(control.LARGEST_MESSAGE)
        if message:
            reply, stop = control.answer(message, self._agenda, time.monotonic_ns())
            control.reply(client, reply)
            self._stopping |= stop
