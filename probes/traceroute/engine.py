"""The traceroute engine: many traces at once, all TTLs of each in flight, paced and in random order.

Random order over all traces matters: routers near the agent limit their ICMP errors to some hundreds a second, and
see one of our packets per trace. At 1,000 packets/s in random order a hundred traces lose nothing to such limits.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import secrets
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from probes.ping.driver import LoopDriver
from probes.ping.engine import errno_name, gai_name
from probes.ping.pace import Pacer
from probes.ping.sockets import resolve
from probes.ping.timing import Sent, round_trip
from probes.traceroute.strategy import HopAnswer, Trace
from probes.traceroute.transports import Heard, Transport, open_transports
from probes.traceroute.wire import decode_labels
from records.measurement import Hop

__all__ = ["TraceOutcome", "TracerouteEngine"]

Protocol = Literal["icmp", "udp"]

_NO_ROOM_RETRY_NS = 1_000_000
_DISTANCES_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class TraceOutcome:
    """What a trace found. `error`: the first errno of a refused send, or the resolver's error; None: all left."""

    hops: tuple[Hop, ...]
    reached: bool
    error: str | None = None


@dataclass(slots=True, eq=False)
class _Running:
    trace: Trace
    version: int
    host: str
    flow: int
    future: asyncio.Future[None]
    numbers: set[int] = field(default_factory=set)
    error: str | None = None


@dataclass(slots=True)
class _Flight:
    running: _Running
    ttl: int
    token: int
    sent: Sent


@dataclass(slots=True)
class Counters:
    """Since the engine was made. `unmatched`: answers to no packet in flight: another's, or to a trace that is over."""

    sent: int = 0
    send_failed: int = 0
    answers: int = 0
    unmatched: int = 0


class TracerouteEngine(LoopDriver):
    """Traces any number of targets at once, IPv4 and IPv6.

    protocol        icmp (echo requests) or udp
    packets_per_s   the most it sends, over all traces; routers' limits on ICMP make more than 1,000 lose answers
    """

    name = "isochrone-traceroute/1"

    def __init__(self, protocol: Protocol = "icmp", *, packets_per_s: int = 1000) -> None:
        super().__init__()
        self.protocol: Protocol = protocol
        self.why = ""
        self.counters = Counters()
        self._pacer: Pacer[tuple[_Running, int]] = Pacer(packets_per_s=packets_per_s, burst=self._burst(packets_per_s))
        self._random = random.Random()  # noqa: S311 (the order of packets is no secret)
        self._transports: dict[int, Transport] = {}
        self._by_number: dict[int, _Flight] = {}
        self._by_token: dict[int, int] = {}
        self._number = secrets.randbits(16)
        self._running: set[_Running] = set()
        self._dirty: set[_Running] = set()
        self._checks: list[tuple[int, int, _Running]] = []
        self._tie = itertools.count()
        self._distances: OrderedDict[tuple[str, int], int] = OrderedDict()

    async def open(self) -> None:
        """Open the sockets. Raises NotPermitted, saying what to grant."""
        self._transports = open_transports(self.protocol)
        self.why = (
            f"own {self.protocol.upper()} traceroute ({', '.join(one.describes for one in self._transports.values())}; kernel timestamps)"
        )
        self._start(*(fileno for one in self._transports.values() for fileno in one.fileno()))

    async def trace(
        self, address: str, *, max_ttl: int = 30, timeout_ns: int = 1_000_000_000, attempts: int = 2, flow: int = 0
    ) -> TraceOutcome:
        """Trace one flow to an address or host name (resolved once).

        timeout_ns   an answer later than this does not count
        attempts     packets per TTL at most
        flow         0 .. 255; another flow may take another of several equal paths

        A target that does not answer or does not exist is a result, never an exception.
        """
        loop = self._running_loop()
        try:
            version, host = await resolve(address)
        except socket.gaierror as unknown:
            return TraceOutcome((), False, gai_name(unknown))
        if version not in self._transports:
            return TraceOutcome((), False, "EAFNOSUPPORT")
        key = (host, flow)
        trace = Trace(max_ttl=max_ttl, timeout_ns=timeout_ns, attempts=attempts, last_distance=self._distances.get(key))
        running = _Running(trace, version, host, flow, loop.create_future())
        self._running.add(running)
        self._dirty.add(running)
        self._announce()
        self._arm()
        try:
            await running.future
        finally:
            self._forget(running)
        if trace.reached and trace.end is not None:
            self._distances[key] = trace.end
            self._distances.move_to_end(key)
            if len(self._distances) > _DISTANCES_KEPT:
                self._distances.popitem(last=False)
        return TraceOutcome(trace.hops(), trace.reached, running.error)

    async def close(self) -> None:
        """Close the sockets; traces under way return what they have."""
        self._stop()
        for running in self._running:
            if not running.future.done():
                running.future.set_result(None)
        for one in self._transports.values():
            one.close()
        self._transports = {}

    def _forget(self, running: _Running) -> None:
        self._running.discard(running)
        self._dirty.discard(running)
        for number in running.numbers:
            self._by_token.pop(self._by_number.pop(number).token, None)
        running.numbers.clear()

    def _send_due(self, now_ns: int) -> bool:
        has_sent = False
        while (planned := self._pacer.take(now_ns)) is not None:
            running, ttl = planned
            if running not in self._running:
                self._pacer.give_back()
                continue
            self._dirty.add(running)
            if not running.trace.is_wanted(ttl):
                running.trace.skipped(ttl)
                self._pacer.give_back()
                continue
            self._hand_over(running, ttl, now_ns)
            has_sent = True
        return has_sent

    def _hand_over(self, running: _Running, ttl: int, now_ns: int) -> None:
        number, token = self._free_number(), secrets.randbits(64)
        try:
            sent = self._transports[running.version].send(running.host, ttl, running.flow, number, token)
        except BlockingIOError:
            self._pacer.plan(now_ns + _NO_ROOM_RETRY_NS, (running, ttl))
        except OSError as refused:
            running.error = running.error or errno_name(refused)
            running.trace.refused()
            self.counters.send_failed += 1
        else:
            self._by_number[number] = _Flight(running, ttl, token, sent)
            self._by_token[token] = number
            running.numbers.add(number)
            running.trace.sent(ttl, sent.before.mono_ns)
            self.counters.sent += 1

    def _free_number(self) -> int:
        while True:
            self._number = (self._number + 1) & 0xFFFF
            if self._number and self._number not in self._by_number:  # 0 would have the kernel choose an IP identification
                return self._number

    def _absorb(self) -> int:
        came = 0
        for one in self._transports.values():
            for heard in one.read():
                self._hear(heard)
                came += 1
        return came

    def _hear(self, heard: Heard) -> None:
        number = heard.number
        if number is None and heard.token is not None:
            number = self._by_token.get(heard.token)
        flight = None if number is None else self._by_number.get(number)
        if flight is None or flight.running.host != heard.host or heard.token not in {None, flight.token}:
            self.counters.unmatched += 1
            return
        self.counters.answers += 1
        running = flight.running
        rtt_ns, ts_source = round_trip(flight.sent, heard.received_ns, heard.picked_up)
        is_target = heard.is_reply or (heard.is_unreachable and heard.responder == running.host)
        running.trace.answered(
            flight.ttl,
            HopAnswer(
                address=heard.responder,
                rtt_ns=rtt_ns,
                ts_source=ts_source,
                is_target=is_target,
                is_end=heard.is_unreachable and not is_target,
                icmp_type=heard.icmp_type,
                icmp_code=heard.icmp_code,
                reply_ttl=heard.ttl,
                mpls=decode_labels(heard.extension),
            ),
        )
        self._dirty.add(running)

    def _expire(self, now_ns: int) -> None:
        while self._checks and self._checks[0][0] <= now_ns:
            running = heapq.heappop(self._checks)[2]
            if running in self._running:
                self._dirty.add(running)

    def _announce(self) -> None:
        """Look again at the traces that something happened to: plan what they want, end what is done."""
        if not self._dirty:
            return
        now_ns = time.monotonic_ns()
        dirty, self._dirty = self._dirty, set()
        wanted: list[tuple[_Running, int]] = []
        for running in dirty:
            wanted += ((running, ttl) for ttl in running.trace.wanted(now_ns))
            if running.trace.done(now_ns):
                if not running.future.done():
                    running.future.set_result(None)
            elif (at_ns := running.trace.next_ns(now_ns)) is not None:
                heapq.heappush(self._checks, (at_ns, next(self._tie), running))
        for item in wanted:
            # Within what is planned for now the order is random; the pacer takes the least due time first.
            self._pacer.plan(now_ns - self._random.randrange(_SHUFFLE_NS), item)

    def _next_ns(self) -> int | None:
        times = [at_ns for at_ns in (self._pacer.next_ns(), self._checks[0][0] if self._checks else None) if at_ns is not None]
        return min(times, default=None)


#: New packets are planned up to this far in the past: enough to shuffle them among those that wait.
_SHUFFLE_NS = 1_000_000_000
