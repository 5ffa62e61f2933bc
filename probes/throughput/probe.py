"""The throughput probe: full tests and, between them, estimates, within a budget and under a lease, as ThroughputResults."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from pathlib import Path

from probes.model import Target, Vantage
from probes.throughput.attempt import Attempts, Failed, Reading, Tool, Way
from probes.throughput.budget import Booking, Budget
from probes.throughput.config import ThroughputConfig
from probes.throughput.iperf3 import find_iperf3, iperf3_version
from probes.throughput.lease import HOST, Lease, LeaseHeld, local_address, new_name
from probes.throughput.load import Loaded, LoadMeter
from records.batch import Line
from records.errors import ConfigError, ToolMissing
from records.measurement import FailureSource, ThroughputResult

__all__ = ["BUILTIN_ENGINE", "ThroughputProbe"]

BUILTIN_ENGINE = "isochrone-throughput/2"
log = logging.getLogger("isochrone.agent")


class ThroughputProbe:
    """Tests one target at a time, one direction after the other; calls that come meanwhile wait their turn.

    A server that is running another agent's test is asked again for `busy_wait_s`, then the result is an error that says so. Every
    `full_every`th measurement of a target is a full test, the others are estimates. What would go beyond the day's budget is
    not begun: the result says so.

    once() raises ConfigError for a target without a throughput port.
    """

    name = "throughput"

    def __init__(self, config: ThroughputConfig, *, lease: Lease = HOST) -> None:
        self._config = config
        self._host_lease = lease
        self._turn: asyncio.Lock | None = None
        self._attempts = Attempts(config)
        self._meter = LoadMeter()
        self._budget: Budget | None = None
        self._rounds: Counter[Target] = Counter()

    async def open(self) -> None:
        """Raises ToolMissing when iperf3 is asked for and absent, ConfigError when the day's budget cannot be read."""
        config = self._config
        self._turn = asyncio.Lock()
        if config.tool == "iperf3" and find_iperf3() is None:
            raise ToolMissing("iperf3 is not installed; install it with: apt-get install iperf3, or set tool = 'builtin'")
        if config.bytes_per_day or config.usd_per_day:
            self._budget = Budget(
                bytes_per_day=config.bytes_per_day,
                usd_per_day=config.usd_per_day,
                egress_usd_per_gb=config.egress_usd_per_gb,
                path=Path(config.budget_file) if config.budget_file else None,
            )
        if config.load_rtt:
            await self._meter.open()

    async def close(self) -> None:
        """Close what measures the latency under load; idempotent."""
        await self._meter.close()

    async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]:
        """One ThroughputResult for each direction of the configuration."""
        if target.throughput_port is None:
            raise ConfigError(f"target {target.site} has no throughput_port; give it the port of its throughput server, such as 5201")
        if self._turn is None:
            self._turn = asyncio.Lock()
        ways: tuple[Way, ...] = ("up", "down") if self._config.direction == "both" else (self._config.direction,)  # type: ignore[assignment]
        results: list[ThroughputResult] = []
        async with self._turn:
            is_full = self._rounds[target] % self._config.full_every == 0 if self._config.full_every else False
            self._rounds[target] += 1
            for way in ways:
                results += await self._measure(target, target.throughput_port, vantage, way, is_full=is_full)
        return tuple(results)

    async def _measure(self, target: Target, port: int, vantage: Vantage, way: Way, *, is_full: bool) -> list[ThroughputResult]:
        """One test within the budget and under the lease. However it ends, what it has moved stays in the books."""
        spent, booking = self._attempts.spent, Booking(self._budget, vantage.site, target.site)
        spent.up = spent.down = 0
        try:
            return await self._under_lease(target, port, vantage, way, booking, is_full=is_full)
        finally:
            booking.settle(up_bytes=spent.up, down_bytes=spent.down)

    async def _under_lease(
        self, target: Target, port: int, vantage: Vantage, way: Way, booking: Booking, *, is_full: bool
    ) -> list[ThroughputResult]:
        """Try under this host's lease, and again until the patience is over while the other end is busy.

        Between two tries the lease is given back: the other end may be waiting for just that. A try that was told of a busy end when
        it had moved something has used up its budget: the next one is asked for anew.
        """
        config, started_at_ns, spent = self._config, time.time_ns(), self._attempts.spent
        most = config.max_bytes if is_full else config.estimate_max_bytes
        up, down = most if way != "down" else 0, most if way != "up" else 0
        host, address = target.address, await local_address(target.address, port)
        until = time.monotonic() + config.busy_wait_s
        while True:
            begun_ns = time.time_ns()
            refusal = booking.ask(up_bytes=spent.up + up, down_bytes=spent.down + down)
            if refusal is not None:
                log.warning("throughput of %s is skipped: %s", target.site, refusal)
                return [_without(target, port, vantage, one, "builtin", started_at_ns, refusal, None) for one in _directions(way)]
            name, idle, loaded = new_name(), list[int](), list[int]()
            wait_s = max(0.0, until - time.monotonic())
            try:
                async with self._host_lease.awaited(
                    name, f"a test of {target.site}", self._attempts.longest_s(host, port), wait_s=wait_s, address=address
                ):
                    idle = await self._meter.idle(host)
                    if idle:
                        self._attempts.note_rtt(host, port, min(idle))
                    begun_ns = time.time_ns()
                    async with self._meter.during(host, loaded):
                        made = await (self._attempts.full if is_full else self._attempts.estimate)(host, port, way, name)
            except LeaseHeld as held:
                why = f"this host is busy with {held}; two tests at once would measure each other"
                return [_without(target, port, vantage, one, "builtin", started_at_ns, why, "agent") for one in _directions(way)]
            pause_s = random.uniform(0.2, 0.6)  # noqa: S311  two agents that wait must not wake together
            if not isinstance(made, Failed) or not made.is_busy or time.monotonic() + pause_s > until:
                break
            await asyncio.sleep(pause_s)
        if isinstance(made, Failed):
            return [_without(target, port, vantage, one, made.tool, begun_ns, made.why, made.source) for one in _directions(way)]
        return [_result(target, port, vantage, begun_ns, reading, idle, loaded, spent.up + spent.down) for reading in made]


def _directions(way: Way) -> tuple[Way, ...]:
    return ("up", "down") if way == "bidir" else (way,)


def _place(target: Target, port: int) -> str:
    return f"[{target.address}]:{port}" if ":" in target.address else f"{target.address}:{port}"


def _engine(tool: Tool) -> str:
    path = find_iperf3()
    return f"iperf3/{iperf3_version(path)}" if tool == "iperf3" and path else BUILTIN_ENGINE


def _result(
    target: Target, port: int, vantage: Vantage, started_at_ns: int, reading: Reading, idle: list[int], loaded: list[int], spent_bytes: int
) -> ThroughputResult:
    """A rate, with the latency that was measured beside it: by pings, or else by the connection itself."""
    load = Loaded.of(idle, loaded, "ping")
    if load.source is None and reading.idle_rtt_ns is not None:
        load = Loaded.of([reading.idle_rtt_ns], reading.rtts_ns, "tcp_info")
    header = vantage.header(target, measured=_place(target, port), started_at_ns=started_at_ns, engine=_engine(reading.tool))
    return ThroughputResult(
        **header,
        tool=reading.tool,
        direction=reading.direction,
        transferred_bytes=reading.transferred_bytes,
        duration_ns=reading.duration_ns,
        throughput_bps=reading.throughput_bps,
        stop_reason=reading.stop_reason,
        retransmits=reading.retransmits,
        tcp_rtt_ns=reading.tcp_rtt_ns,
        tcp_min_rtt_ns=reading.tcp_min_rtt_ns,
        congestion_control=reading.congestion_control,
        method=reading.method,
        is_estimate=reading.method != "transfer",
        protocol=reading.protocol,
        streams=reading.streams,
        is_bidirectional=reading.is_bidirectional,
        spent_bytes=spent_bytes,
        idle_rtt_ns=load.idle_rtt_ns,
        loaded_rtt_ns=load.loaded_rtt_ns,
        loaded_rtt_p95_ns=load.loaded_rtt_p95_ns,
        rtt_source=load.source,
        udp_packets=reading.udp_packets,
        udp_lost_packets=reading.udp_lost_packets,
        udp_jitter_ns=reading.udp_jitter_ns,
    )


def _without(
    target: Target, port: int, vantage: Vantage, way: Way, tool: Tool, started_at_ns: int, why: str, source: FailureSource | None
) -> ThroughputResult:
    """A test that gave no rate: failed, or, without a source, skipped."""
    return ThroughputResult(
        **vantage.header(target, measured=_place(target, port), started_at_ns=started_at_ns, engine=_engine(tool)),
        tool=tool,
        direction="down" if way == "down" else "up",
        transferred_bytes=0,
        duration_ns=max(0, time.time_ns() - started_at_ns),
        throughput_bps=None,
        stop_reason="skipped" if source is None else "error",
        error=why,
        failure_source=source,
    )
