"""Open a warehouse: DuckDB over DuckLake. Embedded: catalog in SQLite (WAL), Parquet files in a folder beside it. Scaled out: catalog in
PostgreSQL, Parquet files in S3-compatible storage (or a folder that all see); see warehouse.place for how it is named.

::

    FOLDER/catalog.sqlite    snapshots, schema, statistics
    FOLDER/data/             Parquet files
    FOLDER/writer.lock       held (flock) by whoever writes, for the time of one transaction

Readers attach read-only: any number of processes read while one writes. Several processes may write too (an import
beside a running collector, several collectors of a scaled-out warehouse): see warehouse.lock for who waits for whom.
"""

from __future__ import annotations

import contextlib
import copy
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import duckdb

from records.errors import NotPermitted, OutsideError, UserError, WarehouseMissing
from warehouse.attach import MAKE, Mode, attach
from warehouse.durable import NewFiles
from warehouse.faults import first_line, opening_fault, reported
from warehouse.keep_catalog import keep_catalog
from warehouse.lock import CATALOG_ALIAS, CatalogLock, FolderLock, Lock, say_open
from warehouse.migrate import check, migrate
from warehouse.place import CATALOG, DATA, Place, place, quoted

if TYPE_CHECKING:
    from warehouse.stored import StoredNames

__all__ = ["CATALOG", "DATA", "Mode", "Place", "Warehouse", "attach", "catalog_of", "check_folder", "open_warehouse", "place"]

#: DuckLake asks PostgreSQL itself for the statistics by which it chooses files, if they have an index; else it copies all of them, for each
#: column of a query. It makes none.
STATS_INDEX = "CREATE INDEX IF NOT EXISTS isochrone_file_column_stats ON ducklake_file_column_stats (table_id, column_id)"
#: What DuckDB may keep of earlier questions, in MB by its own account, before a warehouse is opened anew. DuckLake keeps the statistics of
#: every table for every snapshot it has seen, three times as large as it says; DuckDB lets go of them at its memory limit and not before.
_KEPT_MB = {"OBJECT_CACHE": 8, "EXTERNAL_FILE_CACHE": 256}


class Warehouse:
    """An open warehouse; safe to share between threads, each of which works on its own `cursor`.

    place      where it is
    mode       read or write
    lock       who may write
    """

    def __init__(self, where: Place, mode: Mode, connection: duckdb.DuckDBPyConnection, lock: Lock) -> None:
        self.place, self.lock = where, lock
        self.mode: Mode = mode
        self._connection = connection
        #: Whether a commit failed on it; and the one before, of which that holds, while somebody may still be asking it.
        self._is_spoilt = False
        self._former: duckdb.DuckDBPyConnection | None = None
        self._writing = threading.RLock()
        self._workbenches: dict[int, duckdb.DuckDBPyConnection] = {}
        self._workbench_lock = threading.Lock()
        self._open = say_open(where.folder) if mode == "write" and where.folder is not None else None

    @property
    def address(self) -> str:
        """Its folder or DuckLake address, as a person names it."""
        return self.place.address

    @property
    def location(self) -> Path:
        """The folder of an embedded one. Raises UserError for one that is scaled out."""
        if self.place.folder is None:
            raise UserError(f"the warehouse {self.address} is not in a folder")
        return self.place.folder

    @property
    def data_path(self) -> str:
        """Where its Parquet files are, ending in a slash: a folder, or s3://BUCKET/..."""
        with self.cursor() as cursor:
            row = cursor.execute("SELECT data_path FROM ducklake_settings('wh')").fetchone()
        assert row is not None
        return str(row[0])

    @cached_property
    def stored(self) -> StoredNames:
        """What this process knows of the batches that are stored."""
        from warehouse.stored import StoredNames  # with Arrow, which no reader needs

        return StoredNames(is_alone=self.place.folder is not None)

    @cached_property
    def _new_files(self) -> NewFiles | None:
        """Of a warehouse whose files are in a folder; an S3 server answers for what it has taken."""
        folder = self.data_path
        return None if "://" in folder else NewFiles(Path(folder))

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own over the same database, for one thread; times come out in UTC.

        Raises OutsideError where its catalog does not answer.
        """
        with reported():
            cursor = self._connection.cursor()
            cursor.execute("USE wh")
        return cursor

    def snapshot_id(self) -> int:
        """The version of the whole warehouse: grows with every commit; an answer names the one it came from.

        Raises OutsideError where its catalog does not answer.
        """
        with reported(), self.cursor() as cursor:
            row = cursor.execute("FROM wh.current_snapshot()").fetchone()
        assert row is not None
        return int(row[0])

    @contextlib.contextmanager
    def transaction(
        self, agents: Collection[str] | None = None, *, on_commit: Callable[[], None] = lambda: None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """One write transaction; committed on leaving, with its files on the disk before; undone on an error.

        agents     those whose batches it stores: others may store those of other agents meanwhile where the warehouse is scaled out;
                   None: it sees to the warehouse itself, alone among all processes that do
        on_commit  called after the commit, before others may write

        Raises OutsideError when another process holds the warehouse for more than a minute, or PostgreSQL or S3 do not answer.
        """
        if self.mode != "write":
            raise UserError(f"the warehouse at {self.address} is open for reading only")
        with self._writing, reported(), self.lock.held(agents) as still_held, self._connection.cursor() as cursor:
            new_files = self._new_files
            cursor.execute("BEGIN")
            try:
                cursor.execute("USE wh")  # in the transaction: outside it DuckLake reads its snapshots once more
                yield cursor
                if new_files is not None:
                    new_files.sync()
                still_held()
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    cursor.execute("ROLLBACK")
                raise
            try:
                cursor.execute("COMMIT")
            except BaseException:
                self._is_spoilt = True
                raise
            on_commit()

    def shed(self) -> bool:
        """Open it anew where it has grown by what it keeps of earlier questions, or of commits that failed; whether it was.

        For whoever has it open for long, about once a minute. Cursors that are open go on with the connection they are of; where commits
        failed on it, until the next call or the end of their transaction. Raises OutsideError, and goes on as before, when PostgreSQL or S3
        do not answer.
        """
        with self._writing:
            self._let_former_go()
            if not self._is_spoilt and not _has_grown(self._connection):
                return False
            with reported():
                connection = attach(self.place, self.mode)
            if isinstance(self.lock, CatalogLock):
                self.lock = CatalogLock(connection)
            self._former = self._connection if self._is_spoilt else None
            self._connection, self._is_spoilt = connection, False
            return True

    def _let_former_go(self) -> None:
        if self._former is not None:
            _detach(self._former)
            self._former = None

    @contextlib.contextmanager
    def bounded(self, memory_mb: int) -> Iterator[Warehouse]:
        """The same warehouse, under the same locks, by a DuckDB of its own that takes so much memory and goes on on the disk beyond it.

        Of its own: a bound on the one that everybody uses would fail what they ask meanwhile.
        """
        found = copy.copy(self)
        found._new_files = self._new_files  # one memory of which files are on the disk
        with reported():
            found._connection = attach(self.place, self.mode, memory_limit=f"{memory_mb}MB")
        try:
            yield found
        finally:
            _detach(found._connection)
            found._connection.close()

    def workbench_connection(self, memory_mb: int = 1000) -> duckdb.DuckDBPyConnection:
        """The locked-down read-only connection of the SQL workbench, made on first use (see warehouse.workbench)."""
        with self._workbench_lock:
            known = self._workbenches.get(memory_mb)
            if known is None or _has_grown(known):
                with reported():
                    connection = attach(self.place, "read", temp_directory="")
                if self.place.folder is None:
                    connection.execute(f"DETACH {CATALOG_ALIAS}")
                connection.execute(f"SET allowed_directories = [{quoted(self.data_path)}]")
                connection.execute("SET enable_external_access = false")
                connection.execute(f"SET memory_limit = '{int(memory_mb)}MB'")
                connection.execute("SET lock_configuration = true")
                self._workbenches[memory_mb] = connection
            cursor = self._workbenches[memory_mb].cursor()
        with reported():
            cursor.execute("USE wh")
        return cursor

    def close(self) -> None:
        """Close it; open cursors end."""
        with self._workbench_lock:
            for connection in self._workbenches.values():
                connection.close()
            self._workbenches.clear()
        self._let_former_go()
        if self._is_spoilt:
            _detach(self._connection)
        self._connection.close()
        if self._open is not None:
            os.close(self._open)
            self._open = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _has_grown(connection: duckdb.DuckDBPyConnection) -> bool:
    with connection.cursor() as cursor:
        held = dict(cursor.execute("SELECT tag, memory_usage_bytes FROM duckdb_memory()").fetchall())
    return any(held.get(tag, 0) > most_mb * 1e6 for tag, most_mb in _KEPT_MB.items())


def _detach(connection: duckdb.DuckDBPyConnection) -> None:
    """Let go of failed commits: DuckLake keeps each such transaction, with the rows that were to go into the catalog, and those keep the
    whole database, its threads too, for as long as it is attached. A transaction that is open on a cursor goes on to its end.
    """
    with contextlib.suppress(duckdb.Error), connection.cursor() as cursor:
        cursor.execute("USE memory")
        cursor.execute("DETACH wh")


def check_folder(location: Path) -> None:
    """The user's mistakes about an existing warehouse, told apart before DuckDB is asked."""
    catalog = location / CATALOG
    try:
        if not location.exists():
            raise WarehouseMissing(f"there is no warehouse at {location}; {MAKE}")
        if not location.is_dir():
            raise UserError(f"{location} is a file, and a warehouse is a folder; {MAKE}")
        if not catalog.exists():
            raise WarehouseMissing(f"{location} holds no warehouse (it has no {CATALOG}); {MAKE}")
        with catalog.open("rb") as file:
            magic = file.read(16)
    except PermissionError as error:
        raise NotPermitted(f"cannot read the warehouse {location}: {error.strerror}; grant this user access to it") from error
    except OSError as error:
        raise OutsideError(f"cannot read the warehouse {location}: {error.strerror}") from error
    if magic and magic != b"SQLite format 3\0":
        raise UserError(f"{catalog} is not the catalog of a warehouse; move it away, or name another place with --warehouse")
    if magic and not (location / DATA).is_dir():
        raise OutsideError(
            f"the warehouse {location} has its catalog but not its files: there is no folder {location / DATA}; put it back, or take a copy"
        )


def catalog_of(location: str | Path) -> tuple[int, int] | None:
    """Which catalog there is at a place now, told apart by its file: another after a warehouse was put in another's place.

    None where no file says so: the warehouse is scaled out. Raises what `check_folder` does for a folder that is none, or none any more.
    """
    folder = place(location).folder
    if folder is None:
        return None
    try:
        seen = (folder / CATALOG).stat()
    except OSError:
        check_folder(folder)  # says what is wrong
        raise WarehouseMissing(f"there is no warehouse at {folder}; {MAKE}") from None  # gone, and back, between the two
    return seen.st_dev, seen.st_ino


def _make_folder(location: Path) -> None:
    """Make it, unless there is a catalog: its files, if they are gone, are not to be hidden by an empty folder."""
    try:
        if not (location / CATALOG).exists():
            (location / DATA).mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise NotPermitted(f"cannot make a warehouse at {location}: {error.strerror}; choose another place with --warehouse") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot make a warehouse at {location}: a file is in the way; choose another place with --warehouse") from error
    except OSError as error:
        raise OutsideError(f"cannot make a warehouse at {location}: {error.strerror}") from error


def open_warehouse(location: str | Path, *, mode: Mode = "read", check_signatures: bool = True) -> Warehouse:
    """Open the warehouse in the folder or at the DuckLake address `location`; mode ``write`` makes it where it is absent and brings its
    schema up to date.

    check_signatures   let DuckDB check those of its extensions: half of the work of opening. They are files of installed wheels, as
                       DuckDB itself is, that Python loads unchecked; a short command that runs no SQL of the user's may do without

    Raises WarehouseMissing (read, and there is none), UserError (not a warehouse, made by a newer version, another data path),
    NotPermitted, OutsideError (PostgreSQL or S3 do not answer).
    """
    where = place(location)
    folder = where.folder
    if folder is not None:
        if mode == "write":
            _make_folder(folder)
        if mode == "read" or (folder / CATALOG).exists():
            check_folder(folder)
    try:
        connection, lock = _ready(where, mode, {} if check_signatures else {"allow_unsigned_extensions": "true"})
    except duckdb.Error as error:
        if folder is not None and not os.access(folder, os.W_OK):
            raise NotPermitted(
                f"cannot open the warehouse {folder}: {first_line(error)}; readers need write access to the folder for SQLite's lock"
            ) from error
        raise opening_fault(where, error) from error
    return Warehouse(where, mode, connection, lock)


def _ready(where: Place, mode: Mode, config: Mapping[str, str]) -> tuple[duckdb.DuckDBPyConnection, Lock]:
    """A connection whose schema is of this version, and the lock."""
    if mode == "write":
        return _migrated(where, config)
    for is_last in (False, True):
        connection = attach(where, mode, **config)
        lock = _lock(where, connection)
        try:
            if check(connection, where.address):
                return connection, lock
            if not is_last:
                # Made at this moment by another process, or by an older version: wait for whoever holds it, look again.
                with contextlib.suppress(NotPermitted), lock.held():
                    pass
        except BaseException:
            connection.close()
            raise
        connection.close()
    raise UserError(f"the warehouse at {where.address} is of an older version; starting `isochrone collector` on it brings it up to date")


def _migrated(where: Place, config: Mapping[str, str]) -> tuple[duckdb.DuckDBPyConnection, Lock]:
    if where.folder is not None:
        lock: Lock = FolderLock(where.folder)
        with lock.held():
            connection = attach(where, "write", **config)
            migrate(connection, where.address, lambda schema: keep_catalog(where, connection, schema))
        return connection, lock
    connection = attach(where, "write", **config)
    lock = CatalogLock(connection)
    try:
        with lock.held():
            migrate(connection, where.address, lambda schema: keep_catalog(where, connection, schema))
            connection.execute(f"CALL postgres_execute('{CATALOG_ALIAS}', {quoted(STATS_INDEX)})")
    except BaseException:
        connection.close()
        raise
    return connection, lock


def _lock(where: Place, connection: duckdb.DuckDBPyConnection) -> Lock:
    return CatalogLock(connection) if where.folder is None else FolderLock(where.folder)
