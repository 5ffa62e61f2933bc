"""Before an upgrade changes the tables, the catalog is kept as it is: beside the live one, or in a schema of the same database.

::

    FOLDER/rollback/022_inference_days.sqlite       embedded: named by the schema that it is of
    isochrone_before_022_inference_days             scaled out: a schema of PostgreSQL with the tables of DuckLake

Two are kept. The Parquet files need no keeping: DuckLake changes none, and what nothing names any more stays for a day.
"""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from records.errors import OutsideError
from warehouse.lake_files import copy_catalog
from warehouse.lock import CATALOG_ALIAS
from warehouse.place import CATALOG, Place, identifier, quoted

__all__ = ["FOLDER", "PREFIX", "catalog_query", "copies_of", "keep_catalog", "kept_files", "kept_schemas"]

FOLDER = "rollback"
PREFIX = "isochrone_before_"
_KEPT = 2
_NAME = re.compile(r"[0-9a-z_]{1,40}")


def keep_catalog(where: Place, connection: duckdb.DuckDBPyConnection, schema: str) -> None:
    """Keep the catalog of now, whose newest migration is `schema`. Raises OutsideError when it cannot: then nothing is to be changed."""
    if not _NAME.fullmatch(schema):
        raise OutsideError(f"the newest migration of {where.address} is called {schema!r}, which no version of isochrone made")
    if where.folder is not None:
        try:
            (where.folder / FOLDER).mkdir(exist_ok=True)
        except OSError as error:
            raise OutsideError(f"cannot keep the catalog of {where.folder} before the upgrade: {error.strerror or error}") from error
        copy_catalog(where.folder / CATALOG, where.folder / FOLDER / f"{schema}.sqlite")
        for old in kept_files(where.folder)[_KEPT:]:
            old.unlink(missing_ok=True)
        return
    target = f"{PREFIX}{schema}"
    tables = [name for (name,) in catalog_query(connection, copies_of("public"))]
    steps = [f"DROP SCHEMA IF EXISTS {target} CASCADE", f"CREATE SCHEMA {target}"]
    for name in tables:
        steps += [
            f"CREATE TABLE {target}.{identifier(name)} (LIKE public.{identifier(name)} INCLUDING ALL)",
            f"INSERT INTO {target}.{identifier(name)} TABLE public.{identifier(name)}",
        ]
    steps.append(f"COMMENT ON SCHEMA {target} IS {quoted('kept by isochrone before an upgrade')}")
    connection.execute(f"CALL postgres_execute('{CATALOG_ALIAS}', {quoted('; '.join(steps))})")
    for schema_name in kept_schemas(connection)[_KEPT:]:
        connection.execute(f"CALL postgres_execute('{CATALOG_ALIAS}', 'DROP SCHEMA {schema_name} CASCADE')")


def kept_files(folder: Path) -> list[Path]:
    """The catalogs that an embedded warehouse keeps, the newest first."""
    return sorted((folder / FOLDER).glob("[0-9]*.sqlite"), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def kept_schemas(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The schemas of PostgreSQL that hold one, the newest first; by the names that `keep_catalog` gives, and no other."""
    named = "SELECT CAST(nspname AS text) AS s FROM pg_namespace WHERE nspname LIKE 'isochrone\\_before\\_%' ORDER BY oid DESC"
    found = [str(name) for (name,) in catalog_query(connection, named)]
    return [name for name in found if _NAME.fullmatch(name.removeprefix(PREFIX))]


def copies_of(schema: str) -> str:
    """A query of PostgreSQL: the names of DuckLake's tables in a schema."""
    return (
        f"SELECT CAST(relname AS text) AS t FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r' "
        "AND relname LIKE 'ducklake\\_%' ORDER BY 1"
    )


def catalog_query(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[object, ...]]:
    """Ask PostgreSQL itself."""
    return connection.execute(f"FROM postgres_query('{CATALOG_ALIAS}', {quoted(query)})").fetchall()
