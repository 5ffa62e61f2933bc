"""The values of an SQL answer as text and as JSON: whatever DuckDB knows, as DuckDB writes it; NULL alone is unknown.

NaN and infinity are values and say so; JSON has no numbers for them, and takes the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from records.texts import printable

__all__ = ["as_csv", "as_json", "as_text", "cells"]

#: The column of EXPLAIN that holds a drawing of many lines.
_DRAWN = "explain_value"


def as_json(rows: Sequence[dict[str, Any]]) -> str:
    """A list of objects; bytes in base64, times in ISO 8601."""
    return json.dumps([{name: _plain(value) for name, value in row.items()} for row in rows], indent=2, ensure_ascii=False) + "\n"


def as_csv(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """A header and the rows; NULL is empty, what is nested is JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        plain = [_plain(row[name]) for name in names]
        writer.writerow(
            ["" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in plain]
        )
    return text.getvalue()


def cells(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[list[object]]:
    """Rows for app.output.table; a drawing takes as many of them as it has lines."""
    made: list[list[object]] = []
    for row in rows:
        drawn = str(row.get(_DRAWN) or "").rstrip("\n").split("\n")
        for at, line in enumerate(drawn):
            made.append([line if name == _DRAWN else _brief(row[name]) if at == 0 else "" for name in names])
    return made


def as_text(lines: Sequence[Sequence[object]]) -> str:
    """Cells in columns that are aligned, for a file; what others wrote steers no terminal that shows it. NULL is empty."""
    shown = [["" if cell is None else printable(str(cell)) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in shown)


def _brief(value: object) -> object:
    """A value as a cell: nested ones as text, whole."""
    if isinstance(value, float) and not math.isfinite(value):
        return _not_finite(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(_spelt(value))


def _spelt(value: Any) -> Any:
    """A value, or what is in it, as DuckDB casts it to text where Python would write it in its own way."""
    if isinstance(value, bytes):
        return "".join(chr(one) if 32 <= one < 127 and chr(one) not in "\\'\"" else f"\\x{one:02X}" for one in value)
    if isinstance(value, timedelta):
        return _interval(0, value.days, (value.seconds * 1_000_000 + value.microseconds))
    if hasattr(value, "nanoseconds"):  # Arrow's interval
        return _interval(value.months, value.days, value.nanoseconds // 1000)
    if isinstance(value, dict):
        return {_spelt(key): _spelt(item) for key, item in value.items()}
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_spelt(item) for item in value)
    if isinstance(value, list):
        return [_spelt(item) for item in value]
    return value


def _interval(months: int, days: int, microseconds: int) -> str:
    parts = [(int(months / 12), "year"), (int(math.fmod(months, 12)), "month"), (days, "day")]
    words = [f"{count} {unit}{'' if abs(count) == 1 else 's'}" for count, unit in parts if count]
    if microseconds or not words:
        seconds, rest = divmod(abs(microseconds), 1_000_000)
        fraction = f".{rest:06d}".rstrip("0") if rest else ""
        words.append(f"{'-' if microseconds < 0 else ''}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}")
    return " ".join(words)


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _plain(value: Any) -> Any:
    """A value as JSON can carry it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "nanoseconds"):
        return _spelt(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | bool) else str(value)
