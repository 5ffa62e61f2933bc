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
        gap_ns = self._gap_ns
        # An idle bucket fills up to `burst` packets and no further.
        least_ns = now_ns - self._slack_ns
        free_ns = least_ns if self._free_at_ns is None else max(self._free_at_ns, least_ns)
        at_most = min(at_most, (now_ns - free_ns) // gap_ns + 1)
        taken: list[T] = []
        while len(taken) < at_most:
            distance_ns, until_ns = self._first(now_ns)
            if distance_ns is None:
                break
            if distance_ns < 0:
                due_ns, _, item = heapq.heappop(self._plan)
                taken.append(item)
                if then is not None and (following := then(item)) is not None:
                    self._follow(due_ns, following)
                continue
            # As long as this queue is the first, its items leave one after the other.
            lane = self._lanes[distance_ns]
            while lane and lane[0][0] <= until_ns and len(taken) < at_most:
                due_ns, item = lane.popleft()
                taken.append(item)
                if then is None or (following := then(item)) is None:
                    continue
                if following[0] - due_ns == distance_ns and (not lane or lane[-1][0] <= following[0]):
                    lane.append(following)
                else:
                    self._follow(due_ns, following)
                    break  # it may come before the next of this queue
            if not lane:
                del self._lanes[distance_ns]
        if taken:
            self._free_at_ns = free_ns + len(taken) * gap_ns
        return taken

    def _first(self, now_ns: int) -> tuple[int | None, int]:
        """Where the first item that is due lies, the distance of a queue or -1 for the heap, and until when no other's is first.

        None when nothing is due.
        """
        found, first_ns, until_ns = (-1, self._plan[0][0], now_ns) if self._plan else (None, now_ns + 1, now_ns)
        for distance_ns, lane in self._lanes.items():
            due_ns = lane[0][0]
            if due_ns < first_ns:
                found, first_ns, due_ns = distance_ns, due_ns, first_ns
            until_ns = min(until_ns, due_ns)
        return (found if first_ns <= now_ns else None), until_ns

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
