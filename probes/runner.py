"""One ``[[probe]]`` table at work: opens its probe type, measures a target within the limits, counts what went wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from probes.blame import failure_source
from probes.guard import Guard, OptedOut
from probes.limits import PacketLimits
from probes.model import ProbeType, Target, Vantage, Withheld
from probes.pulse import Deadlines
from probes.registry import PROBE_TYPES
from probes.settings import ProbeSettings
from records.batch import Line
from records.errors import IsochroneError, NotPermitted
from records.measurement import FailureSource, TsSource
from records.units import SECOND

__all__ = ["Runner", "Skipped", "Tally"]

log = logging.getLogger("isochrone.agent")

_REOPEN_NS = 60 * SECOND
_SAY_AGAIN_NS = 600 * SECOND


class Skipped(Exception):
    """This round is not measured: the limits or a full queue left no room before the next one is due."""


@dataclass(slots=True)
class _Trouble:
    """When an error was last said, so that a dead target does not fill the journal."""

    text: str
    said_at_ns: int


@dataclass(slots=True)
class Tally:
    """Since the last status.

    runs       measurements ended
    failures   those that ended in an exception; `error` is the last one's text
    opted_out  rounds that were not measured because a host opted out
    blamed     measurements that show a failure, and exceptions, by whose it was
    stamps     RTTs by how they were timed
    """

    runs: int = 0
    failures: int = 0
    error: str = ""
    opted_out: int = 0
    blamed: Counter[FailureSource] = field(default_factory=Counter)
    stamps: Counter[TsSource] = field(default_factory=Counter)


@dataclass(slots=True)
class Runner:
    """Runs one probe type with one set of settings. `once` is where its exceptions end.

    room       of the type in the whole agent: how many measurements of it may still be started
    deadlines  of the whole agent
    """

    settings: ProbeSettings
    limits: PacketLimits
    guard: Guard
    room: asyncio.Semaphore
    deadlines: Deadlines = field(default_factory=Deadlines)
    tally: Tally = field(default_factory=Tally)
    _probe: ProbeType | None = None
    _failed_at_ns: int | None = None
    _closed_because: str = ""
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _in_flight: Counter[Target] = field(default_factory=Counter)
    _troubles: dict[str, _Trouble] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Its sockets are open."""
        return self._probe is not None

    async def idle(self) -> None:
        """Wait until nothing is being measured with it."""
        while self._in_flight:
            self._ended.clear()
            await self._ended.wait()

    @property
    def trouble(self) -> str:
        """Why it is not open; empty when it is."""
        return "" if self.is_open else self._closed_because

    async def open(self) -> None:
        """Open the probe type; a failure is logged, counted, and tried again a minute later when a round is due."""
        probe = PROBE_TYPES[self.settings.type].make(self.settings.config)
        try:
            await probe.open()
        except Exception as error:  # noqa: BLE001  nor one that cannot even start
            self._failed_at_ns, self._closed_because = time.monotonic_ns(), str(error) or type(error).__name__
            self.tally.error = _words(error)
            self._say("cannot start", error)
        else:
            self._probe = probe

    async def close(self) -> None:
        """Close the probe type."""
        probe, self._probe = self._probe, None
        if probe is not None:
            await probe.close()

    async def once(self, target: Target, vantage: Vantage, *, until_ns: int) -> tuple[Line, ...]:
        """Measure a target; what is to be kept, nothing when it failed (logged and counted).

        until_ns  monotonic time after which it is no use starting: the next round is due then

        Raises Skipped when it could not start in time.
        """
        factory = PROBE_TYPES[self.settings.type]
        if self._in_flight[target] and not factory.may_overlap:
            raise Skipped
        self._in_flight[target] += 1
        try:
            return await self._once(target, vantage, until_ns=until_ns)
        finally:
            self._in_flight[target] -= 1
            if not self._in_flight[target]:
                del self._in_flight[target]
            self._ended.set()

    async def _once(self, target: Target, vantage: Vantage, *, until_ns: int) -> tuple[Line, ...]:
        factory, config = PROBE_TYPES[self.settings.type], self.settings.config
        if not self.room.locked():
            await self.room.acquire()  # at once
        else:
            try:
                async with asyncio.timeout(max(0.0, (until_ns - time.monotonic_ns()) / SECOND)):
                    await self.room.acquire()
            except TimeoutError:
                raise Skipped from None
        try:
            try:
                leads = await self.guard.check(self._hosts(target))
            except OptedOut as entry:
                self.tally.opted_out += 1
                self._say(f"of {target.site} over {target.medium} is left out", entry)
                return ()
            except NotPermitted as error:
                self._failed(target, error)
                return ()
            measured = leads.address or target.address
            packets = factory.packets(config)
            while (wait_ns := self.limits.take(measured, packets, time.monotonic_ns(), network=leads.network)) > 0:
                if time.monotonic_ns() + wait_ns > until_ns:
                    raise Skipped
                await asyncio.sleep(wait_ns / SECOND)
            try:
                probe = self._probe or await self._opened()
                async with self.deadlines.within(factory.longest_s(config)):
                    lines = await probe.once(target, vantage)
            except Withheld as held:
                self._say(f"of {target.site} over {target.medium} is skipped", held)
                raise Skipped from None
            except Exception as error:  # noqa: BLE001  one broken probe must never end the daemon
                self._failed(target, error)
                return ()
            self._count(lines, leads.address)
            return lines
        finally:
            self.room.release()

    def _hosts(self, target: Target) -> tuple[str, ...]:
        """The host that the type measures."""
        need = PROBE_TYPES[self.settings.type].needs(self.settings.config)
        url = getattr(target, need) if need is not None and need.endswith("_url") else None
        return (target.address if url is None else urlsplit(url).hostname or target.address,)

    def _failed(self, target: Target, error: Exception) -> None:
        self.tally.runs += 1
        self.tally.failures += 1
        self.tally.blamed["agent"] += 1
        self._say(f"of {target.site} over {target.medium} failed", error)
        self.tally.error = _words(error)

    def _count(self, lines: tuple[Line, ...], address: str | None) -> None:
        tally = self.tally
        tally.runs += 1
        for line in lines:
            source = failure_source(line, is_resolved=address is not None, address=address)
            if source is not None:
                tally.blamed[source] += 1
            for sample in getattr(line, "samples", ()) or getattr(line, "hops", ()):
                stamp = getattr(sample, "ts_source", None)
                if stamp is not None:
                    tally.stamps[stamp] += 1

    async def _opened(self) -> ProbeType:
        async with self._opening:
            if self._probe is None and (self._failed_at_ns is None or time.monotonic_ns() - self._failed_at_ns > _REOPEN_NS):
                await self.open()
        if self._probe is None:
            raise NotPermitted(self._closed_because)
        return self._probe

    def _say(self, what: str, error: Exception) -> None:
        """Log an error when it is new or ten minutes old; with its traceback when it is a fault of ours."""
        text = _words(error)
        now_ns = time.monotonic_ns()
        before = self._troubles.get(what)
        if before is not None and before.text == text and now_ns - before.said_at_ns < _SAY_AGAIN_NS:
            return
        self._troubles[what] = _Trouble(text, now_ns)
        is_ours = not isinstance(error, IsochroneError | OSError | OptedOut)
        log.warning("%s %s: %s", self.settings.kind, what, text, exc_info=error if is_ours else None)


def _words(error: Exception) -> str:
    return "it did not end in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
