"""Store batches exactly once: rows, rejects and the batch's own record commit in one transaction, or none of them does."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.columns import COLUMNS, Row, tables
from warehouse.connect import Warehouse
from warehouse.ingest import Batch
from warehouse.statements import bound, statement

__all__ = ["Outcome", "store", "store_rejected", "with_incoming"]

#: Tables whose rows carry a measurement id that may have been stored before.
_MEASUREMENTS = ("ping_sample", "traceroute", "throughput", "inference", "http", "stamp", "serving")


class Outcome(Enum):
    """What became of a batch."""

    STORED = "stored"
    ALREADY = "already"
    CONFLICT = "conflict"


def store(warehouse: Warehouse, batches: Sequence[Batch]) -> list[Outcome]:
    """Store those of the batches that are not stored yet, all in one transaction; the outcome of each, in their order.

    CONFLICT: its name was used before for other content; nothing of it is stored.
    """
    if not batches:
        return []
    outcomes: list[Outcome] = []
    fresh: list[Batch] = []
    agents = {batch.name.agent for batch in batches}
    with warehouse.transaction(agents, on_commit=lambda: warehouse.stored.stored(batch.name for batch in fresh)) as cursor:
        known = warehouse.stored.look_up(cursor, {batch.name for batch in batches})
        for batch in batches:
            content = known.get(batch.name)
            if content is None:
                known[batch.name] = batch.content_sha256
                fresh.append(batch)
                outcomes.append(Outcome.STORED)
            else:
                outcomes.append(Outcome.ALREADY if content == batch.content_sha256 else Outcome.CONFLICT)
        for name, table in _joined(fresh).items():
            insert(cursor, name, table)
    return outcomes


def insert(cursor: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    """Insert an Arrow table into the table `name`, inside the caller's transaction."""
    parameters = {}
    if name in _MEASUREMENTS:
        bounds = pc.min_max(table["started_at"])
        parameters = {"since": bounds["min"].as_py(), "until": bounds["max"].as_py()}
        if (
            name == "ping_sample"
            and _are_single(table)
            and with_incoming(cursor, table, *bound("ingest/known_rounds", parameters)) == [(False,)]
        ):
            with_incoming(cursor, table, statement("ingest/new_rounds"))
            return
    with_incoming(cursor, table, statement(f"ingest/{name}"), parameters)


def _are_single(table: pa.Table) -> bool:
    """Whether no packet of these is there twice: of one measurement, with one sequence."""
    measurements = table["measurement_id"].combine_chunks().dictionary_encode().indices
    bounds = pc.min_max(table["sequence"])
    if bounds["min"].as_py() < 0 or bounds["max"].as_py() >= 1 << 31:
        return False
    keys = pc.add(pc.multiply(pc.cast(measurements, pa.int64()), 1 << 31), table["sequence"])
    return bool(len(pc.unique(keys)) == table.num_rows)


def with_incoming(
    cursor: duckdb.DuckDBPyConnection, table: pa.Table, sql: str, parameters: dict[str, object] | None = None
) -> list[tuple[object, ...]]:
    """The rows of a statement that reads an Arrow table as ``incoming``."""
    cursor.register("incoming", table)
    try:
        rows: list[tuple[object, ...]] = cursor.execute(sql, parameters or None).fetchall()
        return rows
    finally:
        cursor.unregister("incoming")


def _joined(batches: Sequence[Batch]) -> dict[str, pa.Table]:
    if not batches:
        return {}
    joined = {
        name: pa.concat_tables([batch.tables[name] for batch in batches if name in batch.tables])
        for name in COLUMNS
        if any(name in batch.tables for batch in batches)
    }
    joined |= tables({"batch": [_batch_row(batch) for batch in batches]})
    return joined


def _batch_row(batch: Batch) -> Row:
    name = batch.name
    counts = (batch.line_count, batch.stored_count, len(batch.rejects))
    return (name.agent, name.boot, name.sequence, batch.content_sha256, batch.source, batch.received_at, *counts, batch.redated_ns)


def store_rejected(warehouse: Warehouse, rows: Sequence[Row]) -> None:
    """Keep the rejects of whole batches that cannot be read, all in one transaction; what is sent again is kept once.

    They do not use up the batches' names.
    """
    columns = list(COLUMNS["reject"])
    sha256_at, agent_at = columns.index("content_sha256"), columns.index("agent")
    new = {(row[sha256_at], row[agent_at]): row for row in rows}
    with warehouse.transaction({str(agent) for _, agent in new}) as cursor:
        for known in with_incoming(cursor, tables({"reject": [*new.values()]})["reject"], statement("ingest/known_rejects")):
            new.pop((known[0], known[1]), None)
        if new:
            insert(cursor, "reject", tables({"reject": [*new.values()]})["reject"])
