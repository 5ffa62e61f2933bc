"""What is not needed any more is let go, and free memory goes back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import httpx
import pytest
from warehouse_builders import batch, catalog_in_use, ping, post, trace

from records.errors import OutsideError, WarehouseAway
from warehouse import Warehouse, open_warehouse
from warehouse.attach import THREADS_VARIABLE
from warehouse.ingest import Batch
from warehouse.intake import make_app
from warehouse.store import Outcome, store
from warehouse.writer import Unstorable, Writer

#: A hundred MB in pieces of 20 kB, all free again but each hundredth: what is free lies below what is in use.
PROGRAM = """
from pathlib import Path
from warehouse.heap import give_back

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

pieces = [bytes([n % 7 + 1]) * 20_000 for n in range(5_000)]
kept = pieces[99::100]
del pieces
before_mb = resident_mb()
print(give_back(), before_mb - resident_mb(), sum(map(len, kept)))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_what_is_free_between_what_is_in_use_goes_back() -> None:
    """Of a hundred MB, of which one is in use, at least half is not resident any more."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    said, less_mb, in_use = done.stdout.split()
    assert (said, int(in_use)) == ("True", 1_000_000)
    assert float(less_mb) > 50


@pytest.fixture(autouse=True)
def _unrecorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest keeps what is logged, and errors with it."""
    monkeypatch.setattr(logging.getLogger("isochrone.collector"), "disabled", True)


def _left() -> int:
    """Batches in memory, with the garbage collector off: it may come hours later where millions of objects live long."""
    return sum(isinstance(one, Batch) for one in gc.get_objects())


def _without_collector(tried: Callable[[], None]) -> int:
    """Batches that are left of what is done."""
    gc.collect()
    before = _left()
    gc.disable()
    try:
        tried()
        return _left() - before
    finally:
        gc.enable()


def test_a_group_that_could_not_be_stored_is_let_go(own: Warehouse) -> None:
    """Once the writer's waiters know, nothing holds the batches: not the errors, nor the frames that they came through."""

    def tried() -> None:
        writer = Writer(own, interval_s=0.3)
        with catalog_in_use(own.location):
            futures = [writer.submit(batch([ping(n, [1])], sequence=n)) for n in range(5)]
            for future in futures:
                with pytest.raises(OutsideError, match="locked"):
                    future.result(100)
        writer.stop()

    assert _without_collector(tried) == 0


def test_a_batch_that_never_will_be_stored_is_let_go(own: Warehouse) -> None:
    """Nor what the database refuses for good."""

    def tried() -> None:
        broken = batch([trace(0)])
        broken.tables["traceroute"] = broken.tables["traceroute"].drop_columns(["path_hash"])
        writer = Writer(own, interval_s=0)
        with pytest.raises(Unstorable):
            writer.submit(broken).result(100)
        writer.stop()

    assert _without_collector(tried) == 0


def test_an_answered_request_is_let_go(own: Warehouse) -> None:
    """Whatever its answer, 503 or 200."""
    app = make_app(own, tokens=None, commit_interval_s=0.05)

    async def talk() -> None:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://collector", timeout=60) as client,
        ):
            with catalog_in_use(own.location):
                assert (await client.post(**post([ping(1, [1])]))).status_code == 503
            assert (await client.post(**post([ping(1, [1])]))).status_code == 200

    assert _without_collector(lambda: asyncio.run(talk())) == 0


def test_an_error_of_the_catalog_holds_nothing(kept: Path) -> None:
    """What `store` was given is gone with the error."""

    def tried() -> None:
        with open_warehouse(kept, mode="write") as wh, catalog_in_use(kept), pytest.raises(OutsideError):
            store(wh, [batch([ping(0, [1])])])

    assert _without_collector(tried) == 0


def _threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


@pytest.fixture
def threaded(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    """Each database of it has two threads besides ours: who counts them knows how many there are."""
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    with open_warehouse(kept, mode="write") as warehouse:
        yield warehouse


def test_commits_that_failed_are_let_go_with_their_database(threaded: Warehouse) -> None:
    """DuckLake keeps them, and they keep its database and its threads, until that is detached: a minute after the next shedding."""
    asked, within = threaded.cursor(), threaded.cursor()
    within.execute("BEGIN")
    within.execute("SELECT count(*) FROM ping_sample")
    with catalog_in_use(threaded.location):
        for n in range(20):
            with pytest.raises(WarehouseAway, match="locked"):
                store(threaded, [batch([ping(n, [1])], sequence=n)])
    assert _kept_mb(threaded) > 4
    before = _threads()
    assert threaded.shed()
    assert _kept_mb(threaded) == 0
    assert _threads() == before + 2
    assert asked.execute("SELECT count(*) FROM ping_sample").fetchone() == (0,)  # who was asking may go on for now
    assert not threaded.shed()  # nothing new to shed
    assert within.execute("SELECT count(*) FROM ping_sample").fetchone() == (0,)  # a transaction goes on to its end
    with pytest.raises(duckdb.Error):
        asked.execute("SELECT count(*) FROM ping_sample")
    for cursor in (within, asked):
        cursor.close()
    assert _threads() == before
    assert store(threaded, [batch([ping(0, [1])], sequence=0)]) == [Outcome.STORED]


def test_a_bounded_database_is_let_go_too(threaded: Warehouse) -> None:
    """Merges commit on one of their own."""
    before = _threads()
    with catalog_in_use(threaded.location), pytest.raises(WarehouseAway), threaded.bounded(300) as small:
        store(small, [batch([ping(0, [1])], sequence=0)])
    assert _threads() == before


def _kept_mb(wh: Warehouse) -> float:
    """Rows that DuckDB holds in memory."""
    with wh.cursor() as cursor:
        found = cursor.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory() WHERE tag = 'COLUMN_DATA'").fetchone()
    assert found is not None
    return float(found[0]) / 1e6
