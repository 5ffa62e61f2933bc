"""Restore a backup: an embedded warehouse into an empty folder, a scaled-out one into an empty database and a data path.

Every file is held against its SHA-256 on the way. The catalog comes last, in one step: before that there is no warehouse, and what is there
is told by started.json, so that the same restore goes on and files of somebody else's are not taken for ours. At the end
every row is read, and the tables have to count what the backup says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import duckdb

from records.errors import OutsideError, UserError
from warehouse import postgres_tools
from warehouse.attach import attach, attach_catalog
from warehouse.backup import check_backup, count_rows
from warehouse.faults import first_line, opening_fault, outside, reported
from warehouse.lake_files import FolderFiles, copy_catalog, files_of, listing, make_folder, storage
from warehouse.lock import CATALOG_ALIAS, FolderLock
from warehouse.manifest import Backup
from warehouse.place import CATALOG, DATA, Place, place, quoted
from warehouse.started import STARTED, end, foreign, refuse_links, start, unfinished

__all__ = ["restore"]


def restore(folder: Path, location: str, *, on_file: Callable[[int, int], None] = lambda *_: None) -> Backup:
    """Restore the backup in `folder` to `location`, which must be empty.

    on_file   called after each file: (files that are there, files in all)

    Raises UserError when there is something at `location`, or it is of the other kind; OutsideError when a file is not what was backed up
    (before anything is written), a disk or server fails, or the rows do not count up.
    """
    folder = folder.expanduser().absolute()
    found = check_backup(folder)
    where = place(location)
    is_embedded = found.catalog == CATALOG
    if is_embedded != (where.folder is not None):
        other = "a folder" if is_embedded else "a database of PostgreSQL and a data path"
        raise UserError(f"the backup {folder} is restored to {other}; from there `isochrone warehouse copy` moves it anywhere")
    with reported():
        if where.folder is not None:
            _into_folder(folder, found, where.folder, on_file)
        else:
            _into_database(folder, found, where, on_file)
        try:
            with contextlib.closing(attach(where, "read")) as connection:
                counts, schema = count_rows(connection)
        except duckdb.Error as error:
            said = OutsideError(f"the warehouse restored to {location} cannot be read: {first_line(error)}; do not use it")
            raise outside(error) or said from error
    if (counts, schema) != (found.row_counts, found.schema):
        wrong = [f"{name} {counts.get(name)} of {rows}" for name, rows in found.row_counts.items() if counts.get(name) != rows]
        raise OutsideError(f"the warehouse restored to {location} does not count up: {', '.join(wrong) or schema}; do not use it")
    return found


def _into_folder(folder: Path, found: Backup, target: Path, on_file: Callable[[int, int], None]) -> None:
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file; name a folder")
    files = FolderFiles(target / DATA)
    try:
        make_folder(target, mode=0o770)
        refuse_links(target, DATA)
        begun = unfinished(target, found.catalog_sha256)
        other = foreign(target, ours=() if begun is None else (DATA, STARTED))
    except OSError as error:
        raise UserError(f"cannot restore to {target}: {error.strerror or error}; name a place that this user may write to") from error
    if other is not None:
        raise UserError(f"{target} holds something already ({other}); name an empty place with --warehouse")
    with FolderLock(target).held(timeout_s=1):
        start(target, found.catalog_sha256, found.files)
        make_folder(target / DATA, mode=0o770)
        for done, path in enumerate(found.files, 1):
            files.put(folder / DATA / path, path)
            on_file(done, len(found.files))
        copy_catalog(folder / CATALOG, target / CATALOG)
        end(target)


def _into_database(folder: Path, found: Backup, where: Place, on_file: Callable[[int, int], None]) -> None:
    if where.data_path is None:
        raise UserError(f"--warehouse {where.address}: say where the files go too, such as data_path=s3://BUCKET/data")
    try:
        connection = attach_catalog(where)
    except duckdb.Error as error:
        raise opening_fault(where, error) from error
    try:
        taken = "SELECT CAST(to_regclass('ducklake_metadata') AS text) AS t"
        if connection.execute(f"FROM postgres_query('{CATALOG_ALIAS}', {quoted(taken)})").fetchone() != (None,):
            raise UserError(f"the database of {where.address} holds a warehouse already; name an empty one (deploy/postgres.sql makes it)")
        files = storage(connection, where.data_path)
        for done, path in enumerate(found.files, 1):
            files.put(folder / DATA / path, path)
            on_file(done, len(found.files))
        postgres_tools.restore(folder / found.catalog, where)
        _check_listed(connection, found)
        moved = f"UPDATE ducklake_metadata SET value = {quoted(where.data_path)} WHERE key = 'data_path'"
        connection.execute(f"CALL postgres_execute('{CATALOG_ALIAS}', {quoted(moved)})")
    finally:
        with contextlib.suppress(duckdb.Error):
            connection.close()


def _check_listed(connection: duckdb.DuckDBPyConnection, found: Backup) -> None:
    """The catalog that is in PostgreSQL now names the files that were put there. Raises OutsideError when it does not."""

    def ask(query: str) -> list[tuple[object, ...]]:
        return connection.execute(f"FROM postgres_query('{CATALOG_ALIAS}', {quoted(query)})").fetchall()

    data_path = str(ask("SELECT value FROM ducklake_metadata WHERE key = 'data_path'")[0][0])
    named = {file.path: file.size_bytes for file in files_of(ask(listing()), data_path)}
    said = {path: size for path, (size, _) in found.files.items()}
    if odd := {path for path, _ in named.items() ^ said.items()}:
        raise OutsideError(
            f"{found.catalog} and backup.json do not name the same files ({len(odd)} differ, {min(odd)} is one); drop its tables"
        )
