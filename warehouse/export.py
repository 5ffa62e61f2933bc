"""One plain DuckDB file of a snapshot: every table, view and macro with its comments, for tools that know no DuckLake.

It is written in a folder beside its place that only its owner can enter, and put there when it is whole: a file under that name is never
a half one, and never one that others can read, whatever the umask.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb

from records.errors import NotPermitted, OutsideError, UserError
from warehouse.connect import Warehouse, attach
from warehouse.faults import outside
from warehouse.place import identifier, quoted
from warehouse.statements import folder, statement

__all__ = ["Exported", "export"]

_OUT = "isochrone_export"
_FILE = "new.duckdb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written: rows by table, and the snapshot they are of."""

    file: str
    snapshot_id: int
    file_bytes: int
    row_counts: dict[str, int]


def export(warehouse: Warehouse, file: str | Path, *, snapshot_id: int | None = None, force: bool = False) -> Exported:
    """Write the warehouse at a snapshot (None: the newest) to `file`.

    Raises UserError when the file exists (without `force`), its folder does not, or there is no such snapshot; OutsideError or
    NotPermitted when it cannot be written, in which case what was there before stays.
    """
    path = Path(file).expanduser().absolute()
    if path.is_dir():
        raise UserError(f"{file} is a folder; name a file, such as {path / 'isochrone.duckdb'}")
    if path.exists() and not force:
        raise UserError(f"{file} exists; --force writes over it")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} to")
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    connection = attach(warehouse.place, "read")
    try:
        aside.mkdir(mode=0o700)  # and a mistake about the place is told before DuckDB is asked, whose words name the file beside
        snapshot = _snapshot(connection, snapshot_id)
        counts = _copy(connection, aside / _FILE, snapshot)
        connection.execute(f"DETACH {_OUT}")
        with contextlib.suppress(OSError):  # of a file system without modes
            (aside / _FILE).chmod((aside / _FILE).stat().st_mode & 0o660)
        (aside / _FILE).replace(path)
    except PermissionError as error:
        raise NotPermitted(f"cannot write {file}: {error.strerror}; choose another place, or grant this user write access") from error
    except duckdb.Error as error:
        if (fault := outside(error)) is not None:
            raise fault from error
        if not isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
            raise
        raise OutsideError(f"cannot write {file}: {str(error).partition(chr(10))[0]}") from error
    except OSError as error:
        raise OutsideError(f"cannot write {file}: {error.strerror}") from error
    finally:
        connection.close()
        shutil.rmtree(aside, ignore_errors=True)
    return Exported(file=str(path), snapshot_id=snapshot, file_bytes=path.stat().st_size, row_counts=counts)


def _snapshot(connection: duckdb.DuckDBPyConnection, wanted: int | None) -> int:
    rows = [int(row[0]) for row in connection.execute("SELECT snapshot_id FROM wh.snapshots() ORDER BY snapshot_id").fetchall()]
    if wanted is None:
        return rows[-1]
    if wanted not in rows:
        raise UserError(f"there is no snapshot {wanted}; those from {rows[0]} to {rows[-1]} that have not expired are kept")
    return wanted


def _copy(connection: duckdb.DuckDBPyConnection, aside: Path, snapshot: int) -> dict[str, int]:
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(f"ATTACH {quoted(aside)} AS {_OUT}")
    macros = connection.execute(
        "SELECT function_name, function_type, parameters, macro_definition FROM duckdb_functions() "
        "WHERE database_name = 'wh' AND function_type IN ('macro', 'table_macro')"
    ).fetchall()
    tables = connection.execute(
        "SELECT table_name, comment FROM duckdb_tables() WHERE database_name = 'wh' AND NOT internal ORDER BY table_name"
    ).fetchall()
    columns = connection.execute(
        "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE database_name = 'wh' AND comment IS NOT NULL"
    ).fetchall()
    present = {name for name, _ in tables if _is_there(connection, name, snapshot)}
    counts: dict[str, int] = {}
    # One transaction: a file of one piece, and one wait for the disk instead of hundreds.
    connection.execute("BEGIN")
    for name, comment in tables:
        # A table that is younger than the snapshot is there too, without rows.
        table = f"main.{identifier(name)}"
        source = f"wh.{table} AT (VERSION => {snapshot})" if name in present else f"wh.{table} LIMIT 0"
        connection.execute(f"CREATE TABLE {_OUT}.{table} AS FROM {source}")
        if comment is not None:
            connection.execute(f"COMMENT ON TABLE {_OUT}.{table} IS {quoted(comment)}")
        row = connection.execute(f"SELECT count(*) FROM {_OUT}.{table}").fetchone()  # noqa: S608
        assert row is not None
        counts[name] = int(row[0])
    for table, column, comment in columns:
        if table in counts:
            connection.execute(f"COMMENT ON COLUMN {_OUT}.main.{identifier(table)}.{identifier(column)} IS {quoted(comment)}")
    connection.execute(f"USE {_OUT}")
    for name, kind, parameters, definition in macros:
        body = f"TABLE {definition}" if kind == "table_macro" else definition
        arguments = ", ".join(map(identifier, parameters))
        connection.execute(f"CREATE OR REPLACE MACRO {_OUT}.main.{identifier(name)}({arguments}) AS {body}")
    for text in (statement("migration/forget_views"), *(text for _, text in folder("views"))):
        connection.execute(text)
    connection.execute("COMMIT")
    connection.execute("USE memory")
    return counts


def _is_there(connection: duckdb.DuckDBPyConnection, name: str, snapshot: int) -> bool:
    try:
        connection.execute(f"FROM wh.main.{identifier(name)} AT (VERSION => {snapshot}) LIMIT 0")
    except duckdb.CatalogException:
        return False
    return True
