"""The SQL of the warehouse, from .sql files: one question or step each, read once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

__all__ = ["SQL_FOLDER", "folder", "statement"]

SQL_FOLDER = Path(__file__).parent / "sql"


@cache
def statement(name: str) -> str:
    """The text of sql/`name`.sql, such as ``queries/link_estimates``."""
    return (SQL_FOLDER / f"{name}.sql").read_text("utf-8")


def folder(name: str) -> list[tuple[str, str]]:
    """(file stem, text) of every .sql file of sql/`name`, in the order of their names."""
    return [(path.stem, path.read_text("utf-8")) for path in sorted((SQL_FOLDER / name).glob("*.sql"))]
