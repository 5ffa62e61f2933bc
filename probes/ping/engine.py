"""The ping engines' common interface, and what the echo engines share: a session driven by the event loop.

One socket per address family serves every target for the life of the engine. The loop wakes up to send what is due,
when a socket is readable, and when a packet times out; the kernel's stamps make it irrelevant to the RTT how late.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import time
from abc import ABC, abstractmethod
from typing import Literal, Protocol

from probes.ping.pace import Pacer
from probes.ping.session import Counters, EchoSession, Probe, Round
from probes.ping.sockets import clocks
from probes.ping.timing import Sent
from records.measurement import PingSample

__all__ = ["EchoEngine", "PingEngine", "gai_name", "unsent"]

#: How long the kernel may be out of room (EAGAIN, ENOBUFS) before a packet counts as not sent.
_NO_ROOM_NS = 50_000_000
_RETRY_NS = 1_000_000


class PingEngine(Protocol):
    """Measures round-trip times to any number of targets at once.

    name     engine and version, as it is stored with every measurement
    method   what it sends
    why      one sentence on the choice of this engine and how its sockets are opened, for logs and `doctor`
    """

    @property
    def name(self) -> str: ...
    @property
    def method(self) -> Literal["icmp", "tcp", "udp"]: ...
    @property
    def why(self) -> str: ...

    async def open(self) -> None:
        """Take what the engine needs of the machine. Raises NotPermitted, saying what to grant."""
        ...

    async def ping(self, address: str, *, count: int, interval_ns: int, timeout_ns: int, payload_bytes: int) -> tuple[PingSample, ...]:
        """Send `count` probe packets `interval_ns` apart; one sample per packet, in order.

        address        IP address or host name (resolved once); the UDP engine takes ``host:port``
        timeout_ns     per packet, from its departure
        payload_bytes  octets after the ICMP or UDP header; an engine that needs more for itself sends more

        A target that does not answer, does not exist or cannot be reached is a result, never an exception.
        """
        ...

    async def close(self) -> None:
        """Give the sockets back; rounds still in flight end as timed out."""
        ...


def unsent(count: int, error: str) -> tuple[PingSample, ...]:
    """The samples of a round that could not be sent at all; `error` names the errno or resolver error."""
    now_ns = time.time_ns()
    return tuple(PingSample(sequence=sequence, outcome="send_failed", sent_at_ns=now_ns, error=error) for sequence in range(count))


def gai_name(failed: socket.gaierror) -> str:
    """The name of a resolver's error, such as ``EAI_NONAME``."""
    names = (name for name in dir(socket) if name.startswith("EAI_") and getattr(socket, name) == failed.errno)
    return next(names, "EAI_FAIL")


class EchoEngine(ABC):
    """What our own engines share. A subclass opens sockets, sends one packet and reads what came."""

    why = ""

    def __init__(self, *, packets_per_s: int, burst: int = 32) -> None:
        self._session = EchoSession(Pacer(packets_per_s=packets_per_s, burst=burst))
        self._waiting: dict[Round, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def counters(self) -> Counters:
        """What was sent and what came in since the engine was made."""
        return self._session.counters

    @abstractmethod
    def _transmit(self, probe: Probe) -> Sent:
        """Hand the packet to the kernel; BlockingIOError when it has no room, OSError when it refuses."""

    @abstractmethod
    def _absorb(self) -> None:
        """Read every socket empty and tell the session."""

    async def _run(self, peer: object, *, count: int, interval_ns: int, timeout_ns: int, payload_bytes: int) -> tuple[PingSample, ...]:
        if self._loop is None:
            raise RuntimeError("open() the engine before it pings")
        tokens = [secrets.randbits(64) for _ in range(count)]
        started = self._session.begin(
            peer, tokens=tokens, interval_ns=interval_ns, timeout_ns=timeout_ns, payload_bytes=payload_bytes, now_ns=time.monotonic_ns()
        )
        if not started.done:
            future = self._waiting[started] = self._loop.create_future()
            self._arm()
            try:
                await future
            except asyncio.CancelledError:
                self._session.cancel(started)
                raise
            finally:
                self._waiting.pop(started, None)
        return started.samples()

    def _start(self, *sockets: int) -> None:
        """Begin to listen on these file descriptors."""
        self._loop = asyncio.get_running_loop()
        for fileno in sockets:
            self._loop.add_reader(fileno, self._readable)

    def _stop(self, *sockets: int) -> None:
        """Stop listening; whoever still waits gets what has come so far."""
        if self._loop is None:
            return
        for fileno in sockets:
            self._loop.remove_reader(fileno)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop = None
        for waiting, future in list(self._waiting.items()):
            self._session.abandon(waiting, clocks())
            if not future.done():
                future.set_result(None)

    def _readable(self) -> None:
        self._absorb()
        self._announce()

    def _wake(self) -> None:
        """Read first, so that a reply that came in time while the loop was busy is not timed out; then send."""
        self._timer = None
        self._absorb()
        now_ns = time.monotonic_ns()
        has_sent = False
        while (probe := self._session.take(now_ns)) is not None:
            self._hand_over(probe)
            has_sent = True
        self._session.expire(now_ns)
        if has_sent:  # the stamps of what has just been sent are there; reading them now saves a wake-up
            self._absorb()
        self._announce()
        self._arm()

    def _hand_over(self, probe: Probe) -> None:
        try:
            sent = self._transmit(probe)
        except BlockingIOError as full:
            now = clocks()
            if now.mono_ns - probe.due_ns < _NO_ROOM_NS:
                self._session.postpone(probe, now.mono_ns + _RETRY_NS)
            else:
                self._session.failed(probe, now, errno.errorcode.get(full.errno or 0, str(full)))
        except OSError as refused:
            self._session.failed(probe, clocks(), errno.errorcode.get(refused.errno or 0, str(refused)))
        else:
            self._session.sent(probe, sent)

    def _announce(self) -> None:
        for done in self._session.finished():
            future = self._waiting.get(done)
            if future is not None and not future.done():
                future.set_result(None)

    def _arm(self) -> None:
        """Set the timer to the session's next moment, unless it is set to that or an earlier one."""
        at_ns = self._session.next_ns()
        if at_ns is None or self._loop is None:
            return
        if self._timer is not None:
            if self._timer_ns <= at_ns:
                return
            self._timer.cancel()
        self._timer_ns = at_ns
        # The loop's clock is the monotonic one; it rounds timers up to a millisecond, which the pacer's burst covers.
        self._timer = self._loop.call_at(at_ns / 1e9, self._wake)
