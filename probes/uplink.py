"""The uplink: sealed batches to the collector, oldest first, for days without it if need be.

What an answer means (the collector's side of it is in the contract):

====================  ================================================================================================
200                   stored, or was already: the segment is deleted
400 `unreadable`      the collector keeps it among its rejects with the reason: deleted here, counted, logged
401, 403, 426         the token, the site or this version is wrong: kept, tried again slowly; only a person can mend it
409 `conflict`, 413   this batch will never be taken as it is: put into quarantine, logged, and on with the next one
425                   the collector's clock and this host's are apart: kept until they agree, tried again after Retry-After
429                   busy: tried again after Retry-After
anything else         kept and tried again with exponential back-off and jitter, at most a minute apart
====================  ================================================================================================
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from probes.client import Answer, CollectorClient
from probes.clock import wall_offset_ns
from probes.segment import DamagedSegment, Segment
from probes.spool import Spool
from records.errors import CollectorUnreachable, ConfigError
from records.units import SECOND

__all__ = ["Backoff", "Uplink", "Verdict", "judge"]

log = logging.getLogger("isochrone.uplink")

_MAX_BACKOFF_S = 60.0
_REFUSED_AGAIN_S = 60.0
_MAX_IN_FLIGHT = 8
#: Less is slewing, and no reason to date anything anew.
_CLOCK_SET_NS = SECOND


class Verdict(Enum):
    """What becomes of a batch after an answer."""

    STORED = "stored"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    BUSY = "busy"
    FAILED = "failed"


def judge(answer: Answer) -> Verdict:
    """The verdict for an answer.

    What deletes a batch, or puts it aside, must be a collector's own word: a proxy in between, a portal or another server at that
    address may answer 200 or 400 to anything. (A proxy's 413 is as final as a collector's: its limit will not grow by asking again.)
    """
    if answer.status == 200 and type(answer.body.get("stored")) is int and type(answer.body.get("already")) is bool:
        return Verdict.STORED
    if (answer.status, answer.code) == (400, "unreadable"):
        return Verdict.REJECTED
    if answer.status in {401, 403, 426}:
        return Verdict.REFUSED
    if answer.status == 413 or (answer.status, answer.code) == (409, "conflict"):
        return Verdict.QUARANTINED
    return Verdict.BUSY if answer.status == 429 else Verdict.FAILED


def _clock_set_ns(segment: Segment) -> int | None:
    """How far the wall clock was set since a segment's lines were dated; None: it was not, or nobody knows."""
    if segment.wall_offset_ns is None:
        return None
    set_ns = wall_offset_ns() - segment.wall_offset_ns
    return set_ns if abs(set_ns) > _CLOCK_SET_NS else None


class Backoff:
    """Pauses between tries: doubling from one second to a minute, each cut by up to a half at random.

    The generator comes in from outside, so that a fleet is spread and a test is repeatable.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    def next_s(self) -> float:
        """The pause after one more failure."""
        full = min(_MAX_BACKOFF_S, 2.0 ** min(self._failures, 10))
        self._failures += 1
        return full * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It works again."""
        self._failures = 0


@dataclass(frozen=True, slots=True)
class _Failure:
    """A try that left its batch where it is: why, and the pause the collector asks for."""

    trouble: str
    asked_s: float | None = None


class Uplink:
    """Sends a spool's segments, oldest first, until it is cancelled.

    One at a time until the collector has taken one, then up to eight at once: the collector answers only after its
    commit, about once a second, and a spool filled in an outage must empty faster than it fills.

    rng      of the back-off
    sleep    `asyncio.sleep`, or a test's own
    on_disk  runs a call that waits for the disk, off the event loop
    """

    def __init__(
        self,
        spool: Spool,
        client: CollectorClient,
        *,
        rng: random.Random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        on_disk: Callable[[Callable[[], bytes]], Awaitable[bytes]] = asyncio.to_thread,
    ) -> None:
        self.stored_batches = 0
        self.rejected_measurements = 0
        self.quarantined_measurements = 0
        self.trouble: str | None = None
        self._spool, self._client, self._sleep, self._on_disk = spool, client, sleep, on_disk
        self._backoff = Backoff(rng)
        self._sealed = asyncio.Event()
        self._window = 1

    def use(self, client: CollectorClient) -> None:
        """Send over another client from now on; what is under way on the old one ends or is sent again."""
        self._client = client
        self._backoff.reset()
        self.wake()

    def wake(self) -> None:
        """Something was sealed."""
        self._sealed.set()

    async def run(self) -> None:
        """Send for ever; ends only by being cancelled."""
        while True:
            self._sealed.clear()
            pause_s = await self.drain()
            if pause_s is None:
                await self._sealed.wait()
            else:
                await self._sleep(pause_s)

    async def drain(self) -> float | None:
        """Send until nothing waits (None) or a try fails (the seconds to pause before the next one)."""
        failures: list[_Failure] = []
        flying: set[asyncio.Task[_Failure | None]] = set()
        try:
            while True:
                while not failures and len(flying) < self._window and (segment := self._spool.oldest()) is not None:
                    flying.add(asyncio.create_task(self._send_one(segment)))
                if not flying:
                    return self._pause(failures) if failures else None
                done, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                failures += [failure for task in done if (failure := task.result()) is not None]
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)

    async def _send_one(self, segment: Segment) -> _Failure | None:
        try:
            try:
                body = await self._on_disk(segment.read)
            except DamagedSegment as error:
                self.quarantined_measurements += segment.measurements
                log.error("%s; kept aside as %s", error, self._spool.quarantine(segment))  # noqa: TRY400  no fault of ours
                return None
            except OSError as error:
                log.warning("%s cannot be read: %s; %d measurements are lost", segment.path, error.strerror, segment.measurements)
                self._spool.lose(segment)
                return None
            return self._settle(segment, await self._client.send(segment.name, body, clock_set_ns=_clock_set_ns(segment)))
        except (CollectorUnreachable, ConfigError) as error:
            return _Failure(str(error))
        except OSError as error:  # the spool's own folder: sent again later, which the collector takes for what it is
            return _Failure(f"spool {self._spool.directory}: {error}")
        finally:
            self._spool.release(segment)

    def _settle(self, segment: Segment, answer: Answer) -> _Failure | None:
        """Do with a batch what the answer means."""
        verdict = judge(answer)
        if verdict in {Verdict.BUSY, Verdict.FAILED, Verdict.REFUSED}:
            said = f"the collector at {self._client.url} answered {answer.status}" + (f": {answer.text}" if answer.text else "")
            if verdict is Verdict.REFUSED:
                hint = "" if answer.code == "revoked" or answer.status == 426 else "; check collector.token_file, agent.id and agent.site"
                return _Failure(f"{said}{hint}", _REFUSED_AGAIN_S)
            if verdict is Verdict.FAILED and answer.status < 500 and not answer.code:
                said += "; that is no collector's answer: check collector.url, and what stands in between"
            return _Failure(said, answer.retry_after_s)
        name = f"batch {segment.name.boot}/{segment.name.sequence} ({segment.measurements} measurements)"
        if verdict is Verdict.STORED:
            self.stored_batches += 1
            self._spool.done(segment)
            if answer.rejected_lines:
                self.rejected_measurements += answer.rejected_lines
                log.error("%d lines of %s were rejected by the collector, which keeps them with the reason", answer.rejected_lines, name)
        elif verdict is Verdict.REJECTED:
            self.rejected_measurements += segment.measurements
            self._spool.done(segment)
            log.error("%s was rejected by the collector, which keeps it with the reason: %s", name, answer.text)
        else:
            self.quarantined_measurements += segment.measurements
            log.error("%s will not be taken (%d: %s); kept aside as %s", name, answer.status, answer.text, self._spool.quarantine(segment))
        if self.trouble is not None:
            log.info("the collector takes batches again; %d wait", self._spool.waiting)
            self.trouble = None
        self._window = _MAX_IN_FLIGHT
        self._backoff.reset()
        return None

    def _pause(self, failures: list[_Failure]) -> float:
        """Say what is wrong when it is new, and how long to wait."""
        self._window = 1
        backoff_s = self._backoff.next_s()
        trouble = failures[0].trouble
        if trouble != self.trouble:
            log.warning("%s; batches are kept (%d wait)", trouble, self._spool.waiting)
            self.trouble = trouble
        # A pause asked for is kept in full, and a little more at random, so that agents do not all come back at once.
        asked_s = max((failure.asked_s for failure in failures if failure.asked_s is not None), default=None)
        return backoff_s if asked_s is None else asked_s + min(backoff_s, 1.0)
