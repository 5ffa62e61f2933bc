"""The rows of an answer as Python values, or as the bytes of a file: CSV, JSON, Parquet, or an aligned text table."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from records.texts import printable
from warehouse.workbench import distinct

__all__ = ["encode", "rows"]


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """One dictionary per row; of columns with the same name each keeps its own value under a numbered name."""
    return _distinct(table).to_pylist()  # type: ignore[no-any-return]


def _distinct(table: pa.Table) -> pa.Table:
    return table.rename_columns(distinct(table.column_names))


def encode(table: pa.Table, kind: str) -> bytes:
    """The table as csv (header, NULL is empty), json (a list of objects), parquet or table (aligned text); times in ISO 8601."""
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(_distinct(table), sink)
        return sink.getvalue()
    values = [{name: _plain(value) for name, value in row.items()} for row in rows(table)]
    if kind == "json":
        return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    names = _distinct(table).column_names
    cells = [names, *([_cell(row[name]) if kind == "csv" else _shown(name, row[name]) for name in names] for row in values)]
    if kind == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(cells)
        return text.getvalue().encode()
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in cells).encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)


def _shown(name: str, value: object) -> str:
    """A cell as a terminal may see it: agents, targets and imported files wrote some of it, and it must not steer the terminal."""
    text = _cell(value)
    return "\n".join(map(printable, text.split("\n"))) if name == "explain_value" else printable(text)


def _plain(value: object) -> object:
    """A value as JSON can carry it; what it cannot (infinity, NaN) is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | bool) else str(value)
