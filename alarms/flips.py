"""Is another route the best one now, and is it worth more than x? Pure: fed with the routes of one source and workload, time by time.

* The reference is the route that was best. Another one that is best `run` times in a row, and better than the reference is *now* by
  `worth_ms` or more, is a flip. Routes that trade places within that are no news, and the reference stays.
* Where the reference is no longer among the routes at all it is a flip too, of a worth that is not known (`worth_ms` None).
* It is over when the reference is best again, or within half of `worth_ms` of it, `run` times in a row (recovered), or after `settle`
  (settled): then the new route is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["Choice", "Flip", "FlipRules", "FlipSeries"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A route and what it costs now: its sites with the pool at the end, and the median of the objective in ms."""

    sites: tuple[str, ...]
    pool: str
    value_ms: float

    @property
    def name(self) -> str:
        """As a person reads it."""
        return f"{' → '.join(self.sites)} ({self.pool})"

    @property
    def way(self) -> tuple[tuple[str, ...], str]:
        """What tells two routes apart."""
        return self.sites, self.pool


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipRules:
    """See the module."""

    worth_ms: float = 5.0
    run: int = 2
    settle: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Flip:
    """From `old` to `new` since `since`; worth_ms None: the old route is not there any more, what staying would cost is not known."""

    old: Choice
    new: Choice
    worth_ms: float | None
    since: datetime


class FlipSeries:
    """One source and workload. `flip` is the one that is on; measured_at: the newest look, noted by whoever feeds the series."""

    def __init__(self, rules: FlipRules, flip: Flip | None = None) -> None:
        self._rules = rules
        self._reference = None if flip is None else flip.old
        self._run = self._back = 0
        self._first: datetime | None = None
        self.flip = flip
        self.ended: str | None = None
        self.measured_at: datetime | None = None

    def observe(self, routes: Sequence[Choice], at: datetime) -> None:
        """The routes of now, the best first; none: there is no route, which says nothing about a flip."""
        if not routes:
            return
        best = routes[0]
        if self._reference is None:
            self._reference = best
            return
        now = next((each for each in routes if each.way == self._reference.way), None)
        worth = None if now is None else now.value_ms - best.value_ms
        if self.flip is not None:
            self._flipped(self.flip, best, worth, at)
            return
        if best.way == self._reference.way or (worth is not None and worth < self._rules.worth_ms):
            self._run, self._first = 0, None
            if now is not None:
                self._reference = now
            return
        self._run += 1
        self._first = self._first or at
        if self._run >= self._rules.run:
            self.flip = Flip(self._reference, best, worth, self._first)
            self._run, self._back, self._first = 0, 0, None

    def _flipped(self, flip: Flip, best: Choice, worth: float | None, at: datetime) -> None:
        is_back = worth is not None and worth <= self._rules.worth_ms / 2
        self._back = self._back + 1 if is_back else 0
        if self._back >= self._rules.run:
            self.flip, self.ended = None, "recovered"
        elif at - flip.since >= self._rules.settle:
            self.flip, self.ended, self._reference = None, "settled", best
        else:
            self.flip = Flip(flip.old, best, worth if not is_back else flip.worth_ms, flip.since)
