"""Maintenance: rows kept in the catalog go to Parquet, small files are merged, files nothing points to are removed.

Merging is by size class, so that a large file is not written anew each time a small one joins it. Nothing here changes
what a query returns; readers keep their files for the grace period.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from warehouse.connect import CATALOG, DATA, Warehouse, exclusive
from warehouse.statements import statement

__all__ = ["Status", "TableStatus", "status", "tidy", "verify"]

#: How long a file that was merged away stays for readers that still use it. DuckLake 1.0 compares this with a SQLite catalog
#: by the day only (both times as text, one with a space and one with a T): 25 hours is then at least one hour.
GRACE = "25 hours"
_SMALL_BYTES = 4 << 20
_MERGE_FROM_FILES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStatus:
    """One table's rows, Parquet files and their bytes."""

    name: str
    row_count: int
    file_count: int
    file_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A warehouse at a glance; schema is its newest migration."""

    location: str
    snapshot_id: int
    schema: str
    catalog_bytes: int
    data_bytes: int
    tables: tuple[TableStatus, ...]


def status(warehouse: Warehouse) -> Status:
    """Sizes, rows and versions of a warehouse."""
    with warehouse.cursor() as cursor:
        files = cursor.execute(statement("queries/status")).fetchall()
        tables = tuple(
            TableStatus(name=name, row_count=_count(cursor, name), file_count=count, file_bytes=size) for name, count, size in files
        )
        schema = cursor.execute("SELECT max(name) FROM schema_migration WHERE name <> 'views'").fetchone()
    assert schema is not None
    catalog = sum(path.stat().st_size for path in warehouse.location.glob(f"{CATALOG}*"))
    data = sum(path.stat().st_size for path in (warehouse.location / DATA).rglob("*.parquet"))
    return Status(
        location=str(warehouse.location),
        snapshot_id=warehouse.snapshot_id(),
        schema=schema[0],
        catalog_bytes=catalog,
        data_bytes=data,
        tables=tables,
    )


def _count(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    row = cursor.execute(f'SELECT count(*) FROM "{table}"').fetchone()  # noqa: S608 - a name from the catalog itself
    assert row is not None
    return int(row[0])


def verify(warehouse: Warehouse) -> list[str]:
    """Read every row of every table and hold the books against each other; one sentence per fault, none when all is well."""
    faults = []
    with warehouse.cursor() as cursor:
        for name, _, _ in cursor.execute(statement("queries/status")).fetchall():
            try:
                cursor.execute(f'SELECT count(COLUMNS(*)) FROM "{name}"').fetchall()  # noqa: S608 - a name from the catalog itself
            except duckdb.Error as error:
                faults.append(f"{name} cannot be read: {str(error).partition(chr(10))[0]}")
        if not faults:
            faults = [str(row[0]) for row in cursor.execute(statement("queries/verify")).fetchall()]
    return faults


def tidy(warehouse: Warehouse) -> None:
    """Flush rows kept in the catalog, merge small files where there are many, remove merged ones after the grace period."""
    with exclusive(warehouse.location), warehouse.cursor() as cursor:
        cursor.execute("CALL ducklake_flush_inlined_data('wh')")
        for name, count, _ in cursor.execute(statement("queries/status")).fetchall():
            if count >= _MERGE_FROM_FILES:
                cursor.execute(f"CALL ducklake_merge_adjacent_files('wh', '{name}', max_file_size => {_SMALL_BYTES})")
        cursor.execute(f"CALL ducklake_cleanup_old_files('wh', older_than => now() - INTERVAL '{GRACE}')")
