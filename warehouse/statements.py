"""The SQL of the warehouse, from .sql files: one question or step each, read once."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

__all__ = ["SQL_FOLDER", "bound", "folder", "statement"]

SQL_FOLDER = Path(__file__).parent / "sql"


_INCLUDE = re.compile(r"^ *-- include (\S+)\n", re.MULTILINE)


@cache
def statement(name: str) -> str:
    """The text of sql/`name`.sql, such as ``queries/link_estimates``; a line ``-- include NAME`` stands for the text of sql/NAME.sql."""
    text = (SQL_FOLDER / f"{name}.sql").read_text("utf-8")
    return _INCLUDE.sub(lambda match: _HEADER.sub("", statement(match[1])), text)


def folder(name: str) -> list[tuple[str, str]]:
    """(file stem, text) of every .sql file of sql/`name`, in the order of their names."""
    return [(path.stem, path.read_text("utf-8")) for path in sorted((SQL_FOLDER / name).glob("*.sql"))]


_PARAMETER = re.compile(r"\$(\w+)")
#: Types that are written into a statement, times also in lists; texts only in a table (rows of texts), and there by their bytes in
#: hexadecimal digits.
_LITERALS = (datetime, timedelta, int, tuple, list)


_PART = re.compile(r"^ *-- part (\w+)\n(.*?)^ *-- end \1\n", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"\A(?:-- (?!part |include ).*\n)+")


def bound(name: str, parameters: Mapping[str, object], without: Collection[str] = ()) -> tuple[str, dict[str, object]]:
    """The text of sql/`name`.sql with its times, integers and tables of texts written in, and the parameters that remain to be bound.

    without   parts (from a line ``-- part NAME`` to a line ``-- end NAME``) that are known to be empty: planning one over the lake's files
              takes longer than finding nothing in it

    DuckDB imports pandas to bind a parameter, any parameter: a quarter of a second, once for each process.
    """
    written = {key: _literal(value) for key, value in parameters.items() if type(value) in _LITERALS}
    text = _PARAMETER.sub(lambda match: written.get(match[1], match[0]), _whole(name, frozenset(without)))
    return text, {key: value for key, value in parameters.items() if key not in written}


@cache
def _whole(name: str, without: frozenset[str]) -> str:
    if not without:
        return statement(name)

    def kept(match: re.Match[str]) -> str:
        return "" if match[1] in without else _PART.sub(kept, match[2])

    return re.sub(r"\(\s*UNION ALL\b", "(", _PART.sub(kept, statement(name)))


def _literal(value: object) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ '{value.isoformat(sep=' ')}'"
    if isinstance(value, timedelta):
        return f"to_microseconds({value // timedelta(microseconds=1)})"
    if isinstance(value, list):  # of times
        return f"[{', '.join(map(_literal, value))}]::TIMESTAMPTZ[]"
    if isinstance(value, tuple):
        rows = (", ".join(f"decode(from_hex('{text.encode().hex()}'))" for text in row) for row in value)
        return f"(VALUES {', '.join(f'({row})' for row in rows)})"
    return f"CAST({value} AS BIGINT)"
