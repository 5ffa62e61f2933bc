"""When each round is due: a phase from a hash, and late rounds skipped.

Rules, above the code that keeps them:

* A job's phase is hash(agent, target, medium, kind) mod interval. It depends on nothing else, so adding, removing or
  reordering targets moves nobody, a restart keeps every phase, and a fleet spreads itself without being told to.
* A job has a round at every time t with t mod interval = phase; it is due at t, or a little later where the agent has
  jitter: by hash(agent, target, medium, kind, t / interval) mod (jitter x interval). So rounds do not beat against what
  is periodic in the network, the mean rate stays exact, and the same round is due at the same time in every life.
* Changing a job's interval, or the whole list of jobs, moves only the jobs that changed.
* A round that cannot start within its grace (half an interval, at most one second) is skipped and counted. It is never
  caught up: after a stall or a suspended machine there is no burst.

No clock and no sleep in here: time comes in as an argument and must never run backwards.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b

from records.link import Medium
from records.units import SECOND

__all__ = ["MAX_GRACE_NS", "Job", "JobKey", "Round", "Schedule", "first_due_ns", "jitter_ns", "phase_ns"]

#: Site, medium, kind.
JobKey = tuple[str, str, str]

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
    def key(self) -> JobKey:
        """What names the job, whatever its interval: site, medium, kind."""
        return self.site, self.medium, self.kind

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


def jitter_ns(agent: str, site: str, medium: str, kind: str, number: int, most_ns: int) -> int:
    """How much later than its phase round `number` is due, 0 <= jitter < most_ns; 0 without jitter (most_ns 0)."""
    if most_ns <= 0:
        return 0
    digest = blake2b(f"{agent}\0{site}\0{medium}\0{kind}\0{number}".encode(), digest_size=8, person=b"isochrone-jitter")
    return int.from_bytes(digest.digest(), "big") % most_ns


class Schedule:
    """The rounds of one agent in order of time.

    agent   its id
    jobs    what it does
    now_ns  from when
    jitter  share of the interval by which a round may come later than its phase, 0 <= jitter <= 0.5

    Raises ValueError when a job is given twice.
    """

    def __init__(self, agent: str, jobs: Iterable[Job], now_ns: int, *, jitter: float = 0.0) -> None:
        if not 0 <= jitter <= 0.5:
            raise ValueError(f"jitter {jitter} must be from 0 to 0.5: rounds keep their order")
        self.skipped_rounds = 0
        self._agent, self._jitter = agent, jitter
        # Due time, a number that breaks ties, the round's place on its grid, and the job. An entry whose job is not
        # the live one of its key is stale and dropped when it comes up.
        self._heap: list[tuple[int, int, int, Job]] = []
        self._live: dict[JobKey, tuple[int, Job]] = {}
        self._numbers = 0
        self.update(jobs, now_ns)

    def __len__(self) -> int:
        return len(self._live)

    def update(self, jobs: Iterable[Job], now_ns: int, *, jitter: float | None = None) -> None:
        """Do these jobs from now on. A job that is unchanged keeps its next round, whatever happens to the others."""
        wanted: dict[JobKey, Job] = {}
        for job in jobs:
            if job.key in wanted:
                raise ValueError(f"job given twice: {job}")
            wanted[job.key] = job
        if jitter is not None and jitter != self._jitter:
            self._jitter = jitter
            self._live.clear()
        for key in self._live.keys() - wanted.keys():
            del self._live[key]
        for job in wanted.values():
            self._enter(job, now_ns)
        if len(self._heap) > 2 * len(self._live) + 64:
            self._heap = [entry for entry in self._heap if self._is_live(entry)]
            heapq.heapify(self._heap)

    def retime(self, key: JobKey, interval_ns: int, now_ns: int) -> bool:
        """Give one job another interval; False when it has it already, or when there is no such job."""
        known = self._live.get(key)
        if known is None or known[1].interval_ns == interval_ns:
            return False
        self._enter(replace(known[1], interval_ns=interval_ns), now_ns)
        return True

    @property
    def next_due_ns(self) -> int | None:
        """When the next round is due; None without jobs."""
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now_ns: int) -> tuple[Round, ...]:
        """The rounds to start now, earliest first; those too late are skipped and counted in `skipped_rounds`."""
        rounds: list[Round] = []
        while (due_at_ns := self.next_due_ns) is not None and due_at_ns <= now_ns:
            _, number, grid_ns, job = self._heap[0]
            # The last round that is due by now; those between are missed.
            missed = (now_ns - grid_ns) // job.interval_ns
            if missed and self._due_ns(job, grid_ns + missed * job.interval_ns) > now_ns:
                missed -= 1
            grid_ns += missed * job.interval_ns
            due_at_ns = self._due_ns(job, grid_ns)
            self.skipped_rounds += missed
            if now_ns - due_at_ns <= job.grace_ns:
                rounds.append(Round(job, due_at_ns))
            else:
                self.skipped_rounds += 1
            grid_ns += job.interval_ns
            heapq.heapreplace(self._heap, (self._due_ns(job, grid_ns), number, grid_ns, job))
        rounds.sort(key=lambda entry: entry.due_at_ns)
        return tuple(rounds)

    def _enter(self, job: Job, now_ns: int) -> None:
        known = self._live.get(job.key)
        if known is not None and known[1] == job:
            return
        phase = phase_ns(self._agent, job.site, job.medium, job.kind, job.interval_ns)
        grid_ns = first_due_ns(now_ns, job.interval_ns, phase)
        if self._jitter and self._due_ns(job, grid_ns - job.interval_ns) >= now_ns:
            grid_ns -= job.interval_ns
        # The number also breaks ties, in the order in which the jobs were given.
        self._numbers += 1
        self._live[job.key] = (self._numbers, job)
        heapq.heappush(self._heap, (self._due_ns(job, grid_ns), self._numbers, grid_ns, job))

    def _due_ns(self, job: Job, grid_ns: int) -> int:
        most_ns = int(self._jitter * job.interval_ns)
        return grid_ns + jitter_ns(self._agent, job.site, job.medium, job.kind, grid_ns // job.interval_ns, most_ns)

    def _is_live(self, entry: tuple[int, int, int, Job]) -> bool:
        known = self._live.get(entry[3].key)
        return known is not None and known[0] == entry[1]
