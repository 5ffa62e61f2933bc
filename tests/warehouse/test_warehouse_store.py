"""Exactly once: a batch is stored whole or not at all, once however often it comes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from warehouse_builders import BOOT, NOW, batch, content, ping, put, report, request, trace, transfer

from records.batch import BatchName
from warehouse import Warehouse, ingest
from warehouse.ingest import Reject, parse
from warehouse.maintain import status, tidy, verify
from warehouse.queries import delivery, measurement_counts, reject_counts, rejects, time_range
from warehouse.store import Outcome, store, store_rejected


def _one(wh: Warehouse, query: str) -> object:
    with wh.cursor() as cursor:
        row = cursor.execute(query).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def test_a_repeated_batch_is_stored_once(wh: Warehouse) -> None:
    """The same batch again, alone or beside new ones, changes nothing."""
    first = batch([ping(1, [1000, 2000]), trace(2)], sequence=0)
    assert store(wh, [first]) == [Outcome.STORED]
    assert store(wh, [first]) == [Outcome.ALREADY]
    assert store(wh, [batch([ping(3, [1000])], sequence=1), first, first]) == [Outcome.STORED, Outcome.ALREADY, Outcome.ALREADY]
    assert measurement_counts(wh) == {
        "ping": 2,
        "traceroute": 1,
        "throughput": 0,
        "inference": 0,
        "http": 0,
        "stamp": 0,
        "serving": 0,
        "rtt_matrix": 0,
    }
    assert verify(wh) == []


def test_a_name_used_for_other_content_is_a_conflict(wh: Warehouse) -> None:
    """The first content of a name stays; another one is refused, also within one group."""
    first, other = batch([ping(1, [1000])], sequence=5), batch([ping(2, [1000])], sequence=5)
    assert store(wh, [first, other]) == [Outcome.STORED, Outcome.CONFLICT]
    assert store(wh, [other]) == [Outcome.CONFLICT]
    assert _one(wh, "SELECT list(measurement_id) FROM ping_sample") == [f"{BOOT}-1"]


def test_agents_and_boots_number_their_batches_apart(wh: Warehouse) -> None:
    """The same sequence of another boot or another agent is another batch."""
    batches = [
        batch([ping(1, [1])], sequence=0),
        batch([ping(1, [1], id="bb-1")], sequence=0, boot="bb"),
        batch([ping(1, [1], id="cc-1", agent="fra-1")], sequence=0, agent="fra-1"),
    ]
    assert store(wh, batches) == [Outcome.STORED] * 3


def test_a_failed_transaction_leaves_nothing(wh: Warehouse) -> None:
    """When one table cannot be written, no table is, and the batch may come again."""
    good = batch([ping(1, [1000])], sequence=0)
    broken = batch([trace(2)], sequence=1)
    broken.tables["traceroute"] = broken.tables["traceroute"].drop_columns(["path_hash"])
    with pytest.raises(Exception, match="path_hash"):
        store(wh, [good, broken])
    assert _one(wh, "SELECT count(*) FROM ping_sample") == 0
    assert _one(wh, "SELECT count(*) FROM batch") == 0
    assert store(wh, [good]) == [Outcome.STORED]


def test_a_measurement_sent_under_two_batches_is_kept_and_marked(wh: Warehouse) -> None:
    """An agent that sends a measurement twice is found out: the copy is there, marked, and counts nowhere."""
    lines = [ping(1, [1000, 2000]), trace(2), transfer(3, 1_000_000), request(4, 1000)]
    put(wh, *lines)
    put(wh, *lines, ping(5, [3000]))
    assert measurement_counts(wh) == {
        "ping": 2,
        "traceroute": 1,
        "throughput": 1,
        "inference": 1,
        "http": 0,
        "stamp": 0,
        "serving": 0,
        "rtt_matrix": 0,
    }
    assert _one(wh, "SELECT count(*) FILTER (is_duplicate_id) FROM ping_sample") == 2
    assert _one(wh, "SELECT count(*) FROM valid_ping") == 3
    assert _one(wh, "SELECT count(*) FROM marked_ping") == 5
    got = {row["probe_type"]: (row["stored"], row["duplicated"]) for row in delivery(wh).to_pylist()}
    assert got == {"ping": (3, 1), "traceroute": (2, 1), "throughput": (2, 1), "inference": (2, 1)}


def test_a_measurement_twice_in_one_group_is_marked(wh: Warehouse) -> None:
    """Copies that arrive in the same transaction are told apart too."""
    store(wh, [batch([ping(1, [1000]), trace(2)]), batch([ping(1, [1000]), trace(2)])])
    assert _one(wh, "SELECT count(*), count(*) FILTER (is_duplicate_id) FROM ping_sample") == (2, 1)
    assert _one(wh, "SELECT count(*), count(*) FILTER (is_duplicate_id) FROM traceroute") == (2, 1)


def test_rows_from_the_future_are_kept_and_marked(wh: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a day ahead of its arrival is marked and not valid; less than that is a clock a little off. None such come in any more."""
    monkeypatch.setattr(ingest, "MAX_AHEAD_NS", 1 << 60)
    put(wh, ping(1, [1000], at=NOW + timedelta(hours=23)), ping(2, [1000], at=NOW + timedelta(hours=25)))
    assert _one(wh, "SELECT list(measurement_id ORDER BY measurement_id) FROM marked_ping WHERE is_from_future") == [f"{BOOT}-2"]
    assert _one(wh, "SELECT list(measurement_id) FROM valid_ping") == [f"{BOOT}-1"]
    assert time_range(wh) == (NOW + timedelta(hours=23), NOW + timedelta(hours=23))


def test_rejects_are_kept_with_their_reason(wh: Warehouse) -> None:
    """A bad line is in the table reject with batch, line and reason, stored in the batch's own transaction, once."""
    data = content([ping(1, [1000])]) + b'{"v":1}\n{"v":9,"type":"ping"}\n'
    bad = parse(data, BatchName("sin-1", BOOT, 3), received_at=NOW)
    assert store(wh, [bad, bad]) == [Outcome.STORED, Outcome.ALREADY]
    assert reject_counts(wh) == {"not_an_object": 1, "unknown_version": 1}
    assert [(row["line_number"], row["batch_sequence"], row["line"]) for row in rejects(wh).to_pylist()] == [
        (2, 3, '{"v":1}'),
        (3, 3, '{"v":9,"type":"ping"}'),
    ]
    assert rejects(wh, limit=1).num_rows == 1


def test_the_reject_of_a_whole_batch_is_kept_once_and_leaves_the_name_free(wh: Warehouse) -> None:
    """A batch spoilt on its way is kept as a reject; the good one of that name is stored when it comes."""
    name = BatchName("sin-1", BOOT, 0)

    def reject(sha256: str, who: BatchName | None = name) -> tuple[object, ...]:
        return Reject(None, "not_gzip", "the body is no gzip", None).row("collector", who, sha256, NOW)

    for _ in range(2):
        store_rejected(wh, [reject("abc")])
    assert reject_counts(wh) == {"not_gzip": 1}
    for _ in range(2):  # several at once, one of them twice, one known, one of nobody
        store_rejected(wh, [reject("abc"), reject("def"), reject("def"), reject("abc", None)])
    assert reject_counts(wh) == {"not_gzip": 3}
    assert store(wh, [batch([ping(1, [1000])], sequence=0)]) == [Outcome.STORED]


def test_maintenance_changes_no_answer(own: Warehouse) -> None:
    """Merging files and emptying the catalog's rows leaves every table as it was, and readers their files."""
    for n in range(20):
        put(own, ping(n, [1000 + n, None]), trace(100 + n), transfer(200 + n, 1_000_000), report(NOW + timedelta(seconds=n)))
    names = ("ping_sample", "traceroute", "throughput", "agent_status", "batch")
    query = " UNION ALL ".join(f"(FROM {name} AS t SELECT '{name}', count(*), bit_xor(hash(t)))" for name in names)
    with own.cursor() as cursor:
        before = cursor.execute(query).fetchall()
        files = set((own.location / "data").rglob("*.parquet"))
        tidy(own)
        assert cursor.execute(query).fetchall() == before
    after = {table.name: table for table in status(own).tables}
    assert after["ping_sample"].file_count == 1
    assert after["batch"].row_count == 20
    assert files <= set((own.location / "data").rglob("*.parquet"))
    assert verify(own) == []


def test_verify_finds_a_batch_that_is_recorded_twice(wh: Warehouse) -> None:
    """The books are held against each other: a double record, a wrong count and orphan rows are faults."""
    put(wh, ping(1, [1000]))
    with wh.transaction() as cursor:
        cursor.execute("INSERT INTO batch SELECT * REPLACE (stored_count + 1 AS stored_count) FROM batch")
    assert len(verify(wh)) == 2
    with wh.transaction() as cursor:
        cursor.execute("DELETE FROM batch")
    assert verify(wh) == ["1 rows of ping_sample belong to a batch that is not recorded"]


def test_verify_finds_a_lost_file(own: Warehouse) -> None:
    """A Parquet file that is gone is a fault, not a crash."""
    put(own, ping(1, [1000]))
    for path in (own.location / "data").rglob("*.parquet"):
        path.unlink()
    assert any("ping_sample cannot be read" in fault for fault in verify(own))
