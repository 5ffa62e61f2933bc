"""When scripted things happen. Pure: what happens is the caller's, the time is an argument.

An event happens once, or again and again at a fixed interval until its end. Whoever comes late still gets every
occurrence, in the order of their times, so that the state after them is the one the script describes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from records.errors import UserError

__all__ = ["Event", "Timeline"]

A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Generic[A]):
    """Something that happens at a time.

    at_ns     when it first happens, ns from the start of its script
    every_ns  the interval at which it happens again; None: once
    until_ns  the last time at which it may happen again; None: for ever
    action    what happens

    Raises UserError when the times do not hold.
    """

    at_ns: int
    action: A
    every_ns: int | None = None
    until_ns: int | None = None

    def __post_init__(self) -> None:
        if self.at_ns < 0:
            raise UserError(f"an event cannot happen {-self.at_ns} ns before the start")
        if self.every_ns is not None and self.every_ns <= 0:
            raise UserError("an event cannot repeat at no interval")
        if self.until_ns is not None and (self.every_ns is None or self.until_ns < self.at_ns):
            raise UserError("an event's end belongs to one that repeats, and lies after its first time")


class Timeline(Generic[A]):
    """The occurrences of events that are still to come; times count from the start of the lab.

    Events at one time happen in the order in which they were added.
    """

    def __init__(self, events: Iterable[Event[A]] = ()) -> None:
        self._queue: list[tuple[int, int, int, Event[A]]] = []
        self._added = 0
        self.add(events)

    def add(self, events: Iterable[Event[A]], start_ns: int = 0) -> None:
        """Take in further events, whose script starts at a time."""
        for event in events:
            heapq.heappush(self._queue, (start_ns + event.at_ns, self._added, start_ns, event))
            self._added += 1

    @property
    def due_ns(self) -> int | None:
        """When something happens next; None when nothing will."""
        return self._queue[0][0] if self._queue else None

    def take(self, now_ns: int) -> list[tuple[int, A]]:
        """Everything that has come due by now and was not taken before: (when it was due, what), in order."""
        taken = []
        while self._queue and self._queue[0][0] <= now_ns:
            at_ns, order, start_ns, event = self._queue[0]
            taken.append((at_ns, event.action))
            following = _next(at_ns, start_ns, event)
            if following is None:
                heapq.heappop(self._queue)
            else:
                heapq.heapreplace(self._queue, (following, order, start_ns, event))
        return taken

    def ahead(self, count: int) -> list[tuple[int, A]]:
        """The next occurrences, as `take` will give them; nothing is taken."""
        copy: Timeline[A] = Timeline()
        copy._queue = list(self._queue)
        found: list[tuple[int, A]] = []
        while len(found) < count and copy.due_ns is not None:
            found += copy.take(copy.due_ns)
        return found[:count]


def _next(at_ns: int, start_ns: int, event: Event[A]) -> int | None:
    if event.every_ns is None:
        return None
    following = at_ns + event.every_ns
    return None if event.until_ns is not None and following > start_ns + event.until_ns else following
