"""What every engine's life on the event loop looks like: wake up to send, to read and to time out. Then sleep.

The kernel's stamps make it irrelevant to an RTT how late the loop is. What matters is the order: read before timing
out, so that a reply that came in time while the loop was busy counts as in time. And what may be saved is wake-ups:

* While little happens, the loop wakes up exactly when something is due or comes in.
* When it wakes up _DENSE times in a row within a rest of each other, the engine ticks: it sends and reads at most once every
  rest, when something is due or _NEWS_NS have passed, and listens to its sockets again only after _QUIET_TICKS ticks without news.
* What the sockets hold waits for the next packet to leave, if that is soon: then one wake-up does for both.
* Where rests are long the moments of the agent's grid (probes/pulse.py) are kept, so that one wake-up does for rounds that begin too.

An engine says how long its rest is (`_rest_ns`). Whatever comes in, one turn reads a bounded number of messages: a flood
costs the loop its ticks and no more.
"""

from __future__ import annotations

import asyncio
import gc
import time
from abc import ABC, abstractmethod

from probes.pulse import GRID_NS, on_grid

__all__ = ["LoopDriver"]


#: A tick, where the engine does not choose it, and so the longest that it delays a send for company; `sched_lag_ns` shows it.
REST_NS = 5_000_000
_QUIET_TICKS = 4
_DENSE = 4
#: How long news may lie in the sockets of an engine that ticks and has nothing else to do: so long, or so many rests.
_NEWS_NS, _NEWS_RESTS = 50_000_000, 4
#: And so long, in nanoseconds and in rests, when there is something to do then.
_NEWS_ALONG_NS, _NEWS_ALONG_RESTS = 110_000_000, 11
#: Back so soon when a turn could not read everything; and so long may that go on before packets time out all the same.
_BACKLOG_NS = 1_000_000
_BACKLOG_PATIENCE_NS = 1_000_000_000


class LoopDriver(ABC):
    """One timer, set to the next moment something is due, and a reader for each socket while the engine does not tick."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._filenos: tuple[int, ...] = ()
        self._is_ticking = False
        self._quiet_ticks = 0
        self._last_wake_ns = 0
        self._dense_wakes = 0
        self._drained_ns = 0
        self._is_turn_near = False

    def _rest_ns(self) -> int:
        """How long a tick is now."""
        return REST_NS

    def _is_drained(self) -> bool:
        """The last `_absorb` left nothing behind."""
        return True

    @staticmethod
    def _burst(packets_per_s: int) -> int:
        """Packets that may leave together: what a rate brings in two rests, so that ticking keeps the rate up."""
        return max(2, 2 * packets_per_s * REST_NS // 1_000_000_000)

    @abstractmethod
    def _absorb(self) -> int:
        """Read every socket empty and tell the state machine; how many messages there were."""

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
        self._listen()

    def _stop(self) -> None:
        """Stop listening and forget the timer; does nothing twice."""
        if self._loop is None:
            return
        self._tick_from_now_on()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop = None

    def _listen(self) -> None:
        assert self._loop is not None
        self._is_ticking = False
        self._dense_wakes = 0
        for fileno in self._filenos:
            self._loop.add_reader(fileno, self._readable)

    def _tick_from_now_on(self) -> None:
        assert self._loop is not None
        self._is_ticking = True
        self._quiet_ticks = 0
        for fileno in self._filenos:
            self._loop.remove_reader(fileno)

    def _note_wake(self) -> int:
        """Begin to tick when wake-ups have become dense; the time now, ns."""
        now_ns = time.monotonic_ns()
        if not self._is_ticking:
            self._dense_wakes = self._dense_wakes + 1 if now_ns - self._last_wake_ns < self._rest_ns() else 0
            if self._dense_wakes >= _DENSE:
                self._tick_from_now_on()
        self._last_wake_ns = now_ns
        return now_ns

    def _readable(self) -> None:
        if self._is_ticking:  # another socket's reader went first in this turn of the loop
            return
        self._note_wake()
        try:
            self._absorb()
            self._announce()
        finally:
            self._arm()  # see _wake

    def _wake(self) -> None:
        if self._rests_long() and not self._is_turn_near and self._loop is not None:
            # Whoever begins a round at this moment of the grid does so before: its packets leave with these.
            self._is_turn_near = True
            self._loop.call_soon(self._wake)
            return
        self._is_turn_near = False
        if self._loop is None:
            return
        # What a turn makes it keeps, or frees by itself: looking for garbage meanwhile costs a tenth of it and finds nothing.
        collects = gc.isenabled()
        gc.disable()
        try:
            self._turn()
        finally:
            if collects:
                gc.enable()
            self._arm()  # whatever this turn stumbled over, there is a next one: all rounds of the engine wait for it

    def _turn(self) -> None:
        if self._timer is not None:
            self._timer.cancel()  # nothing where it is what woke us
            self._timer = None
        was_ticking = self._is_ticking
        now_ns = self._note_wake()
        is_quiet = not self._absorb()
        if self._is_drained():
            self._drained_ns = now_ns
        if now_ns - self._drained_ns <= 0 or now_ns - self._drained_ns > _BACKLOG_PATIENCE_NS:
            self._expire(now_ns)  # only with every reply at hand that came before now
        if self._send_due(now_ns):
            if not self._is_ticking:
                self._absorb()  # the stamps of what has just been sent are there; reading them now saves a wake-up
            is_quiet = False
        self._announce()
        if was_ticking:
            self._quiet_ticks = self._quiet_ticks + 1 if is_quiet else 0
            if self._quiet_ticks >= _QUIET_TICKS:
                self._listen()

    def _rests_long(self) -> bool:
        """It ticks at the pace of the grid, or slower."""
        return self._is_ticking and self._rest_ns() >= GRID_NS

    def _begins_ns(self) -> int:
        """When what begins now is due: the last moment of the grid, where that is kept."""
        now_ns = time.monotonic_ns()
        return on_grid(now_ns) if self._rests_long() else now_ns

    def _arm(self) -> None:
        """Set the timer to the next moment, unless it is set to that or an earlier one."""
        at_ns = self._next_ns()
        if self._is_ticking and self._is_drained():
            # A rest at least; and when nothing is due then, what comes in can wait for some more of them.
            rest_ns = self._rest_ns()
            woke_ns = on_grid(self._last_wake_ns) if self._rests_long() else self._last_wake_ns
            latest_ns = woke_ns + max(rest_ns, min(_NEWS_RESTS * rest_ns, _NEWS_NS))
            if at_ns is None or at_ns > woke_ns + max(rest_ns, min(_NEWS_ALONG_RESTS * rest_ns, _NEWS_ALONG_NS)):
                at_ns = latest_ns
            at_ns = max(woke_ns + rest_ns, at_ns)
        elif self._is_ticking:
            at_ns = self._last_wake_ns + _BACKLOG_NS
        if at_ns is None or self._loop is None:
            return
        if self._timer is not None:
            if self._timer_ns <= at_ns:
                return
            self._timer.cancel()
        self._timer_ns = at_ns
        # The loop's clock is the monotonic one; it rounds timers up to a millisecond, which the pacer's burst covers.
        self._timer = self._loop.call_at(at_ns / 1e9, self._wake)
