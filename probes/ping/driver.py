"""What every engine's life on the event loop looks like: wake up to send, to read and to time out. Then sleep.

The kernel's stamps make it irrelevant to an RTT how late the loop is; what matters is the order: read before timing
out, so that a reply that came in time while the loop was busy counts as in time.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod

__all__ = ["LoopDriver"]


class LoopDriver(ABC):
    """One timer, set to the next moment something is due, and a reader for each socket."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._filenos: tuple[int, ...] = ()

    @abstractmethod
    def _absorb(self) -> None:
        """Read every socket empty and tell the state machine."""

    @abstractmethod
    def _send_due(self, now_ns: int) -> bool:
        """Hand over what is due; True when anything was."""

    @abstractmethod
    def _expire(self, now_ns: int) -> None:
        """Time out what is due."""

    @abstractmethod
    def _announce(self) -> None:
        """Wake whoever waits for what is done now."""

    @abstractmethod
    def _next_ns(self) -> int | None:
        """Monotonic time at which to wake up next; None: not before something comes in."""

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("open() the engine before it measures")
        return self._loop

    def _start(self, *filenos: int) -> None:
        """Begin to listen on these file descriptors."""
        self._loop = asyncio.get_running_loop()
        self._filenos = filenos
        for fileno in filenos:
            self._loop.add_reader(fileno, self._readable)

    def _stop(self) -> None:
        """Stop listening and forget the timer; does nothing twice."""
        if self._loop is None:
            return
        for fileno in self._filenos:
            self._loop.remove_reader(fileno)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop = None

    def _readable(self) -> None:
        self._absorb()
        self._announce()
        self._arm()

    def _wake(self) -> None:
        self._timer = None
        self._absorb()
        now_ns = time.monotonic_ns()
        self._expire(now_ns)
        if self._send_due(now_ns):  # the stamps of what has just been sent are there; reading them now saves a wake-up
            self._absorb()
        self._announce()
        self._arm()

    def _arm(self) -> None:
        """Set the timer to the next moment, unless it is set to that or an earlier one."""
        at_ns = self._next_ns()
        if at_ns is None or self._loop is None:
            return
        if self._timer is not None:
            if self._timer_ns <= at_ns:
                return
            self._timer.cancel()
        self._timer_ns = at_ns
        # The loop's clock is the monotonic one; it rounds timers up to a millisecond, which the pacer's burst covers.
        self._timer = self._loop.call_at(at_ns / 1e9, self._wake)
