"""One ``[[probe]]`` table at work: opens its probe type, measures a target within the limits, counts what went wrong."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from probes.config import ProbeSettings
from probes.limits import PacketLimits
from probes.model import ProbeType, Target, Vantage
from probes.policy import parse_ip, refusal
from probes.registry import PROBE_TYPES
from records.batch import Line
from records.errors import IsochroneError, NotPermitted
from records.units import SECOND

__all__ = ["Guard", "Runner", "Skipped", "Tally"]

log = logging.getLogger("isochrone.agent")

_REOPEN_NS = 60 * SECOND
_SAY_AGAIN_NS = 600 * SECOND
_RESOLVED_FOR_NS = 60 * SECOND


class Skipped(Exception):
    """This round is not measured: the limits or a full queue left no room before the next one is due."""


class Guard:
    """Keeps host names from leading where addresses are refused: a name is resolved (and remembered for a minute) first.

    The probe resolves the name itself later; a name whose answer changes in between is beyond this check.
    """

    def __init__(self, *, is_private_allowed: bool) -> None:
        self._is_private_allowed = is_private_allowed
        self._known: dict[str, tuple[int, str | None]] = {}

    async def check(self, target: Target) -> None:
        """Raise NotPermitted when a name of the target leads to an address that must not be measured."""
        hosts = [target.address]
        hosts += [urlsplit(url).hostname or "" for url in (target.inference_url, target.http_url) if url is not None]
        for host in hosts:
            if parse_ip(host) is None and (reason := await self._refusal(host)) is not None:
                raise NotPermitted(f"{host} leads to {reason}; allow it with agent.allow_private_targets or correct the name")

    async def _refusal(self, host: str) -> str | None:
        now_ns = time.monotonic_ns()
        until_ns, reason = self._known.get(host, (0, None))
        if now_ns < until_ns:
            return reason
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return None  # a name without an address is the probe's result, not ours
        reason = None
        for answer in answers:
            address = parse_ip(str(answer[4][0]).partition("%")[0])
            found = None if address is None else refusal(address, is_private_allowed=self._is_private_allowed)
            if found is not None:
                reason = f"{address}, which is {found}"
        self._known[host] = (now_ns + _RESOLVED_FOR_NS, reason)
        return reason


@dataclass(slots=True)
class _Trouble:
    """When an error was last said, so that a dead target does not fill the journal."""

    text: str
    said_at_ns: int


@dataclass(slots=True)
class Tally:
    """Since the last status: measurements ended, those that ended in an exception, and the last one's text."""

    runs: int = 0
    failures: int = 0
    error: str = ""


@dataclass(slots=True)
class Runner:
    """Runs one probe type with one set of settings. `once` is where its exceptions end.

    room  of the type in the whole agent: how many measurements of it may still be started
    """

    settings: ProbeSettings
    limits: PacketLimits
    guard: Guard
    room: asyncio.Semaphore
    tally: Tally = field(default_factory=Tally)
    _probe: ProbeType | None = None
    _failed_at_ns: int | None = None
    _closed_because: str = ""
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _in_flight: set[Target] = field(default_factory=set)
    _troubles: dict[str, _Trouble] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Its sockets are open."""
        return self._probe is not None

    async def open(self) -> None:
        """Open the probe type; a failure is logged, counted, and tried again a minute later when a round is due."""
        probe = PROBE_TYPES[self.settings.type].make(self.settings.config)
        try:
            await probe.open()
        except Exception as error:  # noqa: BLE001  nor one that cannot even start
            self._failed_at_ns, self._closed_because = time.monotonic_ns(), str(error) or type(error).__name__
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
        if target in self._in_flight and not factory.may_overlap:
            raise Skipped
        self._in_flight.add(target)
        try:
            return await self._once(target, vantage, until_ns=until_ns)
        finally:
            self._in_flight.discard(target)

    async def _once(self, target: Target, vantage: Vantage, *, until_ns: int) -> tuple[Line, ...]:
        factory, config = PROBE_TYPES[self.settings.type], self.settings.config
        try:
            async with asyncio.timeout(max(0.0, (until_ns - time.monotonic_ns()) / SECOND)):
                await self.room.acquire()
        except TimeoutError:
            raise Skipped from None
        try:
            while (wait_ns := self.limits.take(target.address, factory.packets(config), time.monotonic_ns())) > 0:
                if time.monotonic_ns() + wait_ns > until_ns:
                    raise Skipped
                await asyncio.sleep(wait_ns / SECOND)
            try:
                await self.guard.check(target)
                probe = await self._opened()
                async with asyncio.timeout(factory.longest_s(config)):
                    lines = await probe.once(target, vantage)
            except Exception as error:  # noqa: BLE001  one broken probe must never end the daemon
                self.tally.runs += 1
                self.tally.failures += 1
                self._say(f"of {target.site} over {target.medium} failed", error)
                return ()
            self.tally.runs += 1
            return lines
        finally:
            self.room.release()

    async def _opened(self) -> ProbeType:
        async with self._opening:
            if self._probe is None and (self._failed_at_ns is None or time.monotonic_ns() - self._failed_at_ns > _REOPEN_NS):
                await self.open()
        if self._probe is None:
            raise NotPermitted(self._closed_because)
        return self._probe

    def _say(self, what: str, error: Exception) -> None:
        """Log an error when it is new or ten minutes old; with its traceback when it is a fault of ours."""
        text = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            text = "it did not end in time"
        self.tally.error = text
        now_ns = time.monotonic_ns()
        before = self._troubles.get(what)
        if before is not None and before.text == text and now_ns - before.said_at_ns < _SAY_AGAIN_NS:
            return
        self._troubles[what] = _Trouble(text, now_ns)
        is_ours = not isinstance(error, IsochroneError | OSError)
        log.warning("%s %s: %s", self.settings.kind, what, text, exc_info=error if is_ours else None)
