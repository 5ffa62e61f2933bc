"""The lines that open a warehouse with DuckDB alone: the stock shell, or Python; reading only, beside whoever writes."""

from __future__ import annotations

import os

from warehouse.attach import ONE_SNAPSHOT
from warehouse.extensions import extension_path
from warehouse.place import CATALOG, Place, quoted, s3_settings

__all__ = ["python_lines", "shell_lines"]


def shell_lines(where: Place, data_path: str) -> list[str]:
    """Three lines of SQL for ``duckdb`` of the version that made the warehouse, with this machine's copies of its extensions.

    Where there are none, ``INSTALL ducklake; INSTALL sqlite;`` (scaled out: ``INSTALL postgres; INSTALL httpfs;``) fetches them once;
    the first line then loads them by these names. The keys of S3 are not in it: DuckDB takes them from AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY.
    """
    if where.folder is not None:
        names, catalog, override = ["ducklake", "sqlite_scanner"], f"ducklake:sqlite:{where.folder / CATALOG}", "OVERRIDE_DATA_PATH true, "
    else:
        names, catalog, override = ["ducklake", "postgres_scanner"], f"ducklake:postgres:{where.catalog}", ""
    is_s3 = data_path.startswith("s3://")
    load = " ".join(f"LOAD {quoted(extension_path(name))};" for name in [*names, *(["httpfs"] if is_s3 else [])])
    if where.folder is not None:
        load += f" {ONE_SNAPSHOT};"
    if is_s3:
        load += "".join(f" SET {name} = {value};" for name, value in s3_settings(os.environ).items())
    attach = f"ATTACH {quoted(catalog)} AS wh (DATA_PATH {quoted(data_path)}, {override}READ_ONLY);"
    return [load, attach, "USE wh;"]


def python_lines(where: Place, data_path: str) -> list[str]:
    """Three lines of Python that do the same with the package duckdb; ``con`` is the connection."""
    load, attach, use = shell_lines(where, data_path)
    return ["import duckdb", "con = duckdb.connect()", f"con.execute({' '.join((load, attach, use))!r})"]
