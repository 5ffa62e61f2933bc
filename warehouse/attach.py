"""A fresh DuckDB with a warehouse attached as ``wh``: embedded (SQLite and a folder) or scaled out (PostgreSQL and S3 or a folder)."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Literal

import duckdb

from records.errors import NotPermitted, OutsideError, UserError, WarehouseMissing
from warehouse.extensions import is_checked, load
from warehouse.lock import CATALOG_ALIAS, CatalogLock
from warehouse.place import CATALOG, DATA, Place, quoted, s3_secret

__all__ = ["MAKE", "ONE_SNAPSHOT", "Mode", "attach", "attach_beside", "attach_catalog"]

Mode = Literal["read", "write"]

BUSY_TIMEOUT_MS = 20_000
#: A reader else opens a connection to SQLite for every scan, each of which sees the catalog as it is by then: rows that go from the
#: catalog to Parquet while a query runs are in neither for it, and it counts too few without a word.
ONE_SNAPSHOT = "SET GLOBAL sqlite_disable_multithreaded_scans = true"
#: How many threads DuckDB may use for a warehouse; without it as many as there are cores.
THREADS_VARIABLE = "ISOCHRONE_DUCKDB_THREADS"
MAKE = "`isochrone demo`, `isochrone collector` and `isochrone import` make one; --warehouse names another place"


def attach(place: Place, mode: Mode, **config: str) -> duckdb.DuckDBPyConnection:
    """A fresh in-memory DuckDB with the DuckLake at `place` attached as ``wh``; no other database and no other address.

    A scaled-out one's catalog is there too, as ``wh_catalog``, for its locks. Raises duckdb.Error; WarehouseMissing, UserError,
    NotPermitted or OutsideError where what is wrong can be told before DuckLake is asked.
    """
    extensions = ("ducklake", "sqlite_scanner" if place.folder is not None else "postgres_scanner")
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        # Made only when a query spills, and removed by DuckDB.
        "temp_directory": str(Path(tempfile.gettempdir()) / f"isochrone-duckdb-{secrets.token_hex(8)}"),
        # Only where DuckDB has checked these very files before in this process: that reads all of them, a quarter of a second.
        "allow_unsigned_extensions": all(map(is_checked, extensions)),
        **_threads(),
        **config,
    }
    connection = duckdb.connect(":memory:", config=settings)
    try:
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        for name in extensions:
            load(connection, name)
        connection.execute("SET allow_unsigned_extensions = false")  # and there is no way back
        _attach(connection, place, mode, "wh")
        connection.execute("USE wh")
    except BaseException:
        connection.close()
        raise
    return connection


def _threads() -> dict[str, int]:
    """DuckDB's setting, where the environment says it."""
    said = os.environ.get(THREADS_VARIABLE)
    if not said:
        return {}
    if not (said.isascii() and said.isdigit() and 1 <= int(said) <= 1024):
        raise UserError(f"{THREADS_VARIABLE}={said}: give a whole number from 1 to 1024, or unset it for one thread a core")
    return {"threads": int(said)}


def attach_beside(connection: duckdb.DuckDBPyConnection, place: Place, alias: str) -> None:
    """Attach another warehouse to a connection, for reading, under a name."""
    _attach(connection, place, "read", alias)


def attach_catalog(place: Place) -> duckdb.DuckDBPyConnection:
    """A fresh DuckDB with the PostgreSQL database of a scaled-out warehouse alone, as ``wh_catalog``, whatever is in it."""
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    try:
        load(connection, "postgres_scanner")
        connection.execute(f"ATTACH {quoted(place.catalog)} AS {CATALOG_ALIAS} (TYPE postgres)")
    except BaseException:
        connection.close()
        raise
    return connection


def _attach(connection: duckdb.DuckDBPyConnection, place: Place, mode: Mode, alias: str) -> None:
    if place.folder is not None:
        _attach_folder(connection, place.folder, mode, alias)
    else:
        _attach_scaled(connection, place, mode, alias)


def _attach_folder(connection: duckdb.DuckDBPyConnection, folder: Path, mode: Mode, alias: str) -> None:
    load(connection, "sqlite_scanner")
    connection.execute(ONE_SNAPSHOT)
    # The kernel keeps what was read of local files; kept here as well, it would grow to the memory limit, files that are gone with it.
    connection.execute("SET GLOBAL enable_external_file_cache = false")
    options = "READ_ONLY" if mode == "read" else "META_JOURNAL_MODE 'WAL'"
    connection.execute(
        f"ATTACH {quoted(f'ducklake:sqlite:{folder / CATALOG}')} AS {alias} (DATA_PATH {quoted(f'{folder / DATA}/')}, "
        f"OVERRIDE_DATA_PATH true, META_BUSY_TIMEOUT {BUSY_TIMEOUT_MS}, {options})"
    )


def _attach_scaled(connection: duckdb.DuckDBPyConnection, place: Place, mode: Mode, alias: str) -> None:
    load(connection, "postgres_scanner")
    read_only = ", READ_ONLY" if mode == "read" else ""
    connection.execute(f"ATTACH {quoted(place.catalog)} AS {alias}_catalog (TYPE postgres{read_only})")
    # Two collectors may start on a new database at once: one makes the catalog, the other finds it.
    with CatalogLock(connection).held() if mode == "write" else contextlib.nullcontext():
        _attach_lake(connection, place, mode, alias)


def _attach_lake(connection: duckdb.DuckDBPyConnection, place: Place, mode: Mode, alias: str) -> None:
    recorded = _data_path_of(connection, f"{alias}_catalog")
    if recorded is None and mode == "read":
        raise WarehouseMissing(f"there is no warehouse in the database of {place.address}; {MAKE}")
    if recorded is None and place.data_path is None:
        raise UserError(f"--warehouse {place.address}: a new warehouse needs its data_path, such as data_path=s3://BUCKET/data")
    if recorded is not None and place.data_path not in {None, recorded}:
        raise UserError(
            f"the warehouse of {place.address} keeps its files at {recorded}, not at {place.data_path}; leave data_path out, or correct it"
        )
    if recorded is not None and mode == "write" and not _may_write(connection):
        raise NotPermitted(f"the role of {place.address} may only read; use the role that owns the warehouse to write")
    data_path = recorded or place.data_path
    assert data_path is not None
    if data_path.startswith("s3://"):
        load(connection, "httpfs")
        # It has taken the keys from the environment into settings that a query could read; a secret is not shown.
        for name in ("s3_access_key_id", "s3_secret_access_key", "s3_session_token"):
            connection.execute(f"SET GLOBAL {name} = ''")
        connection.execute(s3_secret())
        if mode == "write":
            # One listing: keys that are refused and a bucket that is not there show now and not at the first commit.
            connection.execute("SELECT count(*) FROM glob(?)", [f"{data_path}*.parquet"]).fetchall()
    else:
        _check_data_folder(Path(data_path), mode, is_new=recorded is None)
    options = f"DATA_PATH {quoted(data_path)}" + (", READ_ONLY" if mode == "read" else "")
    connection.execute(f"ATTACH {quoted(f'ducklake:postgres:{place.catalog}')} AS {alias} ({options})")


def _check_data_folder(folder: Path, mode: Mode, *, is_new: bool) -> None:
    try:
        if is_new and mode == "write":
            folder.mkdir(parents=True, exist_ok=True)
        is_there = folder.is_dir()
    except PermissionError as error:
        raise NotPermitted(f"cannot keep files at {folder}: {error.strerror}; choose another data_path, or grant access") from error
    except OSError as error:
        raise OutsideError(f"cannot keep files at {folder}: {error.strerror}") from error
    if not is_there:
        raise OutsideError(f"the warehouse's files are at {folder}, and here is no such folder; mount it, or move to S3 (docs/scale.md)")


def _data_path_of(connection: duckdb.DuckDBPyConnection, catalog: str) -> str | None:
    """Where a catalog says that files are; None: it holds no warehouse."""
    ask = f"FROM postgres_query('{catalog}', {{}})"
    (found,) = connection.execute(ask.format(quoted("SELECT CAST(to_regclass('ducklake_metadata') AS text) AS t"))).fetchone() or (None,)
    if found is None:
        return None
    row = connection.execute(ask.format(quoted("SELECT value FROM ducklake_metadata WHERE key = 'data_path'"))).fetchone()
    return None if row is None else str(row[0])


def _may_write(connection: duckdb.DuckDBPyConnection) -> bool:
    ask = "SELECT has_table_privilege('ducklake_snapshot', 'INSERT') AS may"
    return connection.execute(f"FROM postgres_query('{CATALOG_ALIAS}', {quoted(ask)})").fetchone() == (True,)
