"""The agent's daemon: owns the clock, the tasks and the way to stop.

What runs in it, all on one event loop: the schedule starts rounds; the keeper makes the spool durable once a second and
seals batches; the uplink sends them; the status says how the agent is. A stop is orderly: no new round, a few seconds
for the running ones, a last status with the final counts, everything sealed, and what can be sent is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import signal
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from probes.client import CollectorClient
from probes.config import AgentConfig, ProbeSettings
from probes.limits import PacketLimits
from probes.model import Target, Vantage, new_boot_id
from probes.registry import PROBE_TYPES
from probes.runner import Guard, Runner, Skipped, Tally
from probes.schedule import Job, Round, Schedule
from probes.serve import serving
from probes.spool import Spool
from probes.status import LoopLag, Vitals, clock_error_ns, grade, product_version
from probes.uplink import Uplink
from records.batch import Line, encode_line, type_of
from records.errors import NotPermitted
from records.measurement import PROBE_TYPES as MEASUREMENT_TYPES
from records.measurement import AgentStatus
from records.units import SECOND

__all__ = ["Agent", "Summary", "run_agent"]

log = logging.getLogger("isochrone.agent")

#: How long running measurements may go on after the stop.
_LAST_ROUNDS_S = 3.0
_SYNC_S = 1.0
#: While the collector takes nothing there is no hurry: fewer, larger segments then.
_OFFLINE_AGE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run came to: measurements made by type, batches the collector took, batches and bytes that still wait."""

    produced: dict[str, int]
    stored_batches: int
    waiting_batches: int
    spool_bytes: int
    dropped_measurements: int


class Agent:
    """One life of an agent.

    config  checked
    boot    of this life; a fresh one unless given
    rng     for the uplink's back-off
    """

    def __init__(self, config: AgentConfig, *, boot: str | None = None, rng: random.Random | None = None) -> None:
        self._config = config
        self._vantage = Vantage(agent=config.agent.id, site=config.agent.site, boot=boot or new_boot_id())
        # Wall-clock phase, monotonic progress: restarts keep the phase, and a clock that is set moves no round.
        self._started_ns = time.monotonic_ns()
        self._epoch_ns = time.time_ns() - self._started_ns
        self._rng = rng or random.Random()  # noqa: S311  back-off, not secrets
        self._produced = dict.fromkeys(MEASUREMENT_TYPES, 0)
        self._skipped_in_queue = 0
        self._rounds = 0
        self._running: set[asyncio.Task[None]] = set()
        self._lag = LoopLag()
        self._reported = (0, 0, 0, 0)  # rounds, skipped, dropped, not stored: at the last status

    async def run(self, stop: asyncio.Event) -> Summary:
        """Measure until `stop` is set, then end in order.

        Raises NotPermitted when no probe type can be opened at all, ConfigError and NotPermitted of the spool and of
        what is to be served.
        """
        config = self._config
        with Spool(
            config.agent.spool_dir,
            agent=config.agent.id,
            boot=self._vantage.boot,
            max_bytes=config.agent.spool_max_bytes,
            segment_bytes=config.collector.batch_max_bytes,
        ) as spool:
            self._spool = spool
            if spool.waiting or spool.torn_lines:
                log.info("%d batches of earlier runs wait in the spool; %d torn lines dropped", spool.waiting, spool.torn_lines)
            client = CollectorClient(config.collector.url, token_file=config.collector.token_file)
            self._uplink = Uplink(spool, client, rng=self._rng)
            try:
                # What is served goes on until the very end: other agents may be measuring us while all are being stopped.
                async with serving(config.serve):
                    async with self._opened_runners() as runners:
                        await self._measure(runners, stop)
                    await self._send_rest()
            finally:
                await client.close()
            return Summary(
                produced=dict(self._produced),
                stored_batches=self._uplink.stored_batches,
                waiting_batches=spool.waiting,
                spool_bytes=spool.size_bytes,
                dropped_measurements=spool.dropped_measurements,
            )

    # -- the parts --------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _opened_runners(self) -> AsyncIterator[dict[str, Runner]]:
        """A runner for each ``[[probe]]``, by kind; probe types that cannot be opened are tried again later."""
        config = self._config
        limits = PacketLimits(
            total_per_s=config.limits.packets_per_second,
            per_target_per_s=config.limits.packets_per_second_per_target,
            largest_round=config.largest_round,
        )
        guard = Guard(is_private_allowed=config.agent.allow_private_targets)
        rooms = {name: asyncio.Semaphore(factory.at_once) for name, factory in PROBE_TYPES.items()}
        runners = {probe.kind: Runner(settings=probe, limits=limits, guard=guard, room=rooms[probe.type]) for probe in config.probes}
        try:
            for runner in runners.values():
                await runner.open()
            if runners and not any(runner.is_open for runner in runners.values()):
                first = next(iter(runners.values()))
                raise NotPermitted(f"no probe type can run here; {first.settings.kind}: {first.tally.error}")
            yield runners
        finally:
            for runner in runners.values():
                await runner.close()

    async def _measure(self, runners: dict[str, Runner], stop: asyncio.Event) -> None:
        self._runners = runners
        self._schedule = Schedule(self._vantage.agent, _jobs(self._config.probes), self._now_ns())
        targets = len(self._config.targets)
        log.info(
            "agent %s at %s (boot %s): %d targets, %s; collector %s",
            self._vantage.agent,
            self._vantage.site,
            self._vantage.boot,
            targets,
            ", ".join(runners) or "nothing to measure",
            self._config.collector.url,
        )
        gc.collect()
        gc.freeze()  # what is loaded now lives as long as the process: collections need not walk it
        background = [asyncio.create_task(part) for part in (self._lag.run(), self._keep_spool(), self._uplink.run(), self._say_status())]
        scheduler = asyncio.create_task(self._start_rounds())
        stopping = asyncio.create_task(stop.wait())
        try:
            # None of the parts ends by itself; if one fails, that is a fault of ours and must not go unseen.
            done, _ = await asyncio.wait({stopping, scheduler, *background}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
            await _cancel([scheduler])
            log.info("stopping: %d measurements are running", len(self._running))
            if self._running:
                await asyncio.wait(self._running, timeout=_LAST_ROUNDS_S)
        finally:
            await _cancel([stopping, scheduler, *self._running, *background])
        self._report()

    async def _start_rounds(self) -> None:
        """Start each round when it is due."""
        targets = {(probe.kind, target.site, target.medium): target for probe in self._config.probes for target in probe.targets}
        while True:
            due_ns = self._schedule.next_due_ns
            pause_s = 3600.0 if due_ns is None else (due_ns - self._now_ns()) / SECOND
            await asyncio.sleep(max(0.0, pause_s))
            for entry in self._schedule.due(self._now_ns()):
                job = entry.job
                task = asyncio.create_task(self._round(entry, targets[job.kind, job.site, job.medium]))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _round(self, entry: Round, target: Target) -> None:
        self._rounds += 1
        until_ns = entry.due_at_ns + entry.job.interval_ns - self._epoch_ns
        try:
            lines = await self._runners[entry.job.kind].once(target, self._vantage, until_ns=until_ns)
        except Skipped:
            self._skipped_in_queue += 1
            return
        try:
            self._keep(lines)
        except ValueError:
            log.exception("%s of %s over %s gave a number that cannot be written down", entry.job.kind, target.site, target.medium)

    def _keep(self, lines: Iterable[Line]) -> None:
        """Into the spool, and counted as produced whether the spool had room or not."""
        encoded, measurements = [], 0
        for line in lines:
            encoded.append(encode_line(line))
            if not isinstance(line, AgentStatus):
                self._produced[type_of(line)] += 1
                measurements += 1
        if encoded and not self._spool.append(encoded, measurements=measurements, now_ns=time.monotonic_ns()):
            log.error(
                "spool %s takes nothing more: %d measurements dropped so far", self._spool.directory, self._spool.dropped_measurements
            )

    async def _keep_spool(self) -> None:
        """Once a second: durable, and sealed what is old or large enough."""
        max_age_s = self._config.collector.batch_max_age_s
        trouble = ""
        while True:
            await asyncio.sleep(min(_SYNC_S, max_age_s / 2))
            opened_at_ns = self._spool.opened_at_ns
            age_s = 0.0 if opened_at_ns is None else (time.monotonic_ns() - opened_at_ns) / SECOND
            is_ripe = age_s >= (max(max_age_s, _OFFLINE_AGE_S) if self._uplink.trouble else max_age_s)
            try:
                sealed = await asyncio.to_thread(self._spool.seal if is_ripe else self._spool.seal_full)
                if not is_ripe:
                    await asyncio.to_thread(self._spool.sync)
            except OSError as error:
                if str(error) != trouble:
                    log.error("spool %s: %s; trying again", self._spool.directory, error)  # noqa: TRY400  no fault of ours
                trouble = str(error)
                continue
            trouble = ""
            if sealed:
                self._uplink.wake()

    async def _say_status(self) -> None:
        while True:
            self._report()
            await asyncio.sleep(self._config.agent.status_interval_s)

    def _report(self) -> None:
        """Put an AgentStatus into the spool; the counts of the grade start anew."""
        tallies = {kind: runner.tally for kind, runner in self._runners.items()}
        for runner in self._runners.values():
            runner.tally = Tally()
        skipped = self._schedule.skipped_rounds + self._skipped_in_queue
        not_stored = self._uplink.rejected_measurements + self._uplink.quarantined_measurements
        before = self._reported
        self._reported = (self._rounds + self._schedule.skipped_rounds, skipped, self._spool.dropped_measurements, not_stored)
        rounds, skipped_now, dropped_now, not_stored_now = (now - then for now, then in zip(self._reported, before, strict=True))
        vitals = Vitals(
            loop_lag_p99_ns=self._lag.take_p99_ns(),
            clock_error_ns=clock_error_ns(),
            rounds=rounds,
            skipped=skipped_now,
            runs={kind: tally.runs for kind, tally in tallies.items()},
            failures={kind: tally.failures for kind, tally in tallies.items()},
            errors={kind: tally.error for kind, tally in tallies.items()},
            dropped=dropped_now,
            not_stored=not_stored_now,
        )
        verdict, reasons = grade(vitals)
        status = AgentStatus(
            agent=self._vantage.agent,
            site=self._vantage.site,
            boot=self._vantage.boot,
            at_ns=time.time_ns(),
            version=product_version(),
            uptime_ns=time.monotonic_ns() - self._started_ns,
            produced=dict(self._produced),
            skipped_rounds=skipped,
            spool_bytes=self._spool.size_bytes,
            dropped_measurements=self._spool.dropped_measurements,
            loop_lag_p99_ns=vitals.loop_lag_p99_ns,
            clock_error_ns=vitals.clock_error_ns,
            grade=verdict,
            reasons=reasons,
        )
        self._keep([status])

    async def _send_rest(self) -> None:
        """Seal everything and send what can be sent in the time the configuration gives."""
        try:
            await asyncio.to_thread(self._spool.seal)
            async with asyncio.timeout(self._config.agent.drain_s):
                pause_s = await self._uplink.drain()
                while pause_s is not None:
                    await asyncio.sleep(pause_s)
                    pause_s = await self._uplink.drain()
        except TimeoutError:
            log.warning("%d batches stay in %s and are sent at the next start", self._spool.waiting, self._spool.directory)
        except OSError as error:
            log.warning("spool %s: %s; the next start goes on from there", self._spool.directory, error)

    def _now_ns(self) -> int:
        return time.monotonic_ns() + self._epoch_ns


def _jobs(probes: Iterable[ProbeSettings]) -> list[Job]:
    return [
        Job(site=target.site, medium=target.medium, kind=probe.kind, interval_ns=probe.interval_ns)
        for probe in probes
        for target in probe.targets
    ]


async def _cancel(tasks: Iterable[asyncio.Task[object]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run_agent(config: AgentConfig, *, seconds: float | None = None) -> Summary:
    """Run an agent until SIGTERM or SIGINT, or for `seconds`; a second signal ends it at once (nothing durable is lost)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    me = asyncio.current_task()
    assert me is not None

    def on_signal() -> None:
        if stop.is_set():
            me.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    timer = None if seconds is None else loop.call_later(seconds, stop.set)
    try:
        return await Agent(config).run(stop)
    finally:
        if timer is not None:
            timer.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
