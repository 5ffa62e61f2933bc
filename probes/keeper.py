"""Keeps the spool: durable once a second, and sealed what is old or large enough. On threads of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from probes.spool import Spool
from probes.threads import DaemonThreads
from records.units import SECOND

__all__ = ["Keeper"]

log = logging.getLogger("isochrone.agent")

T = TypeVar("T")

_SYNC_S = 1.0
#: While the collector takes nothing there is no hurry: fewer, larger segments then.
_OFFLINE_AGE_S = 60.0


class Keeper:
    """Looks after one spool. A disk that hangs holds up its own threads and nothing else.

    max_age_s  how old the open segment becomes
    """

    def __init__(self, spool: Spool, *, max_age_s: float) -> None:
        self.max_age_s = max_age_s
        self._spool = spool
        self._threads = DaemonThreads(2, "spool")

    async def run(self, *, is_offline: Callable[[], bool], sealed: Callable[[], None]) -> None:
        """Keep until cancelled; `sealed` is called when there is something to send."""
        trouble = ""
        while True:
            await asyncio.sleep(min(_SYNC_S, self.max_age_s / 2))
            opened_at_ns = self._spool.opened_at_ns
            age_s = 0.0 if opened_at_ns is None else (time.monotonic_ns() - opened_at_ns) / SECOND
            is_ripe = age_s >= (max(self.max_age_s, _OFFLINE_AGE_S) if is_offline() else self.max_age_s)
            try:
                count = await self.on_disk(self._spool.seal if is_ripe else self._spool.seal_full)
                if not is_ripe:
                    await self.on_disk(self._spool.sync)
            except OSError as error:
                if str(error) != trouble:
                    log.error("spool %s: %s; trying again", self._spool.directory, error)  # noqa: TRY400  no fault of ours
                trouble = str(error)
                continue
            trouble = ""
            if count:
                sealed()

    async def on_disk(self, call: Callable[[], T]) -> T:
        """Run a call that waits for the disk."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def close(self) -> None:
        """Take no more work."""
        self._threads.shutdown()
