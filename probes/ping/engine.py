"""The ping engines' common interface, and what the echo engines share: a session driven by the event loop.

One socket per address family serves every target for the life of the engine. The loop wakes up to send what is due,
when a socket is readable, and when a packet times out; the kernel's stamps make it irrelevant to the RTT how late.
"""

from __future__ import annotations

import asyncio
import os
import time
from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from probes.ping.clock import clocks
from probes.ping.driver import LoopDriver
from probes.ping.failure import OVERFLOW, source_of
from probes.ping.names import errno_name, gai_name
from probes.ping.outbox import BURST
from probes.ping.pace import Pacer
from probes.ping.session import Counters, EchoSession, Probe, Round
from probes.ping.sockets import StampedSocket
from records.ping import PingSample

__all__ = ["EchoEngine", "PingEngine", "errno_name", "gai_name", "unsent"]

#: How long the kernel may be out of room (EAGAIN, ENOBUFS) before a packet counts as not sent.
_NO_ROOM_NS = 50_000_000
_RETRY_NS = 1_000_000
#: A tick is as long as about _TOGETHER packets take to become due, within these limits, and never longer than a fifth of
#: the shortest interval under way: packets leave late by so much at most, a few of them together.
_REST_LEAST_NS, _REST_MOST_NS = 1_000_000, 100_000_000
_TOGETHER = 256
_INTERVAL_SHARE = 5
#: How many times what a tick sends the pacer lets through after a delay.
_BURST_TICKS = 2


class PingEngine(Protocol):
    """Measures round-trip times to any number of targets at once.

    name     engine and version, as it is stored with every measurement
    method   what it sends
    why      one sentence on the choice of this engine and how its sockets are opened, for logs and `doctor`
    flows    how many flows to a target it can keep apart; 1 where it has no say in what its packets look like
    """

    @property
    def name(self) -> str: ...
    @property
    def method(self) -> Literal["icmp", "tcp", "udp"]: ...
    @property
    def why(self) -> str: ...
    @property
    def flows(self) -> int: ...

    async def open(self) -> None:
        """Take what the engine needs of the machine. Raises NotPermitted, saying what to grant."""
        ...

    async def ping(
        self, address: str, *, count: int, interval_ns: int, timeout_ns: int, payload_bytes: int, flow: int = 0
    ) -> tuple[PingSample, ...]:
        """Send `count` probe packets `interval_ns` apart; one sample per packet, in order.

        address        IP address or host name (resolved once); the UDP engine takes ``host:port``
        timeout_ns     per packet, from its departure
        payload_bytes  octets after the ICMP or UDP header; an engine that needs more for itself sends more
        flow           which of the flows to that target; packets of a flow look alike to routers that choose among equal
                       paths. Only the own ICMP engine has more than one

        A target that does not answer, does not exist or cannot be reached is a result, never an exception.
        """
        ...

    def under_way(self) -> Sequence[Round]:
        """The rounds that somebody waits for; always empty of an engine that cannot show them."""
        ...

    async def close(self) -> None:
        """Give the sockets back; rounds still in flight end as timed out."""
        ...


def unsent(count: int, error: str) -> tuple[PingSample, ...]:
    """The samples of a round that could not be sent at all; `error` names the errno or resolver error."""
    now_ns = time.time_ns()
    source = source_of("send_failed", error=error)
    return tuple(
        PingSample(sequence=sequence, outcome="send_failed", sent_at_ns=now_ns, error=error, failure_source=source)
        for sequence in range(count)
    )


class EchoEngine(LoopDriver):
    """What our own engines share. A subclass opens sockets, sends one packet and reads what came."""

    why = ""
    flows = 1

    def __init__(self, *, packets_per_s: int) -> None:
        super().__init__()
        burst = max(2, _BURST_TICKS * min(_TOGETHER, packets_per_s * _REST_MOST_NS // 1_000_000_000))
        burst = max(burst, _BURST_TICKS * packets_per_s * _REST_LEAST_NS // 1_000_000_000)
        self._session = EchoSession(Pacer(packets_per_s=packets_per_s, burst=burst))
        self._intervals: Counter[int] = Counter()
        self._tick_ns = _REST_MOST_NS
        self._waiting: dict[Round, asyncio.Future[None]] = {}

    @property
    def counters(self) -> Counters:
        """What was sent and what came in since the engine was made."""
        return self._session.counters

    @abstractmethod
    def _transmit(self, probe: Probe) -> object:
        """Hand the packet to the kernel and note in it when; BlockingIOError when it has no room, OSError when it refuses."""

    async def _run(
        self,
        peer: object,
        *,
        count: int,
        interval_ns: int,
        timeout_ns: int,
        payload_bytes: int,
        flow: int = 0,
        requests: object = None,
    ) -> tuple[PingSample, ...]:
        loop = self._running_loop()
        started = self._session.begin(
            peer,
            tokens=array("Q", os.urandom(8 * count)),
            interval_ns=interval_ns,
            timeout_ns=timeout_ns,
            payload_bytes=payload_bytes,
            now_ns=self._begins_ns(),
            flow=flow,
            requests=requests,
        )
        if started.done:
            return ()
        shared = count > 1  # a single packet has no next one that it could be too close to
        if shared:
            self._intervals[interval_ns] += 1
        future = self._waiting[started] = loop.create_future()
        self._arm()
        try:
            await future
            return started.samples()
        except asyncio.CancelledError:
            self._session.cancel(started)
            raise
        finally:
            if started.done:
                started.packets.clear()  # the session remembers the round for a while, for duplicates
            self._waiting.pop(started, None)
            if shared:
                self._intervals[interval_ns] -= 1
                if not self._intervals[interval_ns]:
                    del self._intervals[interval_ns]

    def under_way(self) -> tuple[Round, ...]:
        """The rounds that somebody waits for."""
        return tuple(self._waiting)

    def _rest_ns(self) -> int:
        return min(self._tick_ns, max(min(self._intervals, default=_REST_MOST_NS) // _INTERVAL_SHARE, _REST_LEAST_NS))

    def _abandon(self) -> None:
        """The engine closes: whoever still waits gets what has come so far."""
        self._stop()
        for waiting, future in list(self._waiting.items()):
            self._session.abandon(waiting, clocks())
            if not future.done():
                future.set_result(None)

    def _send_due(self, now_ns: int) -> bool:
        taken = 0
        while probes := self._session.take_all(now_ns, BURST):
            taken += len(probes)
            self._hand_over_all(probes)
        if self._is_ticking:
            if taken > _TOGETHER:
                self._tick_ns = max(self._tick_ns // 2, _REST_LEAST_NS)
            elif taken < _TOGETHER // 4:
                self._tick_ns = min(self._tick_ns * 2, _REST_MOST_NS)
        return taken > 0

    def _stamped(self) -> Iterable[StampedSocket]:
        """The sockets that answers come in by."""
        return ()

    def _is_drained(self) -> bool:
        return all(one.is_drained for one in self._stamped())

    def _expire(self, now_ns: int) -> None:
        asked: list[int] = []

        def blame(probe: Probe) -> str | None:
            if not asked:  # at the first of a turn; most turns time nothing out
                for one in self._stamped():
                    one.drops.ask()
                    asked.append(one.drops.found_ns)
            return OVERFLOW if probe.before.mono_ns <= max(asked, default=0) else None

        self._session.expire(now_ns, blame)

    def _next_ns(self) -> int | None:
        return self._session.next_ns()

    def _announce(self) -> None:
        for done in self._session.finished():
            future = self._waiting.get(done)
            if future is not None and not future.done():
                future.set_result(None)

    def _transmit_together(self, probes: Sequence[Probe]) -> int:
        """Hand packets to the kernel all at once: how many it took, which are the first. Nothing where the engine cannot."""
        return 0

    def _hand_over_all(self, probes: list[Probe]) -> None:
        while probes:
            taken = self._transmit_together(probes)
            if taken:
                self._session.sent_all(probes[:taken])
            if taken == len(probes):
                return
            self._hand_over(probes[taken])  # finds out what was wrong with it, if anything
            probes = probes[taken + 1 :]

    def _hand_over(self, probe: Probe) -> None:
        try:
            self._transmit(probe)
        except BlockingIOError as full:
            now = clocks()
            if now.mono_ns - probe.due_ns < _NO_ROOM_NS:
                self._session.postpone(probe, now.mono_ns + _RETRY_NS)
            else:
                self._session.failed(probe, now, errno_name(full))
        except OSError as refused:
            self._session.failed(probe, clocks(), errno_name(refused))
        else:
            self._session.sent_all((probe,))
