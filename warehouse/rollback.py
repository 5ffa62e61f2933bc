"""Go back to the catalog that an upgrade kept: the schema from before, and what was stored until then.

What was stored since is counted first. The collectors have to be stopped: an embedded warehouse that somebody has open for writing is
refused, and a scaled-out one whose database has another session of Isochrone. Files that only the newer catalog names are
removed as orphans after a day; until then the way forward is a backup taken before.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from records.errors import OutsideError, UserError, WarehouseMissing
from warehouse.attach import attach, attach_beside, attach_catalog
from warehouse.faults import reported
from warehouse.keep_catalog import PREFIX, catalog_query, copies_of, kept_files, kept_schemas
from warehouse.lake_files import files_of, listing, needed_by
from warehouse.lock import CATALOG_ALIAS, CatalogLock, FolderLock, alone
from warehouse.place import CATALOG, DATA, Place, identifier, place, quoted

__all__ = ["Kept", "RolledBack", "kept_catalogs", "rollback"]

_SINCE = """SELECT count(*) FROM wh.main.batch AS n
    ANTI JOIN (FROM {before}) AS b ON b.agent = n.agent AND b.boot = n.boot AND b.sequence = n.sequence"""
_SCHEMA = "SELECT max(name) FROM wh.main.schema_migration WHERE name <> 'views'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A catalog that an upgrade kept: the newest migration in it, and when."""

    schema: str
    kept_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """From which schema to which, and how many batches were stored in between and are not there any more."""

    from_schema: str
    schema: str
    lost_batches: int


def kept_catalogs(location: str) -> list[Kept]:
    """What there is to go back to, the newest first."""
    where = place(location)
    if where.folder is not None:
        found = kept_files(where.folder)
        return [Kept(schema=path.stem, kept_at=datetime.fromtimestamp(path.stat().st_mtime, UTC)) for path in found]
    with reported(), contextlib.closing(attach(where, "read")) as connection:
        return _schemas(connection)


def rollback(location: str, *, is_discarding: bool = False) -> RolledBack:
    """Go back to the newest catalog that is kept.

    Raises UserError when none is, or when batches were stored since and `is_discarding` is not said; OutsideError while a collector has
    the warehouse open, or when files of the older catalog are gone. Nothing is changed then.
    """
    where = place(location)
    with reported():
        if where.folder is not None:
            return _folder(where, where.folder, is_discarding=is_discarding)
        return _database(where, is_discarding=is_discarding)


def _folder(where: Place, folder: Path, *, is_discarding: bool) -> RolledBack:
    if not (folder / CATALOG).is_file():
        raise WarehouseMissing(f"there is no warehouse at {folder}; --warehouse names another place")
    kept = kept_files(folder)
    if not kept:
        raise _nothing(where)
    with alone(folder), FolderLock(folder).held():
        gone = [file.path for file in needed_by(kept[0]) if not (folder / DATA / file.path).is_file()]
        if gone:
            raise _files_gone(len(gone), gone[0])
        with tempfile.TemporaryDirectory(prefix="isochrone-rollback-") as aside, contextlib.closing(attach(where, "read")) as connection:
            (Path(aside) / CATALOG).write_bytes(kept[0].read_bytes())
            (Path(aside) / DATA).symlink_to(folder / DATA)
            attach_beside(connection, place(aside), "before")
            from_schema, lost = _compared(connection, "before.main.batch", is_discarding=is_discarding)
        # Into the live file, by SQLite's own transaction: cut off, it is the one or the other.
        with (
            contextlib.closing(sqlite3.connect(kept[0])) as source,
            contextlib.closing(sqlite3.connect(folder / CATALOG, timeout=60)) as live,
        ):
            source.backup(live)
        kept[0].unlink()
    return RolledBack(from_schema=from_schema, schema=kept[0].stem, lost_batches=lost)


def _database(where: Place, *, is_discarding: bool) -> RolledBack:
    own = replace(where, catalog=f"{where.catalog} application_name='isochrone rollback'")
    with contextlib.closing(attach_catalog(own)) as catalog, CatalogLock(catalog).held():
        kept = _schemas(catalog)
        if not kept:
            raise _nothing(where)
        others = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'isochrone'"
        if catalog_query(catalog, others) != [(0,)]:
            raise OutsideError(f"a collector or a reader has {where.address} open; stop them first, agents keep what they measure")
        schema = f"{PREFIX}{kept[0].schema}"
        # Closed again before its tables are dropped.
        with contextlib.closing(attach(own, "read")) as connection:
            _check_files(connection, schema)
            # The snapshot that the older catalog ended with: the newer one still has it.
            last = int(str(catalog_query(connection, f"SELECT max(snapshot_id) AS s FROM {schema}.ducklake_snapshot")[0][0]))
            from_schema, lost = _compared(connection, f"wh.main.batch AT (VERSION => {last})", is_discarding=is_discarding)
        tables = [name for (name,) in catalog_query(catalog, copies_of(schema))]
        steps = ["SET LOCAL lock_timeout = '30s'"]
        steps += [f"DROP TABLE public.{identifier(name)}" for (name,) in catalog_query(catalog, copies_of("public"))]
        for name in tables:
            steps.append(f"CREATE TABLE public.{identifier(name)} (LIKE {schema}.{identifier(name)} INCLUDING ALL)")
            steps.append(f"INSERT INTO public.{identifier(name)} TABLE {schema}.{identifier(name)}")
        steps.append(f"DROP SCHEMA {schema} CASCADE")
        catalog.execute(f"CALL postgres_execute('{CATALOG_ALIAS}', {quoted('; '.join(steps))})")
    return RolledBack(from_schema=from_schema, schema=kept[0].schema, lost_batches=lost)


def _check_files(connection: duckdb.DuckDBPyConnection, schema: str) -> None:
    """Whatever the kept catalog names is still there."""
    row = connection.execute("SELECT data_path FROM ducklake_settings('wh')").fetchone()
    assert row is not None
    there = {str(file) for (file,) in connection.execute(f"SELECT file FROM glob({quoted(f'{row[0]}**/*.parquet')})").fetchall()}
    query = listing()
    for table in ("FROM ducklake_", "JOIN ducklake_"):
        query = query.replace(table, table.replace("ducklake_", f"{schema}.ducklake_"))
    gone = [file.path for file in files_of(catalog_query(connection, query), str(row[0])) if f"{row[0]}{file.path}" not in there]
    if gone:
        raise _files_gone(len(gone), gone[0])


def _compared(connection: duckdb.DuckDBPyConnection, before: str, *, is_discarding: bool) -> tuple[str, int]:
    """The schema of now, and how many batches it has that were not there before. Raises UserError when some have, unless that is meant."""
    row, named = connection.execute(_SINCE.format(before=before)).fetchone(), connection.execute(_SCHEMA).fetchone()
    assert row is not None
    assert named is not None
    if row[0] and not is_discarding:
        raise UserError(
            f"{row[0]} batches were stored since the upgrade and would be lost; `isochrone warehouse backup DIR` keeps them, "
            "then give --discard"
        )
    return str(named[0]), int(row[0])


def _schemas(connection: duckdb.DuckDBPyConnection) -> list[Kept]:
    """Of a database, by what DuckLake wrote last into each."""
    found = []
    for name in kept_schemas(connection):
        last = catalog_query(connection, f"SELECT max(snapshot_time) AS t FROM {name}.ducklake_snapshot")[0][0]
        at = last if isinstance(last, datetime) else datetime.fromisoformat(str(last))
        found.append(Kept(schema=name.removeprefix(PREFIX), kept_at=at.astimezone(UTC)))
    return found


def _nothing(where: Place) -> UserError:
    return UserError(
        f"the warehouse {where.address} keeps no catalog from before an upgrade; a backup taken before it is restored by "
        "`isochrone warehouse restore`"
    )


def _files_gone(count: int, first: str) -> OutsideError:
    return OutsideError(
        f"{count} files of the catalog from before the upgrade are gone ({first}): it is too old to go back to; "
        "restore a backup taken before it"
    )
