"""What was committed after a snapshot, told apart by when it arrived: DuckLake opens every file to look for rows of newer snapshots, but
passes by those whose rows arrived before a time. Of a warehouse of many files that is nearly all of them.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

import duckdb

from warehouse.place import identifier
from warehouse.statements import bound

__all__ = ["MEASURED", "arrived"]

#: Tables of measurements.
MEASURED = ("ping_sample", "traceroute", "throughput", "inference", "http", "stamp", "serving")
_EVER = datetime.min.replace(tzinfo=UTC)


def arrived(cursor: duckdb.DuckDBPyConnection, mark: int, tables: Collection[str] = MEASURED) -> dict[str, datetime]:
    """The tables that have rows committed after snapshot `mark`, and for each a time before which none of these arrived."""
    if not tables:
        return {}
    names = tuple((name,) for name in tables)
    text, _ = bound("queries/arrived", {"mark": mark, "tables": names})
    found = {name: at or _EVER for name, at in cursor.execute(text).fetchall()}
    text, _ = bound("queries/inlined_tables", {"tables": names})
    for name, kept_in in cursor.execute(text).fetchall():
        text, _ = bound("queries/inlined_arrived", {"mark": mark})
        row = cursor.execute(text.replace("kept_in", f"__ducklake_metadata_wh.{identifier(kept_in)}")).fetchone()
        if row is not None and row[0]:
            found[name] = min(found.get(name, row[1] or _EVER), row[1] or _EVER)
    return found
