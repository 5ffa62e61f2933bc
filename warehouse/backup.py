"""Back a warehouse up into a folder, beside whoever writes to it, and read such a folder again.

::

    DIR/backup.json       what it is: source, snapshot, schema, rows by table, every file with its size and SHA-256
    DIR/catalog.sqlite    the catalog (of a scaled-out warehouse catalog.dump, by pg_dump)
    DIR/data/             Parquet files
    DIR/started.json      while one is being made: which files in data/ are ours

1. The catalog is copied as it is at one moment; nobody waits for that.
2. Then the files that it names: DuckLake changes none, and keeps those that nothing needs any more for a day.
3. The copy is opened and every row of it read and counted. Only then backup.json and the catalog take the place of the ones from before.

An earlier backup in DIR is brought forward: files that it has are not fetched again, files of it that nothing names any more go at the
end; a file that neither it nor started.json names is not ours, and stays. Broken off anywhere, what was there before is still whole.
The backup of an embedded warehouse is itself one, to be read by any command.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import duckdb

from records.errors import OutsideError, UserError
from warehouse import postgres_tools
from warehouse.attach import attach
from warehouse.connect import check_folder, open_warehouse
from warehouse.faults import first_line, reported
from warehouse.lake_files import (
    FileGone,
    FolderFiles,
    LakeFile,
    Storage,
    copy_catalog,
    files_of,
    listing,
    make_folder,
    needed_by,
    newest_snapshot,
    put_file,
    storage,
)
from warehouse.lock import CATALOG_ALIAS, FolderLock
from warehouse.manifest import DUMP, MANIFEST, Backup, check_files, check_links, check_names, read_backup
from warehouse.place import CATALOG, DATA, Place, identifier, place, quoted
from warehouse.started import STARTED, end, foreign, refuse_links, start, unfinished

__all__ = ["MANIFEST", "Backup", "backup", "check_backup", "count_rows", "read_backup"]

#: What a backup is made ready in.
_ASIDE = ".new"
_TRIES = 3


@dataclass(frozen=True, slots=True)
class _Before:
    """What the folder holds of earlier backups.

    files   those of the last whole one, as it says; grows by what is fetched
    ours    all that were put there, those of one that was broken off too
    """

    files: dict[str, tuple[int, str]]
    ours: set[str]


@dataclass(frozen=True, slots=True)
class _Moment:
    """The catalog at one moment, already copied: what it needs."""

    snapshot_id: int
    files: list[LakeFile]


def backup(location: str, folder: Path, *, now: datetime, on_file: Callable[[int, int], None] = lambda *_: None) -> tuple[Backup, int]:
    """Back the warehouse at `location` up into `folder`, made where it is absent; what is in it now, and how many files were fetched.

    on_file   called after each file: (files that are there, files in all)

    Raises UserError when the folder holds something else, WarehouseMissing when there is no warehouse, ToolMissing without pg_dump,
    OutsideError when a disk or server fails, or what was written does not count up: what the folder held before is still whole then.
    """
    where = place(location)
    folder = folder.expanduser().absolute()
    data_path = _data_path(where)  # whatever is wrong with it is told before anything is written
    before = _before(folder, where)
    with FolderLock(folder).held(timeout_s=1), reported():
        start(folder, _source(where.address), before.ours)
        aside = folder / _ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        make_folder(aside)
        for last in (False, False, True):
            try:
                found, fetched = _fetched(where, data_path, folder, before, on_file)
                break
            except FileGone:
                # It was merged away and removed while we copied: the catalog of now names another.
                if last:
                    raise
        counts, schema = _counted(where, aside, found.snapshot_id)
        catalog = CATALOG if where.folder is not None else DUMP
        manifest = Backup(
            source=where.address,
            catalog=catalog,
            catalog_sha256=_hash_of(FolderFiles(aside).read(catalog)),
            snapshot_id=found.snapshot_id,
            schema=schema,
            made_at=now.isoformat(timespec="seconds"),
            made_by=f"isochrone {version('isochrone')}",
            row_counts=counts,
            files={file.path: before.files[file.path] for file in found.files},
        )
        put_file([json.dumps(asdict(manifest), indent=1).encode() + b"\n"], folder / MANIFEST)
        (aside / catalog).replace(folder / catalog)
        shutil.rmtree(aside, ignore_errors=True)
        for path in before.ours - manifest.files.keys():
            (folder / DATA / path).unlink(missing_ok=True)
        end(folder)
    return manifest, fetched


def _data_path(where: Place) -> str:
    if where.folder is not None:
        check_folder(where.folder)
        return f"{where.folder / DATA}/"
    with open_warehouse(where.address) as wh:
        return wh.data_path


def _source(address: str) -> str:
    """What tells one warehouse from another, wherever its files are."""
    return address.partition(" data_path=")[0]


def _before(folder: Path, where: Place) -> _Before:
    """What is there already; makes the folder where it is absent. Raises UserError when it is anything but a backup of this warehouse."""
    if where.folder is not None and folder.is_relative_to(where.folder):
        raise UserError(f"{folder} is inside of the warehouse that it is to be a backup of; name a folder elsewhere, best on another disk")
    try:
        make_folder(folder)
        refuse_links(folder, DATA, _ASIDE)
        begun = unfinished(folder, _source(where.address))
        is_whole = (folder / MANIFEST).exists()
        other = None if is_whole else foreign(folder, ours=() if begun is None else (DATA, _ASIDE, STARTED))
    except OSError as error:
        raise UserError(
            f"cannot make a backup in {folder}: {error.strerror or error}; name a folder that this user may write to"
        ) from error
    if other is not None:
        raise UserError(f"{folder} holds something that is no backup ({other}); name an empty folder, or an earlier backup")
    if not is_whole:
        return _Before({}, begun or set())
    earlier = read_backup(folder)
    if _source(earlier.source) != _source(where.address):
        raise UserError(f"{folder} holds a backup of {earlier.source}; name another folder for the one of {where.address}")
    return _Before(dict(earlier.files), earlier.files.keys() | (begun or set()))


def _fetched(where: Place, data_path: str, folder: Path, before: _Before, on_file: Callable[[int, int], None]) -> tuple[_Moment, int]:
    """The catalog into .new, and the files that it names and that are not there yet; `before` learns them and their hashes."""
    known = before.files
    connection = attach(where, "read") if where.folder is None else duckdb.connect(":memory:")
    try:
        if where.folder is not None:
            copy_catalog(where.folder / CATALOG, folder / _ASIDE / CATALOG)
            copied = folder / _ASIDE / CATALOG
            moment = _Moment(newest_snapshot(copied), needed_by(copied))
        else:
            moment = _dumped(connection, where, data_path, folder / _ASIDE / DUMP)
        files: Storage = storage(connection, data_path)
        before.ours.update(file.path for file in moment.files)
        start(folder, _source(where.address), before.ours)
        fetched = 0
        for done, file in enumerate(moment.files, 1):
            here = folder / DATA / file.path
            if known.get(file.path, (-1, ""))[0] != file.size_bytes or not here.is_file() or here.stat().st_size != file.size_bytes:
                known[file.path] = put_file(files.read(file.path), here)
                fetched += 1
                if known[file.path][0] != file.size_bytes:
                    raise OutsideError(f"{file.path} has {known[file.path][0]} bytes, and the catalog says {file.size_bytes}")
            on_file(done, len(moment.files))
        return moment, fetched
    finally:
        connection.close()


def _dumped(connection: duckdb.DuckDBPyConnection, where: Place, data_path: str, target: Path) -> _Moment:
    """A dump and the list of files of the same moment: pg_dump reads in the snapshot that our transaction exports."""

    def ask(query: str) -> list[tuple[object, ...]]:
        return connection.execute(f"FROM postgres_query('{CATALOG_ALIAS}', {quoted(query)})").fetchall()

    connection.execute("BEGIN")
    try:
        exported = str(ask("SELECT pg_export_snapshot() AS s")[0][0])
        snapshot_id = int(str(ask("SELECT max(snapshot_id) AS s FROM ducklake_snapshot")[0][0]))
        found = files_of(ask(listing()), data_path)
        postgres_tools.dump(where, exported, target)
    finally:
        connection.execute("ROLLBACK")
    return _Moment(snapshot_id, found)


def _counted(where: Place, aside: Path, snapshot_id: int) -> tuple[dict[str, int], str]:
    """Rows by table and newest migration: of the copy itself where it is an embedded one, else of the source at that snapshot."""
    if where.folder is not None:
        (aside / DATA).symlink_to(Path("..") / DATA)
        where = place(aside)
    connection = attach(where, "read")
    try:
        return count_rows(connection, None if where.folder is not None else snapshot_id)
    except duckdb.Error as error:
        raise OutsideError(f"the backup is not whole, and what was there before stays: {first_line(error)}") from error
    finally:
        connection.close()


def count_rows(connection: duckdb.DuckDBPyConnection, snapshot_id: int | None = None) -> tuple[dict[str, int], str]:
    """Rows by table, every value read, and the newest migration, of the warehouse attached as ``wh`` at a snapshot (None: the newest)."""
    at = "" if snapshot_id is None else f" AT (VERSION => {snapshot_id})"
    listed = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'wh' AND NOT internal ORDER BY 1").fetchall()
    names = [str(name) for (name,) in listed]
    check_names(names)
    counts = {}
    for name in names:
        row = connection.execute(f"SELECT count(*), count(COLUMNS(*)) FROM wh.main.{identifier(name)}{at}").fetchone()
        assert row is not None
        counts[name] = int(row[0])
    newest = connection.execute(f"SELECT max(name) FROM wh.main.schema_migration{at} WHERE name <> 'views'").fetchone()
    assert newest is not None
    return counts, str(newest[0])


def check_backup(folder: Path) -> Backup:
    """Read every file of a backup and hold it against its SHA-256, and backup.json against the catalog.

    Raises OutsideError that names the first that differs, InputError when backup.json cannot be understood.
    """
    found = read_backup(folder)
    check_links(folder, found)
    for path, digest in {
        found.catalog: found.catalog_sha256,
        **{f"{DATA}/{path}": digest for path, (_, digest) in found.files.items()},
    }.items():
        if _hash_of(FolderFiles(folder).read(path)) != digest:
            raise OutsideError(f"{folder / path} is not what was backed up: its SHA-256 differs; take another copy, or back up again")
    check_files(folder, found)
    return found


def _hash_of(chunks: Iterator[bytes]) -> str:
    digest = sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
