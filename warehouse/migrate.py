"""Bring a warehouse's schema up to date: sql/schema/NNN_*.sql in order, each once, each in one transaction and recorded.

Views hold no data: when their files differ from what is recorded they are all made anew, also in one transaction.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import duckdb

from records.errors import UserError
from warehouse.statements import folder, statement

__all__ = ["check", "migrate"]

_VIEWS = "views"


def _applied(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """What is recorded: migration -> hash of its text (the newest); empty for a new warehouse."""
    try:
        rows = connection.execute("SELECT name, sha256 FROM wh.schema_migration ORDER BY applied_at").fetchall()
    except duckdb.CatalogException:  # no such table
        return {}
    return dict(rows)


def _refuse_newer(applied: dict[str, str], location: Path) -> None:
    ours = {name for name, _ in folder("schema")}
    newer = sorted(name for name in applied if name not in ours and name != _VIEWS)
    if newer:
        raise UserError(
            f"the warehouse at {location} was made by a newer version (it has {newer[-1]}, this one {max(ours)}); upgrade isochrone"
        )


def _views_hash() -> str:
    return sha256("\0".join(f"{name}\0{text}" for name, text in folder("views")).encode()).hexdigest()


def check(connection: duckdb.DuckDBPyConnection, location: Path) -> bool:
    """Whether the schema is the one this version reads.

    Raises UserError when it is of a newer version.
    """
    applied = _applied(connection)
    _refuse_newer(applied, location)
    return all(name in applied for name, _ in folder("schema")) and _VIEWS in applied


def migrate(connection: duckdb.DuckDBPyConnection, location: Path) -> None:
    """Apply what is missing. The caller holds the writer lock.

    Raises UserError when the warehouse is of a newer version.
    """
    applied = _applied(connection)
    _refuse_newer(applied, location)
    if not applied:
        connection.execute(statement("migration/create"))
    missing = [(name, text) for name, text in folder("schema") if name not in applied]
    for name, text in missing:
        _apply(connection, name, [text], sha256(text.encode()).hexdigest())
    views = _views_hash()
    # A migration may change columns and comments that views carry on.
    if missing or applied.get(_VIEWS) != views:
        _apply(connection, _VIEWS, [text for _, text in folder("views")], views)
    if missing:
        # Rows kept in the catalog lie in a table for each version of the schema. The first flush drops those of older versions, under
        # readers that know them: it is done now, before there are any.
        connection.execute("CALL ducklake_flush_inlined_data('wh')")


def _apply(connection: duckdb.DuckDBPyConnection, name: str, texts: list[str], digest: str) -> None:
    connection.execute("BEGIN")
    try:
        for text in texts:
            connection.execute(text)
        connection.execute(statement("migration/record"), {"name": name, "sha256": digest})
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
