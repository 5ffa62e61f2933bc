"""The throughput probe: bulk TCP transfers to and from a target, as ThroughputResults."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from typing import Literal

from probes.model import Target, Vantage
from probes.throughput.bulk import NotBuiltin, ServerBusy, TestFailed, run_test
from probes.throughput.config import ThroughputConfig
from probes.throughput.iperf3 import NotIperf3, find_iperf3, iperf3_version, run_iperf3, whole_seconds
from probes.throughput.iperf3_json import Iperf3Error, Iperf3Report
from probes.throughput.wire import Hello
from records.batch import Line
from records.errors import ConfigError, ToolMissing
from records.measurement import ThroughputResult
from records.units import SECOND

__all__ = ["BUILTIN_ENGINE", "ThroughputProbe"]

BUILTIN_ENGINE = "isochrone-throughput/1"

Direction = Literal["up", "down"]


class ThroughputProbe:
    """Tests one target at a time, one direction after the other; calls that come meanwhile wait their turn.

    A server that is running another agent's test is asked again for `busy_wait_s`, then the result is an error that
    says so. Which tool a target speaks, and whether its path is faster than the byte budget, is remembered.
    once() raises ConfigError for a target without a throughput port.
    """

    name = "throughput"

    def __init__(self, config: ThroughputConfig) -> None:
        self._config = config
        self._lease: asyncio.Lock | None = None
        self._builtin_targets: set[tuple[str, int]] = set()
        self._fast: set[tuple[str, int, Direction]] = set()
        self._rtt_ns: dict[tuple[str, int], int] = {}

    async def open(self) -> None:
        """Raises ToolMissing when iperf3 is asked for and absent."""
        self._lease = asyncio.Lock()
        if self._config.tool == "iperf3" and find_iperf3() is None:
            raise ToolMissing("iperf3 is not installed; install it with: apt-get install iperf3, or set tool = 'builtin'")

    async def close(self) -> None:
        """Nothing is kept open between tests."""

    async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]:
        """One ThroughputResult for each direction of the configuration."""
        if target.throughput_port is None:
            raise ConfigError(f"target {target.site} has no throughput_port; give it the port of its throughput server, such as 5201")
        if self._lease is None:
            self._lease = asyncio.Lock()
        directions: tuple[Direction, ...] = ("up", "down") if self._config.direction == "both" else (self._config.direction,)  # type: ignore[assignment]
        results = []
        async with self._lease:
            for direction in directions:
                results.append(await self._patiently(target, target.throughput_port, vantage, direction))  # noqa: PERF401  one after the other
        return tuple(results)

    async def _patiently(self, target: Target, port: int, vantage: Vantage, direction: Direction) -> ThroughputResult:
        """Ask a busy server again until the patience is over."""
        until = time.monotonic() + self._config.busy_wait_s
        while True:
            result, is_busy = await self._try(target, port, vantage, direction)
            pause_s = random.uniform(0.2, 0.6)  # noqa: S311  two agents that wait must not wake together
            if not is_busy or time.monotonic() + pause_s > until:
                return result
            await asyncio.sleep(pause_s)

    async def _try(self, target: Target, port: int, vantage: Vantage, direction: Direction) -> tuple[ThroughputResult, bool]:
        """One test with the tool of this target: (result, whether trying again soon may help)."""
        started_at_ns, place, tool = time.time_ns(), (target.address, port), self._config.tool
        if tool == "auto":
            tool = "builtin" if find_iperf3() is None or place in self._builtin_targets else "iperf3"
        hung_up = ""
        if tool == "iperf3":
            try:
                return await self._iperf3(target, port, vantage, direction)
            except NotIperf3 as error:
                hung_up = str(error)
                if self._config.tool == "iperf3":
                    why = f"what listens there is no iperf3 server ({hung_up})"
                    return _failure(target, port, vantage, direction, "iperf3", started_at_ns, why), False
        try:
            result, is_busy = await self._builtin(target, port, vantage, direction)
        except NotBuiltin as error:
            self._builtin_targets.discard(place)
            if hung_up and error.is_iperf3:  # it is iperf3 after all, between two tests
                return _failure(target, port, vantage, direction, "iperf3", started_at_ns, hung_up), True
            return _failure(target, port, vantage, direction, "builtin", started_at_ns, str(error)), False
        if hung_up and result.stop_reason != "error":
            self._builtin_targets.add(place)
        return result, is_busy

    async def _iperf3(self, target: Target, port: int, vantage: Vantage, direction: Direction) -> tuple[ThroughputResult, bool]:
        started_at_ns = time.time_ns()
        try:
            report, by_bytes = await self._iperf3_report(target, port, direction)
        except Iperf3Error as error:
            if not error.is_busy:
                self._fast.discard((target.address, port, direction))
            return _failure(target, port, vantage, direction, "iperf3", started_at_ns, str(error)), error.is_busy
        header = vantage.header(target, measured=_place(target, port), started_at_ns=started_at_ns, engine=_engine("iperf3"))
        result = ThroughputResult(
            **header,
            tool="iperf3",
            direction=direction,
            transferred_bytes=report.transferred_bytes,
            duration_ns=report.duration_ns,
            throughput_bps=report.throughput_bps,
            stop_reason="bytes" if by_bytes else "time",
            retransmits=report.retransmits,
            tcp_rtt_ns=report.rtt_ns,
            tcp_min_rtt_ns=report.rtt_min_ns,
            congestion_control=report.congestion_control,
        )
        return result, False

    async def _iperf3_report(self, target: Target, port: int, direction: Direction) -> tuple[Iperf3Report, bool]:
        """A reading, and whether the byte budget is what ended or held it.

        By time with half of the byte budget, then, where that shows the path to be faster or longer than that, again:
        a faster path gets the other half by bytes, a longer one as long as its round trips ask for. A path known to be
        fast gets its whole budget by bytes at once, one of known RTT the right time. iperf3 tells the RTT only of up tests.
        """
        config, key, duration_s = self._config, (target.address, port, direction), self._duration_s(target, port)
        run = functools.partial(run_iperf3, target.address, port, direction=direction, congestion_control=config.congestion_control or None)
        if key in self._fast:
            report = (await run(duration_s=duration_s, max_bytes=config.max_bytes, by_bytes=True)).report
            if report.duration_ns > whole_seconds(duration_s) * SECOND:
                self._fast.discard(key)
            return report, True
        last = await run(duration_s=duration_s, max_bytes=config.max_bytes // 2)
        if last.report.rtt_min_ns is not None:  # the least: the RTT under load would ask for ever longer tests
            self._rtt_ns[target.address, port] = last.report.rtt_min_ns
        longer_s = self._duration_s(target, port)
        by_bytes = last.is_bound
        if by_bytes or whole_seconds(longer_s) > whole_seconds(duration_s):
            try:
                last = await run(duration_s=longer_s, max_bytes=config.max_bytes // 2, by_bytes=by_bytes)
            except Iperf3Error as error:
                if error.is_busy:
                    raise
                # The bytes were gone before iperf3 could count them; the first reading stands, as a lower bound.
        if by_bytes or last.is_bound:
            self._fast.add(key)
        return last.report, by_bytes or last.is_bound

    def _duration_s(self, target: Target, port: int) -> float:
        """How long a test lasts, as far as the RTT is known."""
        rtt_s = self._rtt_ns.get((target.address, port), 0) / SECOND
        return max(self._config.duration_s, min(self._config.min_round_trips * rtt_s, 60.0))

    async def _builtin(self, target: Target, port: int, vantage: Vantage, direction: Direction) -> tuple[ThroughputResult, bool]:
        config, started_at_ns = self._config, time.time_ns()
        hello = Hello(
            direction=direction,
            duration_ms=round(config.duration_s * 1000),
            max_bytes=config.max_bytes,
            congestion_control=config.congestion_control or None,
        )
        try:
            measured = await run_test(target.address, port, hello, config.min_round_trips)
        except NotBuiltin:
            raise
        except TestFailed as error:
            return _failure(target, port, vantage, direction, "builtin", started_at_ns, str(error)), isinstance(error, ServerBusy)
        if measured.transferred_bytes <= 0 or measured.duration_ns <= 0:
            why = "too little arrived to tell a rate: give the test more time or bytes"
            return _failure(target, port, vantage, direction, "builtin", started_at_ns, why), False
        header = vantage.header(target, measured=_place(target, port), started_at_ns=started_at_ns, engine=BUILTIN_ENGINE)
        result = ThroughputResult(
            **header,
            tool="builtin",
            direction=direction,
            transferred_bytes=measured.transferred_bytes,
            duration_ns=measured.duration_ns,
            throughput_bps=measured.transferred_bytes * 8 * SECOND // measured.duration_ns,
            stop_reason="bytes" if measured.transferred_bytes >= config.max_bytes else "time",
            retransmits=measured.sender.retransmits,
            tcp_rtt_ns=measured.sender.rtt_ns,
            tcp_min_rtt_ns=measured.sender.min_rtt_ns,
            congestion_control=measured.congestion_control,
        )
        return result, False


def _place(target: Target, port: int) -> str:
    return f"[{target.address}]:{port}" if ":" in target.address else f"{target.address}:{port}"


def _engine(tool: Literal["iperf3", "builtin"]) -> str:
    path = find_iperf3()
    return f"iperf3/{iperf3_version(path)}" if tool == "iperf3" and path else BUILTIN_ENGINE


def _failure(
    target: Target, port: int, vantage: Vantage, direction: Direction, tool: Literal["iperf3", "builtin"], started_at_ns: int, why: str
) -> ThroughputResult:
    """A test that gave no rate."""
    return ThroughputResult(
        **vantage.header(target, measured=_place(target, port), started_at_ns=started_at_ns, engine=_engine(tool)),
        tool=tool,
        direction=direction,
        transferred_bytes=0,
        duration_ns=max(0, time.time_ns() - started_at_ns),
        throughput_bps=None,
        stop_reason="error",
        error=why,
    )
