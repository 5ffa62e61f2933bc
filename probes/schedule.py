"""When each round is due: a phase from a hash, and late rounds skipped.

Rules, above the code that keeps them:

* A job's phase is hash(agent, target, medium, kind) mod interval. It depends on nothing else, so adding, removing or
  reordering targets moves nobody, a restart keeps every phase, and a fleet spreads itself without being told to.
* A job is due at every time t with t mod interval = phase.
* A round that cannot start within its grace (half an interval, at most one second) is skipped and counted. It is never
  caught up: after a stall or a suspended machine there is no burst.

No clock and no sleep in here: time comes in as an argument and must never run backwards.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from records.link import Medium
from records.units import SECOND

__all__ = ["MAX_GRACE_NS", "Job", "Round", "Schedule", "first_due_ns", "phase_ns"]

#: A round later than this is skipped however long its interval is: else a night's sleep would end in one burst.
MAX_GRACE_NS = SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One probe of one target, to be done every `interval_ns`.

    site, medium  the target
    kind          the probe type; a second probe of the same type is told apart by a suffix, as in ``ping#2``
    """

    site: str
    medium: Medium
    kind: str
    interval_ns: int

    def __post_init__(self) -> None:
        if self.interval_ns <= 0:
            raise ValueError(f"interval_ns {self.interval_ns} must be positive")

    @property
    def grace_ns(self) -> int:
        """How late a round of this job may start."""
        return min(self.interval_ns // 2, MAX_GRACE_NS)


@dataclass(frozen=True, slots=True)
class Round:
    """A job that is to be started now, and when it was due."""

    job: Job
    due_at_ns: int


def phase_ns(agent: str, site: str, medium: str, kind: str, interval_ns: int) -> int:
    """The offset of a job inside its interval, 0 <= phase < interval: the same on every machine and in every version.

    The fields are hashed with their lengths, so that no two different jobs share their input by accident.
    """
    digest = blake2b(digest_size=16, person=b"isochrone-phase")
    for part in (agent, site, medium, kind):
        raw = part.encode()
        digest.update(len(raw).to_bytes(4, "big") + raw)
    # 128 bits, so that the remainder's bias is far below a nanosecond for any interval.
    return int.from_bytes(digest.digest(), "big") % interval_ns


def first_due_ns(now_ns: int, interval_ns: int, phase_ns: int) -> int:
    """The first time at or after `now_ns` that is congruent to the phase."""
    return now_ns + (phase_ns - now_ns) % interval_ns


class Schedule:
    """The rounds of one agent in order of time.

    Parameters: the agent's id, its jobs, and the time from which they run. Raises ValueError when a job is given twice.
    """

    def __init__(self, agent: str, jobs: Iterable[Job], now_ns: int) -> None:
        self.skipped_rounds = 0
        self._heap: list[tuple[int, int, Job]] = []
        seen: set[Job] = set()
        for number, job in enumerate(jobs):
            if job in seen:
                raise ValueError(f"job given twice: {job}")
            seen.add(job)
            phase = phase_ns(agent, job.site, job.medium, job.kind, job.interval_ns)
            # The number only breaks ties, in the order in which the jobs were given.
            self._heap.append((first_due_ns(now_ns, job.interval_ns, phase), number, job))
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_due_ns(self) -> int | None:
        """When the next round is due; None without jobs."""
        return self._heap[0][0] if self._heap else None

    def due(self, now_ns: int) -> tuple[Round, ...]:
        """The rounds to start now, earliest first; those too late are skipped and counted in `skipped_rounds`."""
        rounds: list[Round] = []
        while self._heap and self._heap[0][0] <= now_ns:
            due_at_ns, number, job = self._heap[0]
            missed = (now_ns - due_at_ns) // job.interval_ns
            last_due_ns = due_at_ns + missed * job.interval_ns
            self.skipped_rounds += missed
            if now_ns - last_due_ns <= job.grace_ns:
                rounds.append(Round(job, last_due_ns))
            else:
                self.skipped_rounds += 1
            heapq.heapreplace(self._heap, (last_due_ns + job.interval_ns, number, job))
        rounds.sort(key=lambda entry: entry.due_at_ns)
        return tuple(rounds)
