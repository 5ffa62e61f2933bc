"""Has the way to a target changed for good? Pure: a state machine for each target, fed with one trace after the other.

* A path is the addresses of its hops up to the target. Two paths are the same where no hop tells them apart: a silent hop says nothing.
  A trace that did not reach its target says nothing about the way there.
* Every path seen in the last `keep` counts as known, whichever flow took it: equal-cost paths between which flows, or packets,
  are spread are all learnt, and none of them is news. The first `learn` traces are only learnt, and so are runs that came to nothing.
* `run` traces of one flow in a row that agree with each other and with no known path are a change. Packets spread over many paths
  make new combinations of hops, but not the same one again and again.
* The change is over when a flow takes a path known from before `run` times in a row (recovered), or after `settle` (settled).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

__all__ = ["Path", "PathChange", "PathRules", "PathSeries", "are_same", "first_difference"]

#: Addresses by TTL; None: nobody answered.
Path = tuple[str | None, ...]
_MOST_KNOWN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRules:
    """See the module: `learn` and `run` in traces, `keep` and `settle` in time."""

    learn: int = 5
    run: int = 3
    keep: timedelta = timedelta(hours=24)
    settle: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class PathChange:
    """A way that is not the way it was."""

    old: Path
    new: Path
    flow: int
    since: datetime


def are_same(a: Path, b: Path) -> bool:
    """Whether no hop tells two whole paths apart."""
    return len(a) == len(b) and all(x is None or y is None or x == y for x, y in zip(a, b, strict=True))


def first_difference(a: Path, b: Path) -> int:
    """The first TTL, from 1, at which two paths certainly differ; the end of the shorter one where only their lengths do."""
    for ttl, (x, y) in enumerate(zip(a, b, strict=False), 1):
        if x is not None and y is not None and x != y:
            return ttl
    return min(len(a), len(b))


@dataclass(slots=True)
class PathSeries:
    """The traces to one target. `change` is the one that is on; measured_at: the newest trace, noted by whoever feeds the series."""

    rules: PathRules
    change: PathChange | None = None
    ended: str | None = None
    measured_at: datetime | None = None
    _known: dict[Path, datetime] = field(default_factory=dict)
    _flows: dict[int, Path] = field(default_factory=dict)
    _runs: dict[int, tuple[Path, int, datetime]] = field(default_factory=dict)
    _back: dict[int, int] = field(default_factory=dict)
    _seen: int = 0

    def learn(self, path: Sequence[str | None], at: datetime, *, flow: int = 0, times: int = 1) -> None:
        """A way taken in the past, that is not judged any more."""
        self._known[tuple(path)] = at
        self._flows[flow] = tuple(path)
        self._seen += times

    def observe(self, path: Sequence[str | None], at: datetime, *, flow: int = 0) -> None:
        """One more trace that reached its target."""
        way = tuple(path)
        if self.change is not None:
            self._changed(self.change, way, at, flow)
            return
        self._forget(at)
        if self._seen < self.rules.learn or _has(self._known, way):
            self._known.pop(way, None)
            self._known[way] = at
            self._flows[flow] = way
            self._seen += 1
            # A run that came to nothing is one of several ways after all.
            if flow in self._runs:
                other, _, _ = self._runs.pop(flow)
                self._known[other] = at
            return
        before, count, since = self._runs.get(flow, (way, 0, at))
        if not are_same(before, way):
            before, count, since = way, 0, at
        self._runs[flow] = (before, count + 1, since)
        if count + 1 >= self.rules.run:
            old = self._flows.get(flow) or next(reversed(self._known))
            self.change = PathChange(old, way, flow, since)
            self._runs.clear()
            self._back.clear()

    def _changed(self, change: PathChange, way: Path, at: datetime, flow: int) -> None:
        if not are_same(way, change.new) and (are_same(way, change.old) or _has(self._known, way)):
            # Only the flow that changed can say that it is back; another may never have left.
            if flow == change.flow:
                self._back[flow] = self._back.get(flow, 0) + 1
                if self._back[flow] >= self.rules.run:
                    self._end("recovered")
        elif flow == change.flow:
            self._back[flow] = 0
        if self.change is not None and at - change.since >= self.rules.settle:
            self._known[change.new] = at
            self._flows[flow] = change.new
            self._end("settled")

    def _end(self, why: str) -> None:
        self.change, self.ended = None, why
        self._runs.clear()

    def _forget(self, now: datetime) -> None:
        old = [way for way, at in self._known.items() if now - at > self.rules.keep]
        for way in old[: max(0, len(self._known) - 1)]:  # the last one known stays, however old
            del self._known[way]
        while len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]


def _has(known: Iterable[Path], way: Path) -> bool:
    return any(are_same(one, way) for one in known)
