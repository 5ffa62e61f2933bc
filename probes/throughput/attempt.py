"""One test of one target with the tool that its server speaks: a reading for each direction, or what failed and whose fault it was."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from probes.blame import source_of_words
from probes.throughput.bulk import Measured, NotBuiltin, ServerBusy, TestFailed, held_lease, run_test
from probes.throughput.config import ThroughputConfig
from probes.throughput.iperf3 import Iperf3Run, NotIperf3, find_iperf3, run_iperf3, whole_seconds
from probes.throughput.iperf3_json import Iperf3Error, Iperf3Report
from probes.throughput.wire import Estimated, Hello, Method
from records.errors import ToolMissing
from records.measurement import FailureSource
from records.units import SECOND

__all__ = ["Attempts", "Failed", "Reading", "Tool", "Way"]

Direction = Literal["up", "down"]
#: up, down, or both at the same time.
Way = Literal["up", "down", "bidir"]
Tool = Literal["iperf3", "builtin"]

#: What iperf3 leaves of a test whose bytes were gone before its first report.
_NOTHING_COUNTED = "counted no bytes"
_REFUSED = os.strerror(errno.ECONNREFUSED)

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A rate, as a ThroughputResult has it; rtts_ns: smoothed RTTs of the connection during the test; idle_rtt_ns: of its hand-shake."""

    tool: Tool
    direction: Direction
    transferred_bytes: int
    duration_ns: int
    throughput_bps: int
    stop_reason: Literal["time", "bytes"]
    retransmits: int | None = None
    tcp_rtt_ns: int | None = None
    tcp_min_rtt_ns: int | None = None
    congestion_control: str | None = None
    method: Estimated = "transfer"
    protocol: Literal["tcp", "udp"] = "tcp"
    streams: int = 1
    is_bidirectional: bool = False
    udp_packets: int | None = None
    udp_lost_packets: int | None = None
    udp_jitter_ns: int | None = None
    rtts_ns: tuple[int, ...] = ()
    idle_rtt_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """No rate: with which tool, why in one sentence, whose failure, and whether asking again soon may help."""

    tool: Tool
    why: str
    source: FailureSource = "target"
    is_busy: bool = False


@dataclass(slots=True)
class _Spending:
    """Bytes that went up and down, those of readings that were thrown away and of tests that failed included: what may have gone counts."""

    up: int = 0
    down: int = 0

    def add(self, direction: Direction, count: int) -> None:
        if direction == "up":
            self.up += count
        else:
            self.down += count


class Attempts:
    """Tests, and what was learned of the targets by them: which tool a server speaks, and whose path is faster than the byte budget."""

    def __init__(self, config: ThroughputConfig) -> None:
        self._config = config
        self._builtin: set[tuple[str, int]] = set()
        self._spoke_iperf3: set[tuple[str, int]] = set()
        self._strangers: set[tuple[str, int]] = set()
        self._estimates: dict[tuple[str, int], int] = {}
        self._fast: set[tuple[str, int, Way]] = set()
        self._rtt_ns: dict[tuple[str, int], int] = {}
        self.spent = _Spending()

    async def full(self, host: str, port: int, way: Way, lease: bytes) -> tuple[Reading, ...] | Failed:
        """A full test with the tool of this target."""
        place, tool = (host, port), self._config.tool
        if tool == "auto":
            tool = "builtin" if find_iperf3() is None or place in self._builtin else "iperf3"
        hung_up = ""
        if tool == "iperf3":
            try:
                return await self._iperf3_leased(host, port, way, lease)
            except NotIperf3 as error:
                hung_up = str(error)
                if self._config.tool == "iperf3":
                    return Failed("iperf3", f"what listens there is no iperf3 server ({hung_up})")
        if self._config.protocol == "udp":
            return Failed("builtin", "a UDP test needs iperf3 at both ends; install it there, or set protocol = 'tcp'", "target")
        try:
            made = await self._both_ways(host, port, way, lease)
        except NotBuiltin as error:
            self._builtin.discard(place)
            if hung_up and error.is_iperf3:  # it is iperf3 after all, between two tests
                return Failed("iperf3", hung_up, is_busy=True)
            return Failed("builtin", str(error))
        if hung_up and not isinstance(made, Failed):
            self._builtin.add(place)
        return made

    async def estimate(self, host: str, port: int, way: Way, lease: bytes) -> tuple[Reading, ...] | Failed:
        """An estimate: the built-in server of the target, which listens beside iperf3's on the next port."""
        place = (host, port)
        known = self._estimates.get(place)
        is_plain = self._config.tool == "builtin" or find_iperf3() is None or (host, port) in self._builtin
        # A greeting of ours puts an iperf3 server out for a moment: one that is known as such is left alone.
        others = [] if place in self._spoke_iperf3 else [port]
        ports = [known] if known is not None else [port, port + 1] if is_plain else [port + 1, *others]
        failed: Failed | None = None
        for candidate in ports:
            try:
                made = await self._both_ways(host, candidate, way, lease, method=self._config.estimator)
            except NotBuiltin as error:
                if error.is_iperf3:
                    self._spoke_iperf3.add(place)
                made = Failed("builtin", str(error))
            else:
                if not isinstance(made, Failed) or _REFUSED not in made.why:
                    self._estimates[place] = candidate
                    return made
            failed = failed or made
        self._estimates.pop(place, None)
        assert failed is not None
        return failed

    # -- the built-in test ------------------------------------------------------------------------------------------

    async def _both_ways(self, host: str, port: int, way: Way, lease: bytes, method: Method = "transfer") -> tuple[Reading, ...] | Failed:
        directions: tuple[Direction, ...] = ("up", "down") if way == "bidir" else (way,)
        try:
            made = await _together(self._built_in(host, port, direction, lease, method) for direction in directions)
        except NotBuiltin:
            raise
        except TestFailed as error:
            return Failed("builtin", str(error), error.source, isinstance(error, ServerBusy))
        return tuple(replace(reading, is_bidirectional=way == "bidir") for reading in made)

    async def _built_in(self, host: str, port: int, direction: Direction, lease: bytes, method: Method) -> Reading:
        config = self._config
        streams = config.streams if method == "transfer" else 1
        budget = config.max_bytes if method == "transfer" else config.estimate_max_bytes
        hello = Hello(
            direction=direction,
            duration_ms=round((config.duration_s if method == "transfer" else config.estimate_s) * 1000),
            max_bytes=budget // streams,
            congestion_control=config.congestion_control or None,
            method=method,
            lease=lease,
        )
        # A sample ends by itself when it has its rate: it is only held to what TCP needs to get there.
        round_trips = config.min_round_trips if method == "transfer" else max(config.min_round_trips, 20)
        spend = functools.partial(self.spent.add, direction)
        several = await _together(run_test(host, port, hello, spend, round_trips) for _ in range(streams))
        total, longest_ns = sum(one.transferred_bytes for one in several), max(one.duration_ns for one in several)
        first: Measured = several[0]
        rate = total * 8 * SECOND // longest_ns if method == "transfer" and longest_ns > 0 else first.estimate_bps
        if total <= 0 or not rate:
            raise TestFailed("too little arrived to tell a rate: give the test more time or bytes", "path")
        is_by_bytes = total >= budget // streams * streams if method == "transfer" else not first.is_settled
        retransmits = [one.sender.retransmits for one in several if one.sender.retransmits is not None]
        return Reading(
            tool="builtin",
            direction=direction,
            transferred_bytes=total,
            duration_ns=longest_ns,
            throughput_bps=rate,
            stop_reason="bytes" if is_by_bytes else "time",
            retransmits=sum(retransmits) if retransmits else None,
            tcp_rtt_ns=first.sender.rtt_ns,
            tcp_min_rtt_ns=first.sender.min_rtt_ns,
            congestion_control=first.congestion_control,
            method=first.method if method != "transfer" else "transfer",
            streams=streams,
            rtts_ns=tuple(rtt for one in several for rtt in one.rtts_ns),
            idle_rtt_ns=first.idle_rtt_ns,
        )

    # -- iperf3 -----------------------------------------------------------------------------------------------------

    async def _iperf3_leased(self, host: str, port: int, way: Way, lease: bytes) -> tuple[Reading, ...] | Failed:
        """An iperf3 test while the other end's lease is held, where one of our servers stands beside its iperf3."""
        place = (host, port)
        if place in self._strangers:
            return await self._iperf3(host, port, way)
        try:
            async with held_lease(host, port + 1, lease, self.longest_s(host, port)):
                return await self._iperf3(host, port, way)
        except ServerBusy as error:
            return Failed("iperf3", str(error), is_busy=True)
        except TestFailed:  # nobody of ours is there: iperf3's own word, that it is busy, must do
            self._strangers.add(place)
        return await self._iperf3(host, port, way)

    async def _iperf3(self, host: str, port: int, way: Way) -> tuple[Reading, ...] | Failed:
        try:
            run, by_bytes = await self._iperf3_run(host, port, way)
        except Iperf3Error as error:
            if not error.is_busy:
                self._fast.discard((host, port, way))
            why = str(error)
            return Failed("iperf3", why, source_of_words(why), error.is_busy)
        self._spoke_iperf3.add((host, port))
        return tuple(_reading(report, by_bytes=by_bytes) for report in run.reports)

    async def _iperf3_run(self, host: str, port: int, way: Way) -> tuple[Iperf3Run, bool]:
        """A reading, and whether the byte budget is what ended or held it.

        By time with half of the byte budget, then, where that shows the path to be faster or longer than that, again:
        a faster path gets the other half by bytes, a longer one as long as its round trips ask for. A path known to be
        fast gets its whole budget by bytes at once, one of known RTT the right time. iperf3 tells the RTT only of up tests.
        """
        config, key, duration_s = self._config, (host, port, way), self._duration_s(host, port)
        run = functools.partial(self._iperf3_once, host, port, way)
        if config.protocol == "udp":
            return await run(duration_s=duration_s, max_bytes=config.max_bytes), False
        if key in self._fast:
            try:
                last = await run(duration_s=duration_s, max_bytes=config.max_bytes, by_bytes=True)
            except Iperf3Error as error:
                self._fast.discard(key)
                if error.is_busy or _NOTHING_COUNTED not in str(error):
                    raise
            else:
                if last.reports[0].duration_ns > whole_seconds(duration_s) * SECOND:
                    self._fast.discard(key)
                return last, True
        last = await run(duration_s=duration_s, max_bytes=config.max_bytes // 2)
        least_ns = last.reports[0].rtt_min_ns
        if least_ns is not None:  # the least: the RTT under load would ask for ever longer tests
            self._rtt_ns[host, port] = least_ns
        longer_s = self._duration_s(host, port)
        by_bytes = last.is_bound and way != "bidir"  # by bytes iperf3 ends both ways when one has had them
        if by_bytes or whole_seconds(longer_s) > whole_seconds(duration_s):
            try:
                last = await run(duration_s=longer_s, max_bytes=config.max_bytes // 2, by_bytes=by_bytes)
            except Iperf3Error as error:
                if error.is_busy:
                    raise
                # The bytes were gone before iperf3 could count them; the first reading stands, as a lower bound.
        if by_bytes:
            self._fast.add(key)
        return last, by_bytes or last.is_bound

    async def _iperf3_once(self, host: str, port: int, way: Way, *, duration_s: float, max_bytes: int, by_bytes: bool = False) -> Iperf3Run:
        """One run and what it spent. Of one that failed under way, or was stopped, nobody knows: all that it was allowed."""
        config = self._config
        directions: tuple[Direction, ...] = ("up", "down") if way == "bidir" else (way,)
        went = dict.fromkeys(directions, max_bytes // len(directions))
        try:
            made = await run_iperf3(
                host,
                port,
                direction=way,
                duration_s=duration_s,
                max_bytes=max_bytes,
                by_bytes=by_bytes,
                congestion_control=config.congestion_control or None,
                streams=config.streams,
                udp_bps=round(config.udp_rate_mbps * 1e6) if config.protocol == "udp" else None,
                rtt_s=self._rtt_ns.get((host, port), 0) / SECOND,
            )
        except (NotIperf3, ToolMissing):
            went = {}
            raise
        except Iperf3Error as error:
            went = went if error.has_begun else {}
            raise
        else:
            went = {report.direction: max(report.transferred_bytes, report.sent_bytes or 0) for report in made.reports}
        finally:
            for direction, count in went.items():
                self.spent.add(direction, count)
        return made

    def note_rtt(self, host: str, port: int, rtt_ns: int) -> None:
        """What else is known of the RTT to a target: how long its tests must last, and how long iperf3's set-up takes."""
        self._rtt_ns[host, port] = rtt_ns

    def longest_s(self, host: str, port: int) -> float:
        """How long a test of the target may take at most, all tries of it."""
        return 3 * (self._duration_s(host, port) + 12.0)

    def _duration_s(self, host: str, port: int) -> float:
        """How long a test lasts, as far as the RTT is known."""
        rtt_s = self._rtt_ns.get((host, port), 0) / SECOND
        return max(self._config.duration_s, min(self._config.min_round_trips * rtt_s, 60.0))


async def _together(jobs: Iterable[Coroutine[Any, Any, _Made]]) -> list[_Made]:
    """What all of them made; where one fails, or the caller is stopped, the others are too.

    They have ended before the first error is raised: what went on would be in nobody's books, and under the next test.
    """
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reading(report: Iperf3Report, *, by_bytes: bool) -> Reading:
    return Reading(
        tool="iperf3",
        direction=report.direction,
        transferred_bytes=report.transferred_bytes,
        duration_ns=report.duration_ns,
        throughput_bps=report.throughput_bps,
        stop_reason="bytes" if by_bytes else "time",
        retransmits=report.retransmits,
        tcp_rtt_ns=report.rtt_ns,
        tcp_min_rtt_ns=report.rtt_min_ns,
        congestion_control=report.congestion_control,
        protocol=report.protocol,
        streams=report.streams,
        is_bidirectional=report.is_bidirectional,
        udp_packets=report.udp_packets,
        udp_lost_packets=report.udp_lost_packets,
        udp_jitter_ns=report.udp_jitter_ns,
    )
