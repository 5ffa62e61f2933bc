"""The rounds of an agent: when each is due, who runs it, within which limits, and how all of that changes under a running daemon."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable

from probes.blame import failure_source
from probes.guard import Guard
from probes.limits import PacketLimits
from probes.memory import recall, remember
from probes.mesh import Mesh, MeshProbe, TargetKey
from probes.model import Target, Vantage
from probes.pulse import Deadlines, on_grid
from probes.registry import PROBE_TYPES
from probes.runner import Runner, Skipped, Tally
from probes.schedule import Job, Round, Schedule, first_due_ns, phase_ns
from probes.settings import AgentConfig, ProbeSettings
from probes.status import Lateness
from records.batch import Line
from records.errors import NotPermitted
from records.units import SECOND

__all__ = ["Rounds"]

log = logging.getLogger("isochrone.agent")

#: How often the tiers are ranked, the faster ones ended and the paces brought in line.
_RANK_S = 10.0
_REMEMBER_EVERY_S = 300.0
#: How long what is measured with settings that are no more may go on.
_RETIRE_S = 60.0
_CLOSE_S = 2.0
_MOST_BEAT_NS = SECOND // 10
_AHEAD_NS = 1_000

#: By type: how many at once, and the semaphore that counts them.
_Rooms = dict[str, tuple[int, asyncio.Semaphore]]


class Rounds:
    """All rounds of one life of an agent.

    config   checked
    vantage  who measures
    keep     takes what is to be kept of a round
    """

    def __init__(self, config: AgentConfig, vantage: Vantage, keep: Callable[[Iterable[Line]], None]) -> None:
        self.started = 0
        self.lateness = Lateness()
        self._skipped_in_queue = 0
        self._config, self._vantage, self._keep = config, vantage, keep
        # Wall-clock phase, monotonic progress: restarts keep the phase, and a clock that is set moves no round.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        # Of the beats on the monotonic clock: of the grid, and the agent's own, so that those of one host do not beat together.
        self.phase_ns = on_grid(phase_ns(vantage.agent, "", "", "beat", _MOST_BEAT_NS))
        self._running: set[asyncio.Task[None]] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._fault: asyncio.Future[None] | None = None
        self._deadlines = Deadlines()
        self._guard = Guard(config.policy)
        self._limits = _limits(config)
        self._rooms: _Rooms = {}
        self._runners: dict[str, Runner] = {}
        self._targets: dict[tuple[str, str, str], Target] = {}

    # -- life -------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open every probe type; those that cannot be are tried again later. Raises NotPermitted when none can be."""
        config = self._config
        self._rooms = self._fitting_rooms(config)
        self._runners = {probe.kind: self._runner(probe, self._limits, self._rooms) for probe in config.probes}
        for runner in self._runners.values():
            await runner.open()
        if self._runners and not any(runner.is_open for runner in self._runners.values()):
            first = next(iter(self._runners.values()))
            raise NotPermitted(f"no probe type can run here; {first.settings.kind}: {first.trouble}")
        self._mesh = Mesh(config.mesh, *_mesh_parts(config), remembered=recall(config.agent.spool_dir))
        self._targets = _targets(config)
        self._beat_ns = _beat_ns(config)
        self._schedule = Schedule(self._vantage.agent, self._jobs(config), self._now_ns(), jitter=config.agent.jitter)
        _say_who_opted_out(config)

    async def run(self) -> None:
        """Start each round when it is due; ends only by being cancelled."""
        tender = asyncio.create_task(self._tend())
        self._fault = asyncio.get_running_loop().create_future()
        self._set_timer()
        try:
            await self._fault
        finally:
            self._fault = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            tender.cancel()
            await asyncio.gather(tender, return_exceptions=True)

    async def finish(self, within_s: float) -> None:
        """Let what is running end, for so long; then cancel it."""
        if self._running:
            await asyncio.wait(self._running, timeout=within_s)

    async def close(self) -> None:
        """Cancel what still runs and close every probe type; each has a moment, so that none can hold up the end."""
        tasks = [*self._running, *self._retiring]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for runner in self._runners.values():
            await _close(runner)
        self._guard.close()

    def remember(self) -> None:
        """Leave the next life what is known of the targets' RTTs. Raises OSError."""
        if (known := self._mesh.rtts_ns()) or self._mesh.targets():
            remember(self._config.agent.spool_dir, known)

    # -- another configuration --------------------------------------------------------------------------------------

    async def change(self, config: AgentConfig) -> None:
        """Go on with another configuration, whole or not at all.

        Every job that is in both keeps its rounds where they are, and a probe whose settings stayed keeps its sockets.
        Raises NotPermitted when a probe type that is new cannot be opened; then nothing has changed.
        """
        limits = _limits(config)
        limits.carry_over(self._limits, time.monotonic_ns())
        rooms = self._fitting_rooms(config)
        kept = {
            probe.kind: runner
            for probe in config.probes
            if (runner := self._runners.get(probe.kind)) is not None
            and (runner.settings.type, runner.settings.config) == (probe.type, probe.config)
        }
        fresh = {probe.kind: self._runner(probe, limits, rooms) for probe in config.probes if probe.kind not in kept}
        for runner in fresh.values():
            await runner.open()
        if (failed := next((runner for runner in fresh.values() if not runner.is_open), None)) is not None:
            for runner in fresh.values():
                await _close(runner)
            raise NotPermitted(f"{failed.settings.kind} cannot start: {failed.trouble}")
        # From here on nothing can fail, and nothing waits.
        retired = [runner for kind, runner in self._runners.items() if kept.get(kind) is not runner]
        for probe in config.probes:
            if (runner := kept.get(probe.kind)) is not None:
                runner.settings, runner.limits, runner.room = probe, limits, rooms[probe.type][1]
        self._config, self._limits, self._rooms = config, limits, rooms
        self._guard.change(config.policy)
        self._runners = {probe.kind: kept.get(probe.kind) or fresh[probe.kind] for probe in config.probes}
        self._targets = _targets(config)
        self._mesh.update(config.mesh, *_mesh_parts(config))
        self._beat_ns = _beat_ns(config)
        self._schedule.update(self._jobs(config), self._now_ns(), jitter=config.agent.jitter)
        self._set_timer()
        for runner in retired:
            task = asyncio.create_task(_retire(runner))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        _say_who_opted_out(config)

    # -- what there is ----------------------------------------------------------------------------------------------

    @property
    def running(self) -> int:
        """Measurements that run or wait for room."""
        return len(self._running)

    @property
    def due(self) -> int:
        """Rounds that were due since the start."""
        return self.started + self._schedule.skipped_rounds

    @property
    def skipped(self) -> int:
        """Those of them that were not measured: late, or without room before the next."""
        return self._schedule.skipped_rounds + self._skipped_in_queue

    @property
    def mesh(self) -> Mesh:
        """The tiers."""
        return self._mesh

    def take_tallies(self) -> dict[str, Tally]:
        """What each probe did since the last call."""
        tallies = {kind: runner.tally for kind, runner in self._runners.items()}
        for runner in self._runners.values():
            runner.tally = Tally()
        return tallies

    # -- inside -----------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """To the beat of the round that is due next, unless it is set to that one or nothing runs."""
        due_ns = self._schedule.next_due_ns
        if self._fault is None or due_ns is None:
            return
        beat_ns = self._beat_after(due_ns)
        # A moment before the engines' timers of the same time: what begins in a beat leaves with what they send in it.
        at_s = (beat_ns - self._epoch_ns - _AHEAD_NS) / SECOND
        if self._timer is not None:
            if self._timer.when() == at_s:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at_s, self._beat, beat_ns)

    def _beat(self, beat_ns: int) -> None:
        """Start what is due."""
        self._timer = None
        try:
            now_ns = max(self._now_ns(), beat_ns)
            for entry in self._schedule.due(now_ns):
                self.lateness.add(now_ns - entry.due_at_ns)
                task = asyncio.create_task(self._round(entry, self._runners[entry.job.kind], self._targets[entry.job.key]))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            self._set_timer()
        except Exception as error:  # noqa: BLE001  a fault of ours: `run` raises it
            if self._fault is not None and not self._fault.done():
                self._fault.set_exception(error)

    async def _round(self, entry: Round, runner: Runner, target: Target) -> None:
        self.started += 1
        kind = entry.job.kind
        until_ns = entry.due_at_ns + entry.job.interval_ns - self._epoch_ns
        try:
            lines = await runner.once(target, self._vantage, until_ns=until_ns)
        except Skipped:
            self._skipped_in_queue += 1
            return
        try:
            self._keep(lines)
        except ValueError:
            log.exception("%s of %s over %s gave a number that cannot be written down", kind, target.site, target.medium)
        reading = PROBE_TYPES[runner.settings.type].rtt_ns
        if reading is None or not lines:
            return
        if failure_source(lines[0], is_resolved=True, address=None) in {"agent", "resolver"}:
            return  # it says nothing of the path
        key, now_ns = (target.site, target.medium), self._now_ns()
        if self._mesh.observe(kind, key, reading(lines[0]), now_ns):
            self._retime(key)
            self._set_timer()

    async def _tend(self) -> None:
        """Every few seconds: rank the tiers, end what was fast, bring every job to its pace; sometimes remember."""
        remembered_at_s = time.monotonic()
        while True:
            await asyncio.sleep(_RANK_S)
            self._mesh.calm_down(self._now_ns())
            self._mesh.rank()
            for key in self._mesh.targets():
                self._retime(key)
            self._set_timer()
            if time.monotonic() - remembered_at_s > _REMEMBER_EVERY_S:
                remembered_at_s = time.monotonic()
                try:
                    await asyncio.to_thread(self.remember)
                except OSError as error:
                    log.warning("what is known of the targets is not kept: %s", error)

    def _retime(self, key: TargetKey) -> None:
        for kind, runner in self._runners.items():
            if runner.settings.is_on_mesh:
                self._schedule.retime((*key, kind), self._mesh.interval_ns(kind, key), self._now_ns())

    def _jobs(self, config: AgentConfig) -> list[Job]:
        return [
            Job(
                site=target.site,
                medium=target.medium,
                kind=probe.kind,
                interval_ns=self._mesh.interval_ns(probe.kind, (target.site, target.medium)) if probe.is_on_mesh else probe.interval_ns,
            )
            for probe in config.probes
            for target in probe.targets
        ]

    def _runner(self, probe: ProbeSettings, limits: PacketLimits, rooms: _Rooms) -> Runner:
        return Runner(settings=probe, limits=limits, guard=self._guard, room=rooms[probe.type][1], deadlines=self._deadlines)

    def _fitting_rooms(self, config: AgentConfig) -> _Rooms:
        """How many measurements of each type may run at once; a room whose size stays is the same room."""
        rooms = {}
        for name, factory in PROBE_TYPES.items():
            size = config.limits.traceroutes_at_once if name == "traceroute" else factory.at_once
            known = self._rooms.get(name)
            rooms[name] = known if known is not None and known[0] == size else (size, asyncio.Semaphore(size))
        return rooms

    def _beat_after(self, due_ns: int) -> int:
        """The next beat at or after a time."""
        return first_due_ns(due_ns, self._beat_ns, self.phase_ns + self._epoch_ns)

    def _now_ns(self) -> int:
        return time.monotonic_ns() + self._epoch_ns


def _beat_ns(config: AgentConfig) -> int:
    """Rounds that are due within a beat start together: so do their packets, and the loop wakes up once for all of them.

    A hundredth of the shortest interval, so that nobody is late by more than a hundredth of what he waits for; where that is no
    less than a step of the grid, a number of them.
    """
    shortest_ns = min((probe.fast_interval_ns or probe.interval_ns for probe in config.probes), default=SECOND)
    beat_ns = min(_MOST_BEAT_NS, max(1, shortest_ns // 100))
    return on_grid(beat_ns) or beat_ns


def _limits(config: AgentConfig) -> PacketLimits:
    return PacketLimits(
        total_per_s=config.limits.packets_per_second,
        per_target_per_s=config.limits.packets_per_second_per_target,
        per_network_per_s=config.limits.packets_per_second_per_network,
        largest_round=config.largest_round,
    )


def _targets(config: AgentConfig) -> dict[tuple[str, str, str], Target]:
    return {(target.site, target.medium, probe.kind): target for probe in config.probes for target in probe.targets}


def _mesh_parts(config: AgentConfig) -> tuple[dict[str, MeshProbe], list[TargetKey]]:
    """The paces of the probes on the mesh by kind, and their targets."""
    probes = [probe for probe in config.probes if probe.is_on_mesh]
    keys = dict.fromkeys((target.site, target.medium) for probe in probes for target in probe.targets)
    return {probe.kind: probe.pace for probe in probes}, list(keys)


def _say_who_opted_out(config: AgentConfig) -> None:
    for target, entry in config.opted_out:
        log.info("%s over %s is left out: it opted out (%s)", target.site, target.medium, entry)


async def _retire(runner: Runner) -> None:
    """Close a probe type once nothing is measured with it."""
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RETIRE_S):
                await runner.idle()
    finally:
        await _close(runner)


async def _close(runner: Runner) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await runner.close()
    except Exception as error:  # noqa: BLE001  the others are to be closed too
        log.warning("%s does not close: %s", runner.settings.kind, error or type(error).__name__)
