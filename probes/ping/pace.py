"""When probe packets may leave: a plan of due times and a token bucket over all of them. Pure: time is an argument.

Hundreds of targets due at the same moment must not leave as one burst; the bucket spreads them. It caps what one
engine sends; the agent's own limits (per target, per network) are applied before a measurement starts.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Pacer"]

_SECOND_NS = 1_000_000_000
#: At so many distances from an item to what follows it there is a queue beside the heap.
_LANES = 4
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
        # What follows an item by the same distance follows in the same order: a queue for each distance, which costs a tenth of a
        # heap of a thousand entries. What does not fit that order goes onto the heap.
        self._lanes: dict[int, deque[tuple[int, T]]] = {}
        self._tie = itertools.count()
        self._free_at_ns: int | None = None

    def __len__(self) -> int:
        return len(self._plan) + sum(map(len, self._lanes.values()))

    def plan(self, due_ns: int, item: T) -> None:
        """Have `item` leave at `due_ns` or as soon after it as the rate allows."""
        heapq.heappush(self._plan, (due_ns, next(self._tie), item))

    def take(self, now_ns: int, then: Callable[[T], tuple[int, T] | None] | None = None) -> T | None:
        """The next item that may leave now; None when nothing is due or the rate is used up.

        then   asked for what to plan in its place: due time and item, or None
        """
        taken = self.take_all(now_ns, 1, then)
        return taken[0] if taken else None

    def take_all(self, now_ns: int, at_most: int, then: Callable[[T], tuple[int, T] | None] | None = None) -> list[T]:
        """What `take` would give, one after the other, up to `at_most` of them."""
        plan, lanes, gap_ns = self._plan, self._lanes, self._gap_ns
        # An idle bucket fills up to `burst` packets and no further.
        least_ns = now_ns - self._slack_ns
        free_ns = least_ns if self._free_at_ns is None else max(self._free_at_ns, least_ns)
        taken: list[T] = []
        while free_ns <= now_ns and len(taken) < at_most:
            due_ns, first = (plan[0][0], None) if plan else (now_ns + 1, None)
            for lane in lanes.values():
                if lane[0][0] < due_ns:
                    due_ns, first = lane[0][0], lane
            if due_ns > now_ns:
                break
            free_ns += gap_ns
            item = heapq.heappop(plan)[2] if first is None else first.popleft()[1]
            taken.append(item)
            following = None if then is None else then(item)
            if following is not None:
                self._follow(due_ns, following)
            if first is not None and not first:
                lanes = self._lanes = {gap: lane for gap, lane in lanes.items() if lane}
        if taken:
            self._free_at_ns = free_ns
        return taken

    def _follow(self, due_ns: int, following: tuple[int, T]) -> None:
        lane = self._lanes.get(following[0] - due_ns)
        if lane is not None and (not lane or lane[-1][0] <= following[0]):
            lane.append(following)
        elif lane is None and len(self._lanes) < _LANES:
            self._lanes[following[0] - due_ns] = deque((following,))
        else:
            self.plan(*following)

    def give_back(self) -> None:
        """What `take` handed out last was not sent after all: it does not count against the rate."""
        if self._free_at_ns is not None:
            self._free_at_ns -= self._gap_ns

    def next_ns(self) -> int | None:
        """When `take` is worth calling next; None with nothing planned."""
        heads = [lane[0][0] for lane in self._lanes.values()]
        if self._plan:
            heads.append(self._plan[0][0])
        if not heads:
            return None
        return min(heads) if self._free_at_ns is None else max(min(heads), self._free_at_ns)
