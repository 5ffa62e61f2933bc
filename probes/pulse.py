"""Timers that share wake-ups: to wake an idle processor costs an agent more than what it then does in most of them.

What need not happen at once happens at moments of one grid of the monotonic clock (`GRID_NS`): rounds begin there, their packets
are due there, the loop is looked at there. And one timer stands for all time-outs that hardly ever run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["GRID_NS", "Deadlines", "on_grid"]

GRID_NS = 10_000_000


def on_grid(at_ns: int) -> int:
    """The last moment of the grid at or before a time of the monotonic clock, ns.

    >>> on_grid(25_000_000), on_grid(30_000_000)
    (20000000, 30000000)
    """
    return at_ns - at_ns % GRID_NS


class Deadlines:
    """`asyncio.timeout` for many tasks at once, with one timer for all: each takes a place in a set, not in the loop's heap."""

    def __init__(self) -> None:
        self._ends_s: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Cancel what runs in here when it takes longer; TimeoutError then, as of `asyncio.timeout`."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        async with asyncio.timeout(None) as limit:
            self._ends_s[limit] = end_s
            if self._timer is None or self._timer.when() > end_s:
                self._arm(loop, end_s)
            try:
                yield
            finally:
                del self._ends_s[limit]

    def _arm(self, loop: asyncio.AbstractEventLoop, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(at_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what is overdue; the timer goes to the next that may be. Those that ended in time have left no trace."""
        self._timer = None
        now_s = loop.time()
        for limit, end_s in self._ends_s.items():
            if end_s <= now_s and not limit.expired():
                limit.reschedule(now_s)
        left_s = [end_s for end_s in self._ends_s.values() if end_s > now_s]
        if left_s:
            self._arm(loop, min(left_s))
