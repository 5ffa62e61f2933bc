"""The lines that open a warehouse with DuckDB alone: the stock shell, or Python; reading only, beside whoever writes."""

from __future__ import annotations

from pathlib import Path

from warehouse.connect import CATALOG, DATA
from warehouse.extensions import extension_paths

__all__ = ["python_lines", "shell_lines"]


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def shell_lines(location: Path) -> list[str]:
    """Three lines of SQL for ``duckdb`` of the version that made the warehouse, with this machine's copies of its extensions.

    Where there are none, ``INSTALL ducklake; INSTALL sqlite;`` fetches them once; the first line then falls away.
    """
    load = " ".join(f"LOAD {_quoted(path)};" for path in extension_paths())
    catalog, data = f"ducklake:sqlite:{location / CATALOG}", f"{location / DATA}/"
    attach = f"ATTACH {_quoted(catalog)} AS wh (DATA_PATH {_quoted(data)}, OVERRIDE_DATA_PATH true, READ_ONLY);"
    return [load, attach, "USE wh;"]


def python_lines(location: Path) -> list[str]:
    """Three lines of Python that do the same with the package duckdb; ``con`` is the connection."""
    load, attach, use = shell_lines(location)
    return ["import duckdb", "con = duckdb.connect()", f"con.execute({' '.join((load, attach, use))!r})"]
