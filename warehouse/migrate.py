"""Bring a warehouse's schema up to date: sql/schema/NNN_*.sql in order, each once, each in one transaction and recorded.

Views hold no data: when their files differ from what is recorded they are all made anew, also in one transaction.
A new warehouse gets all its tables in one transaction, in a third of the time, and then its settings (files NNN_*settings.sql):
DuckLake sets options of committed tables only.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import duckdb

from records.errors import UserError
from warehouse.place import quoted
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


def _refuse_newer(applied: dict[str, str], location: str) -> None:
    ours = {name for name, _ in folder("schema")}
    newer = sorted(name for name in applied if name not in ours and name != _VIEWS)
    if newer:
        raise UserError(
            f"the warehouse at {location} was made by a newer version (it has {newer[-1]}, this one {max(ours)}); upgrade isochrone"
        )


def _views_hash() -> str:
    return sha256("\0".join(f"{name}\0{text}" for name, text in folder("views")).encode()).hexdigest()


def check(connection: duckdb.DuckDBPyConnection, location: str) -> bool:
    """Whether the schema is the one this version reads.

    Raises UserError when it is of a newer version.
    """
    applied = _applied(connection)
    _refuse_newer(applied, location)
    return all(name in applied for name, _ in folder("schema")) and _VIEWS in applied


def migrate(connection: duckdb.DuckDBPyConnection, location: str, keep: Callable[[str], None] = lambda _: None) -> None:
    """Apply what is missing. The caller holds the writer lock.

    keep   called with the newest migration that is applied before tables change; when it raises, nothing does

    Raises UserError when the warehouse is of a newer version.
    """
    applied = _applied(connection)
    _refuse_newer(applied, location)
    missing = [(name, text) for name, text in folder("schema") if name not in applied]
    if applied:
        if missing:
            keep(max(name for name in applied if name != _VIEWS))
        steps = [[step] for step in missing]
    else:
        _in_transaction(connection, [statement("migration/create")])
        steps = [[step for step in missing if _is_settings(step[0]) is late] for late in (False, True)]
    for step in steps:
        _apply(connection, step)
    views = _views_hash()
    # A migration may change columns and comments that views carry on.
    if missing or applied.get(_VIEWS) != views:
        forget = [statement("migration/forget_views")] if applied else []
        _in_transaction(connection, [*forget, *(text for _, text in folder("views")), _record(_VIEWS, views)])
    if missing and applied:
        # Rows kept in the catalog lie in a table for each version of their table's schema. The first flush drops those of older
        # versions, under readers that know them: it is done now, before there are any.
        for (name,) in connection.execute(statement("migration/altered")).fetchall():
            connection.execute(f"CALL ducklake_flush_inlined_data('wh', table_name => {quoted(name)})")


def _is_settings(name: str) -> bool:
    return name.endswith("settings")


def _record(name: str, digest: str) -> str:
    # Written in, not bound: DuckDB imports pandas to bind a parameter (a quarter of a second). Both are ours.
    return statement("migration/record").replace("$name", f"'{name}'").replace("$sha256", f"'{digest}'")


def _apply(connection: duckdb.DuckDBPyConnection, migrations: list[tuple[str, str]]) -> None:
    texts = [text for _, text in migrations]
    _in_transaction(connection, [*texts, *(_record(name, sha256(text.encode()).hexdigest()) for name, text in migrations)])


def _in_transaction(connection: duckdb.DuckDBPyConnection, texts: list[str]) -> None:
    connection.execute("BEGIN")
    try:
        for text in texts:
            connection.execute(text)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
