"""The traceroute engine: many traces at once, all TTLs of each in flight, paced and in random order.

Random order over all traces matters: routers near the agent limit their ICMP errors to some hundreds a second, and
see one of our packets per trace. At 1,000 packets/s in random order a hundred traces lose nothing to such limits. What
is lost to a limit all the same is told from a silent router by what the other traces heard, and asked again slower
(rule 8 of ``strategy``).
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import itertools
import os
import random
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from probes.model import TraceUnderWay
from probes.ping.addresses import resolve
from probes.ping.driver import LoopDriver
from probes.ping.names import errno_name, gai_name
from probes.ping.pace import Pacer
from probes.ping.timing import Sent, round_trip
from probes.traceroute.heard import Heard, Transport
from probes.traceroute.strategy import HopAnswer, Trace
from probes.traceroute.transports import open_transports
from probes.traceroute.wire import decode_labels
from records.hop import Hop

if TYPE_CHECKING:
    from pathlib import Path

    from probes.traceroute.evidence import Evidence

__all__ = ["DEFAULT_PORT", "Protocol", "TraceOutcome", "TracerouteEngine"]

Protocol = Literal["icmp", "udp", "tcp"]
#: Where SYNs go: the port that is open at most sites.
DEFAULT_PORT = 443

_NO_ROOM_RETRY_NS = 1_000_000
#: What Linux makes of ICMP errors (icmp_err_convert, icmpv6_err_convert). A socket that queues them hands each to the next send as
#: its failure, whoever that packet is for; while many come in, that befalls even a send that has been tried again at once.
_MAY_BE_OF_ANOTHER = frozenset(
    {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENOPROTOOPT,
        errno.ECONNREFUSED,
        errno.EMSGSIZE,
        errno.EOPNOTSUPP,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EACCES,
        errno.EPROTO,
    }
)
#: So many in a row, with no packet of the trace accepted between them, and it is the trace's own.
_REFUSALS = 20
_DISTANCES_KEPT = 10_000
_NEIGHBOURS_KEPT = 10_000
#: A router that answered another trace so long ago is still taken for one that speaks.
_SPOKE_NS = 60_000_000_000
#: Of the 65,535 numbers; the rest is kept free, so that a search for one is short.
_NUMBERS_IN_FLIGHT = 60_000


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
    address: str
    numbers: set[int] = field(default_factory=set)
    refusals: int = 0
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

    protocol        icmp (echo requests), udp or tcp (SYN)
    packets_per_s   the most it sends, over all traces; routers' limits on ICMP make more than 1,000 lose answers
    port            where SYNs go
    pcap            file that keeps every packet of the traces as evidence; see Evidence
    """

    name = "isochrone-traceroute/1"

    def __init__(
        self, protocol: Protocol = "icmp", *, packets_per_s: int = 1000, port: int = DEFAULT_PORT, pcap: Path | None = None
    ) -> None:
        super().__init__()
        self.protocol: Protocol = protocol
        self._port = port
        self._pcap = pcap
        self.evidence: Evidence | None = None
        self.why = ""
        self.counters = Counters()
        self._pacer: Pacer[tuple[_Running, int]] = Pacer(packets_per_s=packets_per_s, burst=self._burst(packets_per_s))
        self._random = random.Random()  # noqa: S311 (the order of packets is no secret)
        self._transports: dict[int, Transport] = {}
        self._by_number: dict[int, _Flight] = {}
        self._by_token: dict[int, int] = {}
        self._number = int.from_bytes(os.urandom(2), "big")
        self._running: set[_Running] = set()
        self._dirty: set[_Running] = set()
        self._checks: list[tuple[int, int, _Running]] = []
        self._tie = itertools.count()
        self._distances: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._near: dict[tuple[str, int], int] = {}
        self._spoke: OrderedDict[tuple[int, int, str | None], int] = OrderedDict()

    async def open(self) -> None:
        """Open the sockets. Raises NotPermitted, saying what to grant, and what Evidence raises."""
        if self._pcap is not None:
            from probes.traceroute.evidence import Evidence

            self.evidence = Evidence(self._pcap)
        try:
            self._transports = open_transports(self.protocol, self._port)
        except BaseException:
            if self.evidence is not None:
                self.evidence.close()
            raise
        self.why = (
            f"own {self.protocol.upper()} traceroute ({', '.join(one.describes for one in self._transports.values())}; kernel timestamps)"
        )
        seen = () if self.evidence is None else (self.evidence.fileno(),)
        self._start(*(fileno for one in self._transports.values() for fileno in one.fileno()), *seen)

    async def trace(
        self, address: str, *, max_ttl: int = 30, timeout_ns: int = 1_000_000_000, attempts: int = 2, flow: int = 0
    ) -> TraceOutcome:
        """Trace one flow to an address or host name (resolved once).

        timeout_ns   an answer later than this does not count
        attempts     packets per TTL at most, and some more where a router is heard of only now and then
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
        try:
            self._transports[version].prepare(flow)
        except OSError as refused:
            return TraceOutcome((), False, errno_name(refused))
        if self.evidence is not None:
            self.evidence.watch(mark for one in self._transports.values() for mark in one.marks())
        key = (host, flow)
        trace = Trace(
            max_ttl=max_ttl,
            timeout_ns=timeout_ns,
            attempts=attempts,
            last_distance=self._distances.get(key),
            limited=partial(self._has_spoken, version),
            spread=self._random.uniform(0.7, 1.3),
        )
        running = _Running(trace, version, host, flow, loop.create_future(), address)
        self._running.add(running)
        self._dirty.add(running)
        self._announce()
        self._arm()
        try:
            await running.future
        finally:
            self._forget(running)
        if trace.reached and trace.end is not None:
            self._distances[key] = self._near[_network(host), flow] = trace.end
            self._distances.move_to_end(key)
            if len(self._distances) > _DISTANCES_KEPT:
                self._distances.popitem(last=False)
            if len(self._near) > _DISTANCES_KEPT:
                self._near.clear()
        elif not trace.is_refused:  # it may be farther away by now than a window of the old size shows
            self._distances.pop(key, None)
        return TraceOutcome(trace.hops(), trace.reached, running.error)

    async def close(self) -> None:
        """Close the sockets; traces under way return what they have. Raises OutsideError when the evidence is not whole."""
        self._stop()
        for running in self._running:
            if not running.future.done():
                running.future.set_result(None)
        for one in self._transports.values():
            one.close()
        self._transports = {}
        evidence, self.evidence = self.evidence, None
        if evidence is not None:
            evidence.close()

    def under_way(self) -> list[TraceUnderWay]:
        """What each trace that runs has found so far."""
        return [TraceUnderWay(one.address, one.flow, one.trace.hops(), one.trace.reached) for one in self._running]

    def _has_spoken(self, version: int, ttl: int, before: str | None) -> bool:
        """Whether a router at this TTL, behind that one, answered lately."""
        at_ns = self._spoke.get((version, ttl, before))
        return at_ns is not None and time.monotonic_ns() - at_ns < _SPOKE_NS

    def _note_speakers(self, running: _Running, ttl: int) -> None:
        """An answer came: remember who speaks behind whom. It may have come before or after that of the hop before."""
        now_ns = time.monotonic_ns()
        for behind in (ttl, ttl + 1):
            is_known, before = running.trace.before(behind)
            # That a target answers says nothing of the next target behind the same router.
            if is_known and running.trace.is_router(behind):
                key = (running.version, behind, before)
                self._spoke[key] = now_ns
                self._spoke.move_to_end(key)
        while len(self._spoke) > _NEIGHBOURS_KEPT:
            self._spoke.popitem(last=False)

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
            if self._lies_behind(running, ttl, now_ns):
                self._pacer.give_back()
                self._pacer.plan(now_ns + _BEHIND_NS, (running, ttl))
                continue
            self._hand_over(running, ttl, now_ns)
            has_sent = True
        return has_sent

    def _lies_behind(self, running: _Running, ttl: int, now_ns: int) -> bool:
        """Whether a TTL is beyond where a neighbour of the target was found, and its own answer there may still come: it can wait."""
        near = self._near.get((_network(running.host), running.flow))
        return near is not None and ttl > near and running.trace.end is None and running.trace.awaits(near, now_ns)

    def _hand_over(self, running: _Running, ttl: int, now_ns: int) -> None:
        if len(self._by_number) >= _NUMBERS_IN_FLIGHT:
            self._pacer.give_back()
            self._pacer.plan(now_ns + _NO_ROOM_RETRY_NS, (running, ttl))
            return
        number, token = self._free_number(), int.from_bytes(os.urandom(8), "big")
        try:
            sent = self._transports[running.version].send(running.host, ttl, running.flow, number, token)
        except BlockingIOError:
            self._pacer.plan(now_ns + _NO_ROOM_RETRY_NS, (running, ttl))
        except OSError as refused:
            running.refusals += 1
            if refused.errno in _MAY_BE_OF_ANOTHER and running.refusals < _REFUSALS:
                self._pacer.give_back()
                self._pacer.plan(now_ns + _NO_ROOM_RETRY_NS, (running, ttl))
                return
            running.error = running.error or errno_name(refused)
            running.trace.refused()
            self.counters.send_failed += 1
        else:
            self._by_number[number] = _Flight(running, ttl, token, sent)
            self._by_token[token] = number
            running.numbers.add(number)
            running.refusals = 0
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
        if self.evidence is not None:
            self.evidence.read()
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
        if is_target and running.trace.end is not None:
            place = (_network(running.host), running.flow)
            self._near[place] = min(running.trace.end, self._near.get(place, running.trace.end))
        self._note_speakers(running, flight.ttl)
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
            # Within what is planned for now the order is random, far hops a little earlier: nobody waits for their answers at the end.
            # The pacer takes the least due time first.
            self._pacer.plan(now_ns - self._random.randrange(_SHUFFLE_NS) - item[1] * _FAR_FIRST_NS, item)

    def _next_ns(self) -> int | None:
        times = [at_ns for at_ns in (self._pacer.next_ns(), self._checks[0][0] if self._checks else None) if at_ns is not None]
        return min(times, default=None)


#: New packets are planned up to this far in the past: enough to shuffle them among those that wait.
_SHUFFLE_NS = 1_000_000_000
#: And by so much more for each TTL.
_FAR_FIRST_NS = 7_500_000
#: A packet that can wait is looked at again after so long.
_BEHIND_NS = 40_000_000


def _network(host: str) -> str:
    """What neighbours have in common: an address without its last part."""
    return host.rpartition(":" if ":" in host else ".")[0]
