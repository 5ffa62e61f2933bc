"""The group commit: one thread that gathers batches from many requests and commits them together, about once per second.

1. A batch waits until its group has committed; only then is it acknowledged.
2. A group commits at once when the last commit is an interval or more ago, else when the interval is over, or when it is large.
3. What waits for its commit is bounded, in batches, in bytes and in time: beyond it `submit` refuses, and the agent keeps the batch and
   comes back. In time, because an agent gives up waiting for its answer after half a minute and sends the batch again: a collector that
   took on more than it can commit by then would do everything twice and fall further behind.
4. When a group cannot be stored, its batches are stored one by one, so that one bad batch costs no other; not while nothing can be
   written at all: then all are refused at once.
5. A batch that was taken is stored, also when the request that brought it is gone: sent again, it is stored already.
6. Whatever goes wrong with one group, the thread goes on with the next.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import duckdb

from records.errors import IsochroneError, WarehouseAway
from warehouse.care import Care
from warehouse.columns import Row
from warehouse.connect import Warehouse
from warehouse.ingest import Batch
from warehouse.store import Outcome, store, store_rejected

__all__ = ["Busy", "Unstorable", "Writer", "WriterStats"]

log = logging.getLogger("isochrone.collector")

#: Errors of DuckDB that trying again may mend; any other says that the data itself cannot be stored.
_OUTSIDE = (
    duckdb.IOException,
    duckdb.TransactionException,
    duckdb.OutOfMemoryException,
    duckdb.InterruptException,
    duckdb.ConnectionException,
)


class Busy(Exception):
    """Too many batches wait for their commit."""


class Unstorable(Exception):
    """The database refuses the batch's content; it never will take it."""


@dataclass(slots=True)
class WriterStats:
    """What the writer counts for /metrics."""

    commits: int = 0
    commit_seconds: float = 0.0
    last_commit_seconds: float = 0.0
    failures: int = 0
    rows: dict[str, int] = field(default_factory=dict)


_Job = tuple[Batch | Row, "Future[Outcome]"]


class Writer:
    """Owns all writing of a collector.

    interval_s   least time between the starts of two commits
    max_batches  most batches that wait for their commit
    max_bytes    most bytes of rows that wait for their commit; a single batch may be larger
    max_wait_s   nothing more is taken while a batch has waited longer than this for its commit
    max_rows     a group of this many rows commits without waiting
    care_scale   the intervals of maintenance are multiplied by it (see warehouse.care)
    """

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        interval_s: float = 1.0,
        max_batches: int = 1000,
        max_bytes: int = 256 << 20,
        max_wait_s: float = 10.0,
        max_rows: int = 200_000,
        care_scale: float = 1.0,
    ) -> None:
        self.stats = WriterStats()
        self._warehouse = warehouse
        self._interval_s, self._max_rows = interval_s, max_rows
        self.care = Care(warehouse, scale=care_scale)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._max_batches, self._max_bytes, self._max_wait_s = max_batches, max_bytes, max_wait_s
        self._waiting_bytes = 0
        #: When each batch that waits came, the oldest first.
        self._since_s: dict[Future[Outcome], float] = {}
        self._waiting_lock = threading.Lock()
        self._hurried = threading.Event()
        self._thread = threading.Thread(target=self._run, name="warehouse-writer", daemon=True)
        self._stopping = threading.Event()
        self._thread.start()

    @property
    def depth(self) -> int:
        """Batches that wait for their commit."""
        return len(self._since_s)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of rows that wait for their commit."""
        return self._waiting_bytes

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken until a commit."""
        with self._waiting_lock:
            return self._is_full()

    def _is_full(self) -> bool:
        if len(self._since_s) >= self._max_batches or self._waiting_bytes >= self._max_bytes:
            return True
        oldest_s = next(iter(self._since_s.values()), None)
        return oldest_s is not None and time.monotonic() - oldest_s > self._max_wait_s

    @property
    def is_alive(self) -> bool:
        """Whether it would store a batch."""
        return self._thread.is_alive() and not self._stopping.is_set()

    def submit(self, job: Batch | Row) -> Future[Outcome]:
        """Queue a batch, or the reject of a whole one (a row of the table reject); the future is done after the commit.

        The future raises Unstorable, or the error of the warehouse; it cannot be cancelled. Raises Busy when too many wait.
        """
        size = job.byte_count if isinstance(job, Batch) else 0
        with self._waiting_lock:
            if not self.is_alive or self._is_full() or (self._since_s and self._waiting_bytes + size > self._max_bytes):
                raise Busy
            self._waiting_bytes += size
            future: Future[Outcome] = Future()
            # A request that is cancelled passes that on to what it awaits. What was queued is in memory until its commit, and counted so.
            future.set_running_or_notify_cancel()
            self._since_s[future] = time.monotonic()
            future.add_done_callback(lambda done: self._answered(done, size))
            self._queue.put((job, future))
        return future

    def _answered(self, future: Future[Outcome], size: int) -> None:
        with self._waiting_lock:
            del self._since_s[future]
            self._waiting_bytes -= size

    def hurry(self) -> None:
        """Commit what waits, and from now on whatever comes, without gathering: the collector is about to end."""
        self._hurried.set()
        self._queue.put(None)  # wakes the thread

    def stop(self) -> None:
        """Store what waits, then end."""
        with self._waiting_lock:
            self._stopping.set()
        self.hurry()
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic() - self._interval_s
        while True:
            try:
                # Care that is under way goes on as soon as nobody waits.
                first = self._queue.get(timeout=0.05 if self.care.is_due(is_idle=True) else 1.0)
            except queue.Empty:
                first = None
            if first is not None:
                last = self._take(first, last + self._interval_s)
            elif self._stopping.is_set() and self._queue.empty():
                return
            if not self._stopping.is_set() and self.care.is_due(is_idle=first is None and self._queue.empty()):
                self.care.step()

    def _take(self, first: _Job, until: float) -> float:
        """Gather and commit a group; when its commit began. Never raises: without this thread nothing would ever be stored again."""
        group = [first]
        began = time.monotonic()
        try:
            self._gather(group, until)
            began = time.monotonic()
            self._commit(group)
        except Exception as error:
            self.stats.failures += 1
            log.exception("a group of %d batches could not be stored", len(group))
            for _, future in group:
                if not future.done():
                    future.set_exception(_bare(error))
        return began

    def _gather(self, group: list[_Job], until: float) -> None:
        """More of the queue, for the same commit."""
        rows = _rows_of(group[0])
        while rows < self._max_rows:
            wait_s = 0.0 if self._hurried.is_set() else until - time.monotonic()
            try:
                job = self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                continue
            group.append(job)
            rows += _rows_of(job)

    def _commit(self, group: list[_Job]) -> None:
        batches = [(job, future) for job, future in group if isinstance(job, Batch)]
        if batches:
            self._store(batches)
        rejects = [(job, future) for job, future in group if not isinstance(job, Batch)]
        if rejects:
            self._keep(rejects)

    def _store(self, batches: list[tuple[Batch, Future[Outcome]]]) -> None:
        try:
            outcomes = self._timed([batch for batch, _ in batches])
        except WarehouseAway as error:  # one by one it would be the same, for as long as there are batches
            self.stats.failures += len(batches)
            log.warning("cannot store %d batches now: %s", len(batches), error)
            for _, future in batches:
                future.set_exception(_bare(error))
        except Exception:  # noqa: BLE001 - whatever it is, each batch is told on its own below
            if len(batches) > 1:
                for job in batches:
                    self._store([job])
            else:
                self._fail(batches[0])
        else:
            for (batch, future), outcome in zip(batches, outcomes, strict=True):
                if outcome is Outcome.STORED:
                    for name, table in batch.tables.items():
                        self.stats.rows[name] = self.stats.rows.get(name, 0) + table.num_rows
                future.set_result(outcome)

    def _keep(self, rejects: list[tuple[Row, Future[Outcome]]]) -> None:
        """What cannot be read is stored together too: it costs no more than what can."""
        try:
            store_rejected(self._warehouse, [row for row, _ in rejects])
        except Exception as error:  # noqa: BLE001 - told to the requests that wait for it
            if len(rejects) > 1 and not isinstance(error, WarehouseAway):
                for one in rejects:
                    self._keep([one])
            else:
                for _, future in rejects:
                    future.set_exception(_bare(error))
        else:
            self.stats.rows["reject"] = self.stats.rows.get("reject", 0) + len(rejects)
            for _, future in rejects:
                future.set_result(Outcome.STORED)

    def _timed(self, batches: list[Batch]) -> list[Outcome]:
        began = time.perf_counter()
        outcomes = store(self._warehouse, batches)
        self.stats.last_commit_seconds = time.perf_counter() - began
        self.stats.commit_seconds += self.stats.last_commit_seconds
        self.stats.commits += 1
        return outcomes

    def _fail(self, job: tuple[Batch, Future[Outcome]]) -> None:
        """One batch failed by itself: try once more (a conflict may have passed), then say so."""
        batch, future = job
        try:
            future.set_result(self._timed([batch])[0])
        except (IsochroneError, OSError, *_OUTSIDE) as error:
            self.stats.failures += 1
            log.warning("cannot store batch %s: %s", batch.name, error)
            future.set_exception(_bare(error))
        except Exception as error:
            self.stats.failures += 1
            log.exception("batch %s cannot be stored", batch.name)
            future.set_exception(Unstorable(str(error).partition("\n")[0]))


def _rows_of(job: _Job) -> int:
    return job[0].row_count if isinstance(job[0], Batch) else 1


def _bare(error: Exception) -> Exception:
    """The error as whoever waits is told it: without the frames that it came through, for they hold the group, and that holds the future
    which holds the error. Such a ring stays, with all its batches, until Python looks for one.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
