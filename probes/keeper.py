"""Keeps the spool: durable once a second, and sealed what is old or large enough. On threads of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from probes.schedule import first_due_ns
from probes.spool import Spool
from probes.threads import DaemonThreads
from records.units import SECOND

__all__ = ["OFFLINE_AGE_S", "Keeper"]

log = logging.getLogger("isochrone.agent")

T = TypeVar("T")

_SYNC_S = 1.0
#: While the collector takes nothing there is no hurry: fewer, larger segments then. A collector answers each batch after its commit, about
#: once a second, and takes eight of an agent's at a time: a week in segments of a minute would take twenty minutes to come back, and
#: in segments of ten minutes takes a tenth of that. What is open is as durable as what is sealed, and is sealed as soon as the collector
#: is back.
OFFLINE_AGE_S = 600.0


class Keeper:
    """Looks after one spool. A disk that hangs holds up its own threads and nothing else.

    max_age_s  how old the open segment becomes
    phase_ns   of its looks on the monotonic clock: where something else wakes the loop too, it is woken once for both
    """

    def __init__(self, spool: Spool, *, max_age_s: float, phase_ns: int = 0) -> None:
        self.max_age_s = max_age_s
        self._phase_ns = phase_ns
        self._spool = spool
        self._threads = DaemonThreads(2, "spool")

    async def run(self, *, is_offline: Callable[[], bool], sealed: Callable[[], None]) -> None:
        """Keep until cancelled; `sealed` is called when there is something to send."""
        trouble = ""
        while True:
            await asyncio.sleep(self._pause_s())
            opened_at_ns = self._spool.opened_at_ns
            age_s = 0.0 if opened_at_ns is None else (time.monotonic_ns() - opened_at_ns) / SECOND
            is_ripe = age_s >= (max(self.max_age_s, OFFLINE_AGE_S) if is_offline() else self.max_age_s)
            if opened_at_ns is None and not self._spool.has_full:
                continue  # what there is is sealed
            try:
                count = await self.on_disk(self._spool.seal if is_ripe else self._save)
            except OSError as error:
                if str(error) != trouble:
                    log.error("spool %s: %s; trying again", self._spool.directory, error)  # noqa: TRY400  no fault of ours
                trouble = str(error)
                continue
            trouble = ""
            if count:
                sealed()

    def _save(self) -> int:
        count = self._spool.seal_full()
        self._spool.sync()
        return count

    def _pause_s(self) -> float:
        """Until the next second, or half of the age where that is less, at the phase."""
        every_ns = round(min(_SYNC_S, self.max_age_s / 2) * SECOND)
        now_ns = time.monotonic_ns()
        return (first_due_ns(now_ns + every_ns // 2, every_ns, self._phase_ns) - now_ns) / SECOND

    async def on_disk(self, call: Callable[[], T]) -> T:
        """Run a call that waits for the disk."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def close(self) -> None:
        """Take no more work."""
        self._threads.shutdown()
