"""The agent's daemon: owns the tasks, the way to another configuration and the way to stop.

What runs in it, all on one event loop: the rounds are started when they are due; the keeper makes the spool durable once a
second and seals batches; the uplink sends them; the status says how the agent is. SIGHUP brings another configuration, whole
or not at all. A stop is orderly and bounded: no new round, a few seconds for the running ones, a last status with the final
counts, everything sealed, and what can be sent is sent.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.client import CollectorClient
from probes.clock import ClockSteps, Dating, clock_error_ns
from probes.keeper import Keeper
from probes.model import Vantage, new_boot_id
from probes.notify import Notifier
from probes.plan import schedule_ns
from probes.rounds import Rounds
from probes.serve import serving
from probes.settings import AgentConfig
from probes.spool import Spool
from probes.status import CpuSteal, LoopLag, Vitals, grade, product_version
from probes.steering import Steering
from probes.threads import DaemonThreads
from probes.uplink import Uplink
from records.batch import Line, encode_line, type_of
from records.errors import ConfigError, IsochroneError
from records.measurement import PROBE_TYPES as MEASUREMENT_TYPES
from records.measurement import AgentStatus, FailureSource, TsSource

__all__ = ["Agent", "Summary", "run_agent"]

log = logging.getLogger("isochrone.agent")

#: How long running measurements may go on after the stop.
_LAST_ROUNDS_S = 3.0
#: Look-ups that probes make at the same time; a dead resolver holds each for many seconds.
_LOOK_UPS = 16


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

    config    checked
    boot      of this life; a fresh one unless given
    rng       for the uplink's back-off
    notifier  to systemd; by the environment unless given
    """

    def __init__(
        self, config: AgentConfig, *, boot: str | None = None, rng: random.Random | None = None, notifier: Notifier | None = None
    ) -> None:
        self._steering = Steering(config)
        config = self._steering.resume(config)
        self._config = config
        self._changing = asyncio.Lock()
        self._vantage = Vantage(agent=config.agent.id, site=config.agent.site, boot=boot or new_boot_id())
        self._started_ns = time.monotonic_ns()
        self._rng = rng or random.Random()  # noqa: S311  back-off, not secrets
        self._notifier = notifier or Notifier()
        self._produced = dict.fromkeys(MEASUREMENT_TYPES, 0)
        self._rounds = Rounds(config, self._vantage, self._keep)
        self._lag, self._steal, self._clock = LoopLag(self._rounds.phase_ns), CpuSteal(), ClockSteps()
        self._dating = Dating()
        self._reported = (0, 0, 0, 0)  # rounds, skipped, dropped, not stored: at the last status
        self._stamps: Counter[TsSource] = Counter()
        self._blamed: Counter[FailureSource] = Counter()
        self._opted_out_rounds = 0
        self._wants_reload = asyncio.Event()
        self._old_clients: list[CollectorClient] = []

    def reload_soon(self) -> None:
        """Read the configuration's file again; what comes of it is logged."""
        self._wants_reload.set()

    async def run(self, stop: asyncio.Event) -> Summary:
        """Measure until `stop` is set, then end in order.

        Raises NotPermitted when no probe type can be opened at all, ConfigError and NotPermitted of the spool and of
        what is to be served.
        """
        asyncio.get_running_loop().set_default_executor(DaemonThreads(_LOOK_UPS, "look-up"))
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
            self._keeper = Keeper(spool, max_age_s=config.collector.batch_max_age_s, phase_ns=self._rounds.phase_ns)
            self._client = _client(config)
            self._uplink = Uplink(spool, self._client, rng=self._rng, on_disk=self._keeper.on_disk)
            try:
                # What is served goes on until the very end: other agents may be measuring us while all are being stopped.
                async with serving(config.serve):
                    try:
                        await self._rounds.open()
                        await self._measure(stop)
                    finally:
                        await self._rounds.close()
                    await self._send_rest()
            finally:
                for client in (self._client, *self._old_clients):
                    await client.close()
                self._keeper.close()
            return Summary(
                produced=dict(self._produced),
                stored_batches=self._uplink.stored_batches,
                waiting_batches=spool.waiting,
                spool_bytes=spool.size_bytes,
                dropped_measurements=spool.dropped_measurements,
            )

    # -- the parts --------------------------------------------------------------------------------------------------

    async def _measure(self, stop: asyncio.Event) -> None:
        said = self._describe()
        log.info("agent %s at %s (boot %s): %s", self._vantage.agent, self._vantage.site, self._vantage.boot, said)
        gc.collect()
        gc.freeze()  # what is loaded now lives as long as the process: collections need not walk it
        parts: list[Coroutine[Any, Any, None]] = [
            self._lag.run(),
            self._keeper.run(is_offline=lambda: self._uplink.trouble is not None, sealed=self._uplink.wake),
            self._uplink.run(),
            self._say_status(),
            self._notifier.watch(),
        ]
        steering = self._steering.run(lambda: self._config, lambda: self._client, self._go_on_with)
        background = [asyncio.create_task(part) for part in parts]
        starters = [asyncio.create_task(part) for part in (self._rounds.run(), self._reload_when_asked(), steering)]
        stopping = asyncio.create_task(stop.wait())
        self._notifier.ready(said)
        try:
            # None of the parts ends by itself; if one fails, that is a fault of ours and must not go unseen.
            done, _ = await asyncio.wait({stopping, *starters, *background}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
            self._notifier.stopping("stopping: last rounds, then what waits is sent")
            await _cancel(starters)
            log.info("stopping: %d measurements are running", self._rounds.running)
            await self._rounds.finish(_LAST_ROUNDS_S)
            try:
                await self._keeper.on_disk(self._rounds.remember)
            except OSError as error:
                log.warning("what is known of the targets is not kept: %s", error)
        finally:
            await _cancel([stopping, *starters, *background])
        self._report()

    def _describe(self) -> str:
        config = self._config
        kinds = ", ".join(probe.kind for probe in config.probes) or "nothing to measure"
        pushed = "" if config.generation is None else f"; configuration of generation {config.generation}"
        return f"{len(config.targets)} targets, {kinds}; collector {config.collector.url}{pushed}"

    def _keep(self, lines: Iterable[Line]) -> None:
        """Into the spool, and counted as produced whether the spool had room or not."""
        encoded, measurements = [], 0
        for line in self._dating.dated(lines):
            encoded.append(encode_line(line))
            if not isinstance(line, AgentStatus):
                self._produced[type_of(line)] += 1
                measurements += 1
        before = self._spool.dropped_measurements
        if not encoded:
            return
        is_kept = self._spool.append(
            encoded, measurements=measurements, now_ns=time.monotonic_ns(), wall_offset_ns=self._dating.wall_offset_ns
        )
        if not is_kept and _is_worth_saying(before):
            log.error(
                "spool %s takes nothing more: %d measurements dropped so far", self._spool.directory, self._spool.dropped_measurements
            )

    # -- another configuration --------------------------------------------------------------------------------------

    async def _reload_when_asked(self) -> None:
        while True:
            await self._wants_reload.wait()
            self._wants_reload.clear()
            self._notifier.reloading()
            try:
                config = await asyncio.to_thread(self._steering.load)
                async with self._changing:
                    await self._change(config)
            except IsochroneError as error:
                log.error("not reloaded, the old configuration goes on: %s", error)  # noqa: TRY400  no fault of ours
                self._notifier.ready(f"{self._describe()} (a new configuration was refused: {error})")
            else:
                log.info("reloaded: %s", self._describe())
                self._notifier.ready(self._describe())

    async def _go_on_with(self, config: AgentConfig) -> None:
        """A configuration that was pushed. Raises as `_change`."""
        async with self._changing:
            await self._change(config)
            self._notifier.ready(self._describe())

    async def _change(self, config: AgentConfig) -> None:
        """Go on with another configuration, whole or not at all. Raises ConfigError and NotPermitted."""
        old = self._config
        for name, mine, new in (
            ("agent.id", old.agent.id, config.agent.id),
            ("agent.site", old.agent.site, config.agent.site),
            ("agent.spool_dir", old.agent.spool_dir, config.agent.spool_dir),
            ("[serve]", old.serve, config.serve),
        ):
            if mine != new:
                raise ConfigError(f"{name} is changed in {config.path}: that takes a restart (`systemctl restart isochrone-agent`)")
        await self._rounds.change(config)
        self._config = config
        self._spool.max_bytes, self._spool.segment_bytes = config.agent.spool_max_bytes, config.collector.batch_max_bytes
        self._keeper.max_age_s = config.collector.batch_max_age_s
        if _way(old) != _way(config):
            # The old one may be sending: it is closed at the end.
            self._old_clients.append(self._client)
            self._client = _client(config)
            self._uplink.use(self._client)

    # -- status -----------------------------------------------------------------------------------------------------

    async def _say_status(self) -> None:
        while True:
            self._report()
            await asyncio.sleep(self._config.agent.status_interval_s)

    def _report(self) -> None:
        """Put an AgentStatus into the spool; the counts of the grade start anew."""
        tallies = self._rounds.take_tallies()
        stamps: Counter[TsSource] = Counter()
        for tally in tallies.values():
            stamps.update(tally.stamps)
            self._blamed.update(tally.blamed)
            self._opted_out_rounds += tally.opted_out
        self._stamps.update(stamps)
        not_stored = self._uplink.rejected_measurements + self._uplink.quarantined_measurements
        before = self._reported
        self._reported = (self._rounds.due, self._rounds.skipped, self._spool.dropped_measurements, not_stored)
        rounds, skipped_now, dropped_now, not_stored_now = (now - then for now, then in zip(self._reported, before, strict=True))
        vitals = Vitals(
            loop_lag_p99_ns=self._lag.take_p99_ns(),
            round_lag_p99_ns=self._rounds.lateness.take_p99_ns(),
            steal_ratio=self._steal.take_ratio(),
            clock_error_ns=clock_error_ns(),
            clock_step_ns=self._clock.take_ns(),
            stamps=stamps,
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
            skipped_rounds=self._rounds.skipped,
            spool_bytes=self._spool.size_bytes,
            dropped_measurements=self._spool.dropped_measurements,
            loop_lag_p99_ns=vitals.loop_lag_p99_ns,
            clock_error_ns=vitals.clock_error_ns,
            grade=verdict,
            reasons=reasons,
            round_lag_p99_ns=vitals.round_lag_p99_ns,
            steal_ratio=vitals.steal_ratio,
            stamps={str(name): count for name, count in self._stamps.items()},
            failures={str(source): count for source, count in self._blamed.items()},
            opted_out_rounds=self._opted_out_rounds,
            shifts=self._rounds.mesh.shifts,
            config_generation=self._config.generation,
            config_refused=self._steering.refused,
            schedule=schedule_ns(self._config.probes),
        )
        self._keep([status])

    async def _send_rest(self) -> None:
        """Seal everything and send what can be sent in the time the configuration gives."""
        try:
            async with asyncio.timeout(_LAST_ROUNDS_S + self._config.agent.drain_s):
                await self._keeper.on_disk(self._spool.seal)
            async with asyncio.timeout(self._config.agent.drain_s):
                pause_s = await self._uplink.drain()
                while pause_s is not None:
                    await asyncio.sleep(pause_s)
                    pause_s = await self._uplink.drain()
        except TimeoutError:
            log.warning("%d batches stay in %s and are sent at the next start", self._spool.waiting, self._spool.directory)
        except OSError as error:
            log.warning("spool %s: %s; the next start goes on from there", self._spool.directory, error)


def _client(config: AgentConfig) -> CollectorClient:
    url, token_file, ca_file = _way(config)
    return CollectorClient(url, token_file=token_file, ca_file=ca_file)


def _way(config: AgentConfig) -> tuple[str, Path | None, Path | None]:
    """Where the collector is, and how one comes in."""
    return config.collector.url, config.collector.token_file, config.collector.ca_file


def _is_worth_saying(dropped: int) -> bool:
    """The first loss, and then ever more rarely: a full disk must not fill the journal too."""
    return dropped == 0 or dropped & (dropped - 1) == 0


async def _cancel(tasks: Iterable[asyncio.Task[object]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run_agent(config: AgentConfig, *, seconds: float | None = None) -> Summary:
    """Run an agent until SIGTERM or SIGINT, or for `seconds`.

    SIGHUP reads the configuration's file again. A second SIGTERM or SIGINT ends it at once; nothing durable is lost.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    me = asyncio.current_task()
    assert me is not None
    agent = Agent(config)

    def on_signal() -> None:
        if stop.is_set():
            me.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, agent.reload_soon)
    timer = None if seconds is None else loop.call_later(seconds, stop.set)
    try:
        return await agent.run(stop)
    finally:
        if timer is not None:
            timer.cancel()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
