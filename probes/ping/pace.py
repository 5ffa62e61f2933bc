"""When probe packets may leave: a plan of due times and a token bucket over all of them. Pure: time is an argument.

Hundreds of targets due at the same moment must not leave as one burst; the bucket spreads them. It caps what one
engine sends; the agent's own limits (per target, per network) are applied before a measurement starts.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Pacer"]

_SECOND_NS = 1_000_000_000
T = TypeVar("T")


class Pacer(Generic[T]):
    """Hands out planned items in order of their due time, at most `packets_per_s` on average.

    packets_per_s   long-term rate
    burst           how many may leave together after a pause; it covers the coarseness of the loop's timers
    """

    def __init__(self, *, packets_per_s: int, burst: int) -> None:
        self._gap_ns = _SECOND_NS // packets_per_s
        self._slack_ns = (burst - 1) * self._gap_ns
        self._plan: list[tuple[int, int, T]] = []
        self._tie = itertools.count()
        self._free_at_ns: int | None = None

    def __len__(self) -> int:
        return len(self._plan)

    def plan(self, due_ns: int, item: T) -> None:
        """Have `item` leave at `due_ns` or as soon after it as the rate allows."""
        heapq.heappush(self._plan, (due_ns, next(self._tie), item))

    def take(self, now_ns: int, then: Callable[[T], tuple[int, T] | None] | None = None) -> T | None:
        """The next item that may leave now; None when nothing is due or the rate is used up.

        then   asked for what to plan in its place: due time and item, or None
        """
        plan, free_ns = self._plan, self._free_at_ns
        if not plan or plan[0][0] > now_ns or (free_ns is not None and free_ns > now_ns):
            return None
        # An idle bucket fills up to `burst` packets and no further.
        least_ns = now_ns - self._slack_ns
        self._free_at_ns = self._gap_ns + (least_ns if free_ns is None or free_ns < least_ns else free_ns)
        item = plan[0][2]
        following = None if then is None else then(item)
        if following is None:
            heapq.heappop(plan)
        else:
            heapq.heapreplace(plan, (following[0], next(self._tie), following[1]))
        return item

    def take_all(self, now_ns: int, at_most: int, then: Callable[[T], tuple[int, T] | None]) -> list[T]:
        """What `take` would give, one after the other, up to `at_most` of them."""
        plan, gap_ns, replace, pop, tie = self._plan, self._gap_ns, heapq.heapreplace, heapq.heappop, self._tie
        least_ns = now_ns - self._slack_ns
        free_ns = least_ns if self._free_at_ns is None else max(self._free_at_ns, least_ns)
        taken: list[T] = []
        while plan and plan[0][0] <= now_ns and free_ns <= now_ns and len(taken) < at_most:
            free_ns += gap_ns
            item = plan[0][2]
            following = then(item)
            if following is None:
                pop(plan)
            else:
                replace(plan, (following[0], next(tie), following[1]))
            taken.append(item)
        if taken:
            self._free_at_ns = free_ns
        return taken

    def give_back(self) -> None:
        """What `take` handed out last was not sent after all: it does not count against the rate."""
        if self._free_at_ns is not None:
            self._free_at_ns -= self._gap_ns

    def next_ns(self) -> int | None:
        """When `take` is worth calling next; None with nothing planned."""
        if not self._plan:
            return None
        due_ns = self._plan[0][0]
        return due_ns if self._free_at_ns is None else max(due_ns, self._free_at_ns)
