"""Maintenance: rows kept in the catalog go to Parquet, small files are merged, files nothing points to are removed.

Merging is by size class, so that a large file is not written anew each time a small one joins it. Nothing here changes
what a query returns; readers keep their files for the grace period.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from warehouse.connect import CATALOG, Warehouse
from warehouse.faults import away, reported
from warehouse.lock import CATALOG_ALIAS
from warehouse.place import identifier, quoted
from warehouse.statements import bound, statement

__all__ = ["MERGE_FROM_FILES", "Status", "TableStatus", "clean_steps", "status", "tidy", "tidy_steps", "verify"]

#: How long a file that was merged away stays for readers that still use it. DuckLake 1.0 compares this with a SQLite catalog
#: by the day only (both times as text, one with a space and one with a T): 25 hours is then at least one hour.
GRACE = "25 hours"
#: Every version of the warehouse is kept for so long, later one of each minute: DuckLake reads the list of all for each transaction, which
#: after a day of one-second commits would take as long as the commit.
EVERY_SNAPSHOT = timedelta(hours=2)
_EXPIRED_AT_ONCE = 2000
_SMALL_BYTES, _MIDDLE_BYTES = 4 << 20, 32 << 20
MERGE_FROM_FILES = 16
#: Merging sorts: without a bound it takes 800 bytes for each packet, gigabytes for a file; with one it sorts on the disk in the same time.
_MERGE_MEMORY_MB = 1000
#: Files are written anew without their deleted rows from this share of them on.
_REWRITE_FROM = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStatus:
    """One table's rows, Parquet files and their bytes."""

    name: str
    row_count: int
    file_count: int
    file_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A warehouse at a glance; schema is its newest migration.

    retention         days each kind is kept, by name; None: for ever
    rolled_at         when the newest pass over the roll-ups was made; None: there was none
    unrolled_commits  snapshots since: read from raw rows until the next pass
    """

    location: str
    snapshot_id: int
    schema: str
    catalog_bytes: int
    data_bytes: int
    tables: tuple[TableStatus, ...]
    snapshot_count: int
    retention: dict[str, int | None]
    rolled_at: datetime | None
    unrolled_commits: int


def status(warehouse: Warehouse) -> Status:
    """Sizes, rows and versions of a warehouse."""
    with warehouse.cursor() as cursor:
        files = cursor.execute(statement("queries/status")).fetchall()
        tables = tuple(
            TableStatus(name=name, row_count=_count(cursor, name), file_count=count, file_bytes=size) for name, count, size in files
        )
        snapshots = cursor.execute("SELECT count(*) FROM __ducklake_metadata_wh.ducklake_snapshot").fetchone()
        days = {name: keep for name, keep, _ in cursor.execute(statement("care/retention")).fetchall()}
        mark = cursor.execute("SELECT snapshot_id, rolled_at FROM rollup_mark").fetchone()
        schema = cursor.execute("SELECT max(name) FROM schema_migration WHERE name <> 'views'").fetchone()
    assert schema is not None
    assert snapshots is not None
    assert mark is not None
    snapshot_id = warehouse.snapshot_id()
    return Status(
        location=warehouse.address,
        snapshot_id=snapshot_id,
        schema=schema[0],
        catalog_bytes=_catalog_bytes(warehouse),
        data_bytes=_data_bytes(warehouse),
        tables=tables,
        snapshot_count=int(snapshots[0]),
        retention=days,
        rolled_at=mark[1],
        unrolled_commits=snapshot_id - mark[0],
    )


def _catalog_bytes(warehouse: Warehouse) -> int:
    if warehouse.place.folder is not None:
        return sum(path.stat().st_size for path in warehouse.place.folder.glob(f"{CATALOG}*"))
    with warehouse.cursor() as cursor:
        row = cursor.execute(f"FROM postgres_query('{CATALOG_ALIAS}', 'SELECT pg_database_size(current_database()) AS size')").fetchone()
    assert row is not None
    return int(row[0])


def _data_bytes(warehouse: Warehouse) -> int:
    """All Parquet files, those that wait to be removed too; in S3, those that the catalog still needs."""
    path = warehouse.data_path
    if not path.startswith("s3://"):
        return sum(file.stat().st_size for file in Path(path).rglob("*.parquet"))
    with warehouse.cursor() as cursor:
        row = cursor.execute("SELECT coalesce(sum(file_size_bytes), 0) FROM __ducklake_metadata_wh.ducklake_data_file").fetchone()
    assert row is not None
    return int(row[0])


def _count(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    row = cursor.execute(f"SELECT count(*) FROM {identifier(table)}").fetchone()  # noqa: S608
    assert row is not None
    return int(row[0])


def verify(warehouse: Warehouse) -> list[str]:
    """Read every row of every table and hold the books against each other; one sentence per fault, none when all is well.

    Raises OutsideError when PostgreSQL or S3 do not answer, NotPermitted when they refuse: that says nothing of the warehouse.
    """
    faults = []
    with reported(), warehouse.cursor() as cursor:
        for name, _, _ in cursor.execute(statement("queries/status")).fetchall():
            try:
                cursor.execute(f"SELECT count(COLUMNS(*)) FROM {identifier(name)}").fetchall()  # noqa: S608
            except duckdb.Error as error:
                if (unanswered := away(error)) is not None:
                    raise unanswered from error
                faults.append(f"{name} cannot be read: {str(error).partition(chr(10))[0]}")
        if not faults:
            faults = [str(row[0]) for row in cursor.execute(statement("queries/verify")).fetchall()]
    return faults


def _memory_mb() -> int:
    """What the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000


def tidy(warehouse: Warehouse) -> None:
    """All of `tidy_steps`, one after the other."""
    for _ in tidy_steps(warehouse):
        pass


def tidy_steps(warehouse: Warehouse, *, least: int = MERGE_FROM_FILES) -> Iterator[str]:
    """Flush rows kept in the catalog, merge small files where there are `least` or more; what was done, one bounded step at a time.

    Between two steps others may write.
    """
    with warehouse.cursor() as cursor:
        inlined = [str(row[0]) for row in cursor.execute(statement("care/inlined")).fetchall()]
        for name in inlined:
            with warehouse.transaction() as writer:
                writer.execute(f"CALL ducklake_flush_inlined_data('wh', table_name => {quoted(name)})")
            yield f"flush {name}"
        for name in (str(row[0]) for row in cursor.execute(statement("care/deleted_from")).fetchall()):
            with warehouse.transaction() as writer:
                writer.execute(f"CALL ducklake_rewrite_data_files('wh', {quoted(name)}, delete_threshold => {_REWRITE_FROM})")
            yield f"rewrite {name}"
        parameters = {"small_bytes": _SMALL_BYTES, "middle_bytes": _MIDDLE_BYTES, "least": least}
        small = cursor.execute(statement("care/small_files"), parameters).fetchall()
    if not small:
        return
    with warehouse.bounded(min(_MERGE_MEMORY_MB, _memory_mb() * 2 // 5)) as merging:
        for name, size_class, _ in small:
            low, high = ((0, _SMALL_BYTES), (_SMALL_BYTES, _MIDDLE_BYTES))[size_class]
            is_done = False
            while not is_done:
                with merging.transaction() as writer:
                    merged = writer.execute(
                        f"CALL ducklake_merge_adjacent_files('wh', {quoted(name)}, min_file_size => {low}, max_file_size => {high}, "
                        "max_compacted_files => 1)"
                    ).fetchall()
                is_done = not merged
                yield f"merge {name}"


def clean_steps(warehouse: Warehouse, *, snapshot_days: int | None) -> Iterator[str]:
    """Drop old versions, and files that no version needs, after the grace period; what was done, one bounded step at a time.

    snapshot_days   versions are kept so long, those older than EVERY_SNAPSHOT one of each minute; None: all for ever
    """
    calls = [
        ("files", f"CALL ducklake_cleanup_old_files('wh', older_than => now() - INTERVAL '{GRACE}')"),
        ("orphans", f"CALL ducklake_delete_orphaned_files('wh', older_than => now() - INTERVAL '{GRACE}')"),
    ]
    with warehouse.cursor() as cursor:
        if snapshot_days is not None:
            text, _ = bound("care/old_snapshots", {"oldest": timedelta(days=snapshot_days), "thin_from": EVERY_SNAPSHOT})
            old = [int(number) for (number,) in cursor.execute(text).fetchall()]
            for first in range(0, max(1, len(old)), _EXPIRED_AT_ONCE):
                some = old[first : first + _EXPIRED_AT_ONCE]
                if some:
                    with warehouse.lock.held():
                        cursor.execute(f"CALL ducklake_expire_snapshots('wh', versions => {some})")
                yield f"snapshots {len(some)}"
        for name, call in calls:
            with warehouse.lock.held():
                count = len(cursor.execute(call).fetchall())
            yield f"{name} {count}"
