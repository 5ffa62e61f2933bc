"""Copy a warehouse to another place: embedded to scaled out, or back.

1. The source is read at one snapshot. What is committed to it later is not copied: stop its collectors first; agents keep measuring.
2. Rows go in chunks (a table, and of large tables a day or an hour), each in one transaction of the target.
3. A row of the roll-ups counts what was committed up to the mark. Rows of before it go first, then the mark is set to the target's own
   snapshot, then come the rows of after it: whatever is broken off when, nothing is rolled up twice.
4. Broken off, the copy goes on where it stopped: a chunk that is there already, row for row by count, is passed by. A target that holds
   anything else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import duckdb

from records.errors import OutsideError, UserError
from warehouse.attach import attach_beside
from warehouse.connect import Warehouse, open_warehouse
from warehouse.faults import reported
from warehouse.place import identifier, place
from warehouse.statements import statement

__all__ = ["Copied", "copy_warehouse"]

#: Tables that the target makes itself.
_OWN = frozenset({"schema_migration", "view_column", "rollup_mark", "retention"})
#: By what a large table is cut, and how large a chunk may be before it is cut finer.
_TIMES = ("received_at", "bucket_at", "reported_at")
_CHUNK_ROWS = 5_000_000
_DAY_US, _HOUR_US = 86_400_000_000, 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied: rows by table as counted in the target afterwards; found_rows: those of them that were there before."""

    source: str
    target: str
    snapshot_id: int
    found_rows: int
    row_counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Chunk:
    where: str
    rows: int
    label: str


def copy_warehouse(source: str, target: str, *, on_chunk: Callable[[str, int, int], None] = lambda *_: None) -> Copied:
    """Copy the warehouse at `source` to `target`, which is made where it is absent.

    on_chunk   called after each chunk: (what it was, rows that are there, rows in all)

    Raises UserError when the target holds other rows or is the source itself, WarehouseMissing when there is no source, OutsideError when
    a server or disk fails or the counts differ at the end: then the same command goes on where it stopped.
    """
    if place(source).address.partition(" data_path=")[0] == place(target).address.partition(" data_path=")[0]:
        raise UserError(f"{source} cannot be copied to itself; name another place")
    with open_warehouse(source) as checked:
        snapshot = checked.snapshot_id()
    with open_warehouse(target, mode="write") as wh, wh.cursor() as cursor, reported():
        attach_beside(cursor, place(source), "src")
        return _copy(wh, cursor, snapshot, source, on_chunk)


def _copy(
    wh: Warehouse, cursor: duckdb.DuckDBPyConnection, snapshot: int, source: str, on_chunk: Callable[[str, int, int], None]
) -> Copied:
    columns: dict[str, set[str]] = {}
    for table, column in cursor.execute("SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'wh'").fetchall():
        columns.setdefault(str(table), set()).add(str(column))
    listed = cursor.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'wh' AND NOT internal ORDER BY 1").fetchall()
    tables = [str(name) for (name,) in listed if name not in _OWN]
    totals = {table: _number(cursor, f"SELECT count(*) FROM {_source(table, snapshot)}") for table in tables}
    mark, rolled_at = _row(cursor, f"SELECT snapshot_id, rolled_at FROM {_source('rollup_mark', snapshot)}")
    ours = _number(cursor, "SELECT snapshot_id FROM rollup_mark")
    found = sum(_number(cursor, f"SELECT count(*) FROM {identifier(table)}") for table in tables)
    done, total = 0, sum(totals.values())
    # Before the mark, then after it; what a target that is already past its mark holds of the first part was whole then.
    for is_rolled in (True, False):
        for table in tables:
            rolled = f"snapshot_id <= {mark}" if is_rolled else f"snapshot_id > {mark}"
            time = next((name for name in _TIMES if name in columns[table]), None)
            there = "true" if ours == 0 else f"snapshot_id <= {ours}" if is_rolled else f"snapshot_id > {ours}"
            for chunk in _chunks(cursor, table, time, snapshot, rolled, there):
                if chunk.rows:
                    with wh.transaction() as writer:
                        source_rows = f"SELECT * FROM {_source(table, snapshot)} WHERE {chunk.where}"
                        writer.execute(f"INSERT INTO {identifier(table)} BY NAME {source_rows}")
                    done += chunk.rows
                on_chunk(chunk.label, done + found, total)
        if is_rolled and ours == 0 and mark:
            ours = _set_mark(wh, rolled_at)
    with wh.transaction() as writer:
        writer.execute("DELETE FROM retention")
        writer.execute(f"INSERT INTO retention BY NAME FROM {_source('retention', snapshot)}")
    counts = {table: _number(cursor, f"SELECT count(*) FROM {identifier(table)}") for table in tables}
    if counts != totals:
        wrong = ", ".join(f"{table} {counts[table]} of {totals[table]}" for table in tables if counts[table] != totals[table])
        raise OutsideError(f"the copy at {wh.address} is not whole: {wrong}; start it again")
    if faults := [str(row[0]) for row in cursor.execute(statement("queries/verify")).fetchall()]:
        raise OutsideError(f"the copy at {wh.address} is not whole: {faults[0]}; start it again")
    return Copied(source=source, target=wh.address, snapshot_id=snapshot, found_rows=found, row_counts=counts)


def _set_mark(wh: Warehouse, rolled_at: object) -> int:
    """Say that what the target holds now is in its roll-ups; the snapshot that this is."""
    with wh.transaction() as cursor:
        upper = _number(cursor, "SELECT id FROM wh.current_snapshot()")
        cursor.execute(statement("rollup/mark"), {"upper": upper, "now": rolled_at})
    return upper


def _chunks(cursor: duckdb.DuckDBPyConnection, table: str, time: str | None, snapshot: int, rolled: str, there: str) -> Iterator[_Chunk]:
    """The chunks of a table, cut by a column of time where there is one; rows 0: it is there already."""
    source = _source(table, snapshot)
    key, label, sizes = "0", "", dict[int, int]()
    for step, name in ((0, ""), (_DAY_US, "day"), (_HOUR_US, "hour")):
        key, label = (f"epoch_us({time}) // {step}" if step else "0"), name
        sizes = _sizes(cursor, f"SELECT {key}, count(*) FROM {source} WHERE {rolled} GROUP BY ALL ORDER BY ALL")
        if time is None or max(sizes.values(), default=0) <= _CHUNK_ROWS:
            break
    present = _sizes(cursor, f"SELECT {key}, count(*) FROM {identifier(table)} WHERE {there} GROUP BY ALL")
    for at, rows in present.items():
        if sizes.get(at) != rows:
            raise UserError(
                f"the target holds {rows} rows of {table} that are not those of the source ({sizes.get(at, 0)} there); name an empty place"
            )
    for number, (at, rows) in enumerate(sizes.items(), 1):
        what = f"{table}, {label} {number} of {len(sizes)}" if label else table
        yield _Chunk(f"{rolled} AND {key} = {at}", 0 if at in present else rows, what)


def _sizes(cursor: duckdb.DuckDBPyConnection, query: str) -> dict[int, int]:
    """Rows by chunk; an empty table has none (a constant as its key makes one row of it)."""
    return {int(at): int(rows) for at, rows in cursor.execute(query).fetchall() if rows}


def _source(table: str, snapshot: int) -> str:
    return f"src.main.{identifier(table)} AT (VERSION => {snapshot})"


def _row(cursor: duckdb.DuckDBPyConnection, query: str) -> tuple[object, ...]:
    row = cursor.execute(query).fetchone()
    assert row is not None
    return row


def _number(cursor: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(str(_row(cursor, query)[0]))
