"""The group commit: what waits is bounded, what fails costs no other, and the writer goes on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from warehouse_builders import batch, catalog_in_use, ping, trace

from records.errors import WarehouseAway
from warehouse import Warehouse, open_warehouse
from warehouse import writer as writer_module
from warehouse.ingest import Batch
from warehouse.queries import measurement_counts
from warehouse.store import Outcome, store
from warehouse.writer import Busy, Unstorable, Writer


def test_a_full_queue_is_busy(kept: Path) -> None:
    """When the writer cannot keep up, submit refuses instead of filling memory; what was queued is stored."""
    with open_warehouse(kept, mode="write") as wh:
        writer = Writer(wh, interval_s=0, max_batches=2)
        with wh.lock.held():
            futures = [writer.submit(batch([ping(n, [1])])) for n in (1, 2)]
            with pytest.raises(Busy):
                writer.submit(batch([ping(3, [1])]))
            assert writer.depth == 2
        assert [future.result(60) for future in futures] == [Outcome.STORED] * 2
        assert writer.submit(batch([ping(3, [1])])).result(60) is Outcome.STORED
        writer.stop()
        with pytest.raises(Busy):
            writer.submit(batch([ping(4, [1])]))


def test_a_request_that_is_given_up_costs_no_other(kept: Path) -> None:
    """Cancelled while its batch waits: that is stored all the same, once, the other of its group is answered, and the next is taken."""
    given_up, other = batch([ping(1, [1])]), batch([ping(2, [1])])

    async def requests(wh: Warehouse, writer: Writer) -> Outcome:
        async def request(one: Batch) -> Outcome:
            return await asyncio.wrap_future(writer.submit(one))

        with wh.lock.held():
            waiting, answered = asyncio.create_task(request(given_up)), asyncio.create_task(request(other))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert writer.depth == 2
        return await asyncio.wait_for(answered, 60)

    with open_warehouse(kept, mode="write") as wh:
        writer = Writer(wh, interval_s=0)
        assert asyncio.run(requests(wh, writer)) is Outcome.STORED
        assert writer.submit(given_up).result(60) is Outcome.ALREADY
        assert writer.submit(batch([ping(3, [1])])).result(60) is Outcome.STORED
        assert (writer.is_alive, writer.depth, writer.waiting_bytes) == (True, 0, 0)
        writer.stop()
        assert measurement_counts(wh)["ping"] == 3


def test_no_fault_of_a_group_ends_the_writer(kept: Path) -> None:
    """A future that somebody else has answered, and a job without a number of rows: what comes after is stored."""
    with open_warehouse(kept, mode="write") as wh:
        writer = Writer(wh, interval_s=0)
        with wh.lock.held():
            writer.submit(batch([ping(1, [1])])).set_exception(RuntimeError("not yours to answer"))
        broken = batch([ping(2, [1])])
        broken.tables["ping_sample"] = memoryview(b"")  # it has bytes
        with pytest.raises(AttributeError):
            writer.submit(broken).result(60)
        assert writer.submit(batch([ping(3, [1])])).result(60) is Outcome.STORED
        assert writer.is_alive
        assert writer.stats.failures in {1, 2}  # one, where a busy machine gathered both
        writer.stop()


def test_a_queue_full_of_bytes_is_busy(kept: Path) -> None:
    """What waits is bounded in bytes too, whatever the number of batches; one batch larger than the bound still gets through."""
    with open_warehouse(kept, mode="write") as wh:
        writer = Writer(wh, interval_s=0, max_bytes=1)
        with wh.lock.held():
            future = writer.submit(batch([ping(1, [1])]))
            with pytest.raises(Busy):
                writer.submit(batch([ping(2, [1])]))
            assert writer.waiting_bytes > 1
        assert future.result(60) is Outcome.STORED
        assert writer.submit(batch([ping(2, [1])])).result(60) is Outcome.STORED
        assert writer.waiting_bytes == 0
        writer.stop()


def test_a_queue_that_has_waited_too_long_is_busy(kept: Path) -> None:
    """An agent gives up after half a minute and sends again: what would not be answered by then is not taken, until the queue is empty."""
    with open_warehouse(kept, mode="write") as wh:
        writer = Writer(wh, interval_s=0, max_wait_s=0.2)
        with wh.lock.held():
            future = writer.submit(batch([ping(1, [1])]))
            until = time.monotonic() + 30
            while not writer.is_full:
                assert time.monotonic() < until
                time.sleep(0.01)
            with pytest.raises(Busy):
                writer.submit(batch([ping(2, [1])]))
        assert future.result(60) is Outcome.STORED
        assert not writer.is_full
        assert writer.submit(batch([ping(2, [1])])).result(60) is Outcome.STORED
        writer.stop()


def test_one_bad_batch_costs_no_other_of_its_group(kept: Path) -> None:
    """A batch the database will not take is told so; those committed with it are stored."""
    broken = batch([trace(2)])
    broken.tables["traceroute"] = broken.tables["traceroute"].drop_columns(["path_hash"])
    with open_warehouse(kept, mode="write") as wh:
        writer = Writer(wh, interval_s=0.3)
        futures = [writer.submit(one) for one in (batch([ping(0, [1])]), batch([ping(1, [1])]), broken, batch([ping(3, [1])]))]
        with pytest.raises(Unstorable):
            futures[2].result(60)
        assert [futures[n].result(60) for n in (0, 1, 3)] == [Outcome.STORED] * 3
        writer.stop()
        assert measurement_counts(wh)["ping"] == 3


def test_a_catalog_that_cannot_be_used_is_no_fault_of_the_batch(kept: Path) -> None:
    """While another program holds the SQLite catalog a group is refused for now, at once and not one by one, and not for ever."""
    group = [batch([ping(n, [1])], sequence=n) for n in range(8)]
    with open_warehouse(kept, mode="write") as wh:
        writer = Writer(wh, interval_s=0.5)
        assert writer.submit(batch([ping(9, [1])], sequence=9)).result(60) is Outcome.STORED  # what comes now is gathered
        tried: list[int] = []
        with pytest.MonkeyPatch.context() as patched, catalog_in_use(kept):
            patched.setattr(writer_module, "store", lambda wh, batches: tried.append(len(batches)) or store(wh, batches))
            for future in [writer.submit(one) for one in group]:
                with pytest.raises(WarehouseAway, match=r"catalog cannot be used: .*locked"):
                    future.result(100)
        assert sum(tried) == writer.stats.failures == 8
        assert [writer.submit(one).result(60) for one in group] == [Outcome.STORED] * 8
        writer.stop()
