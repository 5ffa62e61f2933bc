"""Open a warehouse: DuckDB over DuckLake, catalog in SQLite (WAL), Parquet files in a folder beside it.

::

    FOLDER/catalog.sqlite    snapshots, schema, statistics
    FOLDER/data/             Parquet files
    FOLDER/writer.lock       held (flock) by whoever writes, for the time of one transaction

Readers attach read-only: any number of processes read while one writes. Several processes may write too (an import
beside a running collector): they take turns by the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import duckdb

from records.errors import NotPermitted, OutsideError, UserError, WarehouseMissing
from warehouse.extensions import extension_paths
from warehouse.migrate import check, migrate

__all__ = ["CATALOG", "Mode", "Warehouse", "attach", "open_warehouse"]

Mode = Literal["read", "write"]

CATALOG = "catalog.sqlite"
DATA = "data"
LOCK = "writer.lock"
LOCK_TIMEOUT_S = 60.0
BUSY_TIMEOUT_MS = 20_000
_MAKE = "`isochrone demo`, `isochrone collector` and `isochrone import` make one; --warehouse names another place"


_VERSIONS = re.compile(r"catalog version is (\S+?),? but the extension requires version (\S+?)\.? ")


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """DuckDB's errors about a file it cannot read come out as `unreadable` says them."""
    try:
        yield
    except duckdb.Error as error:
        if (outside := unreadable(error)) is not None:
            raise outside from error
        raise


def unreadable(error: duckdb.Error) -> OutsideError | None:
    """The error of a query as one about a Parquet file of the warehouse, missing, half written or none; None: it is not."""
    said = re.sub(r"^[A-Z][A-Za-z/ ]*Error: ", "", str(error).strip().partition("\n")[0], count=1)
    if not isinstance(error, duckdb.IOException | duckdb.InvalidInputException) or ".parquet" not in said:
        return None
    return OutsideError(
        "a file of the warehouse cannot be read; `isochrone warehouse verify` names every one, and a copy of the folder "
        f"brings it back: {said}"
    )


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def attach(location: Path, mode: Mode, **config: str) -> duckdb.DuckDBPyConnection:
    """A fresh in-memory DuckDB with the DuckLake at `location` attached as ``wh``; no network, no other database."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        # Made only when a query spills, and removed by DuckDB.
        "temp_directory": str(Path(tempfile.gettempdir()) / f"isochrone-duckdb-{secrets.token_hex(8)}"),
        **config,
    }
    connection = duckdb.connect(":memory:", config=settings)
    try:
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        for path in extension_paths():
            connection.execute(f"LOAD {_quoted(path)}")
        options = "READ_ONLY" if mode == "read" else "META_JOURNAL_MODE 'WAL'"
        connection.execute(
            f"ATTACH {_quoted(f'ducklake:sqlite:{location / CATALOG}')} AS wh (DATA_PATH {_quoted(f'{location / DATA}/')}, "
            f"OVERRIDE_DATA_PATH true, META_BUSY_TIMEOUT {BUSY_TIMEOUT_MS}, {options})"
        )
        connection.execute("USE wh")
    except BaseException:
        connection.close()
        raise
    return connection


class Warehouse:
    """An open warehouse; safe to share between threads, each of which works on its own `cursor`.

    location   its folder
    mode       read or write
    """

    def __init__(self, location: Path, mode: Mode, connection: duckdb.DuckDBPyConnection) -> None:
        self.location = location
        self.mode: Mode = mode
        self._connection = connection
        self._writing = threading.RLock()
        self._workbenches: dict[int, duckdb.DuckDBPyConnection] = {}
        self._workbench_lock = threading.Lock()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own over the same database, for one thread; times come out in UTC."""
        cursor = self._connection.cursor()
        cursor.execute("USE wh")
        return cursor

    def snapshot_id(self) -> int:
        """The version of the whole warehouse: grows with every commit; an answer names the one it came from."""
        with self.cursor() as cursor:
            row = cursor.execute("FROM wh.current_snapshot()").fetchone()
        assert row is not None
        return int(row[0])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One write transaction, alone in the warehouse among all processes; committed on leaving, undone on an error.

        Raises OutsideError when another process holds the warehouse for more than a minute.
        """
        if self.mode != "write":
            raise UserError(f"the warehouse at {self.location} is open for reading only")
        with self._writing, exclusive(self.location), self.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield cursor
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def workbench_connection(self, memory_mb: int = 1000) -> duckdb.DuckDBPyConnection:
        """The locked-down read-only connection of the SQL workbench, made on first use (see warehouse.workbench)."""
        with self._workbench_lock:
            if memory_mb not in self._workbenches:
                connection = attach(self.location, "read", temp_directory="")
                connection.execute(f"SET allowed_directories = [{_quoted(f'{self.location / DATA}/')}]")
                connection.execute("SET enable_external_access = false")
                connection.execute(f"SET memory_limit = '{int(memory_mb)}MB'")
                connection.execute("SET lock_configuration = true")
                self._workbenches[memory_mb] = connection
            cursor = self._workbenches[memory_mb].cursor()
        cursor.execute("USE wh")
        return cursor

    def close(self) -> None:
        """Close it; open cursors end."""
        with self._workbench_lock:
            for connection in self._workbenches.values():
                connection.close()
            self._workbenches.clear()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextlib.contextmanager
def exclusive(location: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the warehouse's writer lock; the kernel gives it back when this process dies.

    Raises OutsideError when it is not free within `timeout_s`, NotPermitted when it cannot be opened.
    """
    try:
        handle = os.open(location / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    except PermissionError as error:
        raise NotPermitted(f"cannot write to the warehouse {location}: {error.strerror}; grant this user write access to it") from error
    except OSError as error:
        raise OutsideError(f"cannot write to the warehouse {location}: {error.strerror}") from error
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OutsideError(f"another process has been writing to {location} for over {timeout_s:.0f} s; try again") from None
                time.sleep(0.005)
        yield
    finally:
        os.close(handle)


def _check_folder(location: Path) -> None:
    """The user's mistakes about an existing warehouse, told apart before DuckDB is asked."""
    catalog = location / CATALOG
    try:
        if not location.exists():
            raise WarehouseMissing(f"there is no warehouse at {location}; {_MAKE}")
        if not location.is_dir():
            raise UserError(f"{location} is a file, and a warehouse is a folder; {_MAKE}")
        if not catalog.exists():
            raise WarehouseMissing(f"{location} holds no warehouse (it has no {CATALOG}); {_MAKE}")
        with catalog.open("rb") as file:
            magic = file.read(16)
    except PermissionError as error:
        raise NotPermitted(f"cannot read the warehouse {location}: {error.strerror}; grant this user access to it") from error
    except OSError as error:
        raise OutsideError(f"cannot read the warehouse {location}: {error.strerror}") from error
    if magic and magic != b"SQLite format 3\0":
        raise UserError(f"{catalog} is not the catalog of a warehouse; move it away, or name another place with --warehouse")


def _make_folder(location: Path) -> None:
    try:
        (location / DATA).mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise NotPermitted(f"cannot make a warehouse at {location}: {error.strerror}; choose another place with --warehouse") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot make a warehouse at {location}: a file is in the way; choose another place with --warehouse") from error
    except OSError as error:
        raise OutsideError(f"cannot make a warehouse at {location}: {error.strerror}") from error


def open_warehouse(location: str | Path, *, mode: Mode = "read") -> Warehouse:
    """Open the warehouse in folder `location`; mode ``write`` makes it where it is absent and brings its schema up to date.

    Raises WarehouseMissing (read, and there is none), UserError (not a warehouse, made by a newer version), NotPermitted,
    OutsideError.
    """
    if str(location).startswith("ducklake:"):
        raise UserError(f"--warehouse {location}: this version keeps its warehouse in a folder; name a folder")
    path = Path(location).expanduser().absolute()
    if mode == "write":
        _make_folder(path)
    if mode == "read" or (path / CATALOG).exists():
        _check_folder(path)
    try:
        if mode == "write":
            with exclusive(path):
                connection = attach(path, mode)
                migrate(connection, path)
        else:
            connection = attach(path, mode)
            if not check(connection, path):
                # Made at this moment by another process, or by an older version: wait for whoever holds it, look again.
                connection.close()
                with contextlib.suppress(NotPermitted), exclusive(path):
                    pass
                connection = attach(path, mode)
                if not check(connection, path):
                    connection.close()
                    raise UserError(
                        f"the warehouse at {path} is of an older version; starting `isochrone collector` on it brings it up to date"
                    )
    except duckdb.Error as error:
        first = str(error).strip().partition("\n")[0]
        if mismatch := _VERSIONS.search(first):
            raise UserError(
                f"the warehouse at {path} has a catalog of DuckLake {mismatch[1]}, and this version of isochrone reads {mismatch[2]}; "
                "install the version of isochrone that made it, or a newer one"
            ) from error
        if not os.access(path, os.W_OK):
            raise NotPermitted(
                f"cannot open the warehouse {path}: {first}; readers need write access to the folder for SQLite's lock"
            ) from error
        raise OutsideError(f"cannot open the warehouse {path}: {first}") from error
    return Warehouse(path, mode, connection)
