"""What a collector does for its warehouse between commits: roll up, merge small files, make hours and days, remove what is over.

1. Each job is a row of ``JOBS``: how often it begins, and its steps, each a short transaction.
2. `Care.step` does one step of the job that has waited longest; the writer calls it when no batch waits for its commit, or when care has
   been put off for ``_PATIENCE_S``. A batch so waits for one step at most, not for a job.
3. A step that fails ends its job until its next time; the others go on.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb

from records.errors import IsochroneError
from records.texts import one_line
from warehouse.connect import Warehouse
from warehouse.heap import give_back
from warehouse.maintain import clean_steps, tidy_steps
from warehouse.retention import expire_steps, kept
from warehouse.rollup import day_steps, hour_steps, minute_steps

__all__ = ["JOBS", "Care", "Job"]

log = logging.getLogger("isochrone.collector")

#: How long care is put off while batches come without a pause.
_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of care: name, seconds between two beginnings, and its steps."""

    name: str
    every_s: float
    steps: Callable[[Warehouse, datetime], Iterator[object]]


def _clean(warehouse: Warehouse, _: datetime) -> Iterator[object]:
    days = {kind.name: kind.keep_days for kind in kept(warehouse)}
    yield from clean_steps(warehouse, snapshot_days=days["snapshots"])


def _shed(warehouse: Warehouse, _: datetime) -> Iterator[object]:
    yield warehouse.shed()
    yield give_back()


JOBS = (
    Job("rollup", 60.0, lambda warehouse, now: minute_steps(warehouse, now=now)),
    Job("compact", 60.0, lambda warehouse, _: tidy_steps(warehouse)),
    Job("shed", 60.0, _shed),
    Job("hours", 300.0, lambda warehouse, now: hour_steps(warehouse, now=now)),
    Job("days", 900.0, lambda warehouse, now: day_steps(warehouse, now=now)),
    Job("expire", 6 * 3600.0, lambda warehouse, now: expire_steps(warehouse, now=now)),
    Job("clean", 3600.0, _clean),
)


@dataclass(slots=True)
class _State:
    job: Job
    due_s: float
    steps: Iterator[object] | None = None


@dataclass(slots=True)
class Care:
    """The jobs of one warehouse and when each is due; for the one thread that writes.

    scale     all intervals are multiplied by it (tests make days pass quickly)
    clock     what time it is, for the jobs
    seconds   time spent, by job; longest_s the longest step of all
    failures  how often it failed, by job; failing what went wrong at the last try, of jobs that have not come to an end since
    """

    warehouse: Warehouse
    scale: float = 1.0
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    seconds: dict[str, float] = field(default_factory=dict)
    longest_s: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    failing: dict[str, str] = field(default_factory=dict)
    _states: list[_State] = field(default_factory=list)

    def __post_init__(self) -> None:
        began = time.monotonic()
        self._states = [_State(job, began + job.every_s * self.scale) for job in JOBS]

    def is_due(self, *, is_idle: bool) -> bool:
        """Whether a step should be done now; is_idle: no batch waits."""
        return time.monotonic() - min(state.due_s for state in self._states) >= (0.0 if is_idle else _PATIENCE_S)

    def step(self) -> None:
        """Do one step of the job that has been due longest. Never raises: the thread that does it stores the batches too."""
        state = min(self._states, key=lambda state: state.due_s)
        began = time.monotonic()
        try:
            if state.steps is None:
                state.steps = state.job.steps(self.warehouse, self.clock())
            next(state.steps)
            # Its next step takes its turn behind the others that are due.
            state.due_s = began
        except StopIteration:
            self.failing.pop(state.job.name, None)
            self._end(state)
        except (IsochroneError, duckdb.Error, OSError) as error:
            log.warning("maintenance (%s) failed and is tried again later: %s", state.job.name, error)
            self.failures[state.job.name] += 1
            self.failing[state.job.name] = one_line(str(error))[:300]
            self._end(state)
        except Exception:
            log.exception("maintenance (%s) failed and is tried again later", state.job.name)
            self._end(state)
        took_s = time.monotonic() - began
        self.seconds[state.job.name] = self.seconds.get(state.job.name, 0.0) + took_s
        self.longest_s = max(self.longest_s, took_s)

    def _end(self, state: _State) -> None:
        state.steps = None
        state.due_s = time.monotonic() + state.job.every_s * self.scale
