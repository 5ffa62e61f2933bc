"""Which rows answer a question about a window: raw ones, roll-ups by minute, or roll-ups by hour.

Raw rows are exact; they are taken as long as the window holds few enough of them and they are all still there. Else the window is
widened to whole minutes (to whole hours where minutes have expired) and roll-ups are added up: whole hours inside a long window from
`rollup_hour`, its edges from `rollup_minute`, and what was committed after the newest pass from the raw rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from records.link import Grain
from warehouse.rollup import FAR_AHEAD, FAR_BACK
from warehouse.statements import bound

__all__ = ["RAW_ROWS", "Plan", "floored", "plan", "raised"]

#: Up to about so many raw rows in a window are read one by one (100 ms or so for a question about every link).
RAW_ROWS = 1_000_000
#: From this length on a window is made of hours.
HOURS_FROM = timedelta(hours=6)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a window is answered; `parameters` are those of the SQL on roll-ups, empty for raw rows; `empty` its parts without rows."""

    grain: Grain
    parameters: dict[str, Any]
    empty: frozenset[str] = frozenset()


def floored(at: datetime, step: timedelta) -> datetime:
    """The last multiple of a step since 1970 that is not after a time."""
    return at - (at - FAR_BACK) % step


def raised(at: datetime, step: timedelta) -> datetime:
    """The first multiple of a step since 1970 that is not before a time."""
    return at + (FAR_BACK - at) % step


def plan(
    cursor: duckdb.DuckDBPyConnection, since: datetime, until: datetime, *, grain: Grain | None, raw_rows: int | None = RAW_ROWS
) -> Plan:
    """How the window [since, until) is answered, in the transaction of `cursor`; `grain` insists on one.

    raw_rows   up to about so many raw rows of the window are read raw; None: however many there are

    Raises UserError for a time without a zone.
    """
    since, until = max(since.astimezone(UTC), FAR_BACK), min(until.astimezone(UTC), FAR_AHEAD)
    if grain == "raw":
        return Plan("raw", {})
    if grain is None and (raw_rows is None or raw_rows > 0):
        # The usual case of a small warehouse costs one look into the catalog.
        total, has_expired = _row(cursor, "raw_total")
        if not has_expired and (raw_rows is None or total <= raw_rows):
            return Plan("raw", {})
    mark, touched_hours, raw_from, minute_from = _state(cursor)
    if mark == 0:
        return Plan("raw", {})
    if grain is None and (raw_from is None or since >= raw_from):
        span = {"since": since, "until": until}
        if raw_rows is None or _row(cursor, "raw_rows", **span)[0] <= raw_rows:
            return Plan("raw", {})
    if grain is None:
        grain = "hour" if until - since >= HOURS_FROM else "minute"
    if minute_from is not None and since < minute_from:
        grain, since = "hour", floored(since, HOUR)
    since, until = floored(since, MINUTE), raised(until, MINUTE)
    if minute_from is not None and floored(until, HOUR) < minute_from:
        until = raised(until, HOUR)
    hour_from = hour_until = since
    if grain == "hour":
        hour_from = raised(since, HOUR)
        hour_until = max(floored(until, HOUR), hour_from)
    touched = [hour for hour in touched_hours if hour_from <= hour < hour_until]
    parameters = {
        "mark": mark,
        "since": since,
        "until": until,
        "hour_from": hour_from,
        "hour_until": hour_until,
        "head_until": min(hour_from, until),
        "tail_from": hour_until,
        "touched_from": min(touched) if touched else FAR_BACK,
        "touched_until": max(touched) + HOUR if touched else FAR_BACK,
    }
    has_hours, has_head = hour_from < hour_until, since < min(hour_from, until)
    # One part stays, whatever is in it.
    has_tail = hour_until < until or not (has_hours or has_head)
    is_there = {"hours": has_hours, "head": has_head, "tail": has_tail, "touched": bool(touched)}
    return Plan(grain, parameters, frozenset(name for name, is_so in is_there.items() if not is_so))


_State = tuple[int, list[datetime], datetime | None, datetime | None]


def _state(cursor: duckdb.DuckDBPyConnection) -> _State:
    mark, touched, raw_from, minute_from = _row(cursor, "rollup_state")
    return int(mark), touched, raw_from, minute_from


def _row(cursor: duckdb.DuckDBPyConnection, name: str, **parameters: object) -> tuple[Any, ...]:
    text, rest = bound(f"queries/{name}", parameters)
    row = cursor.execute(text, rest or None).fetchone()
    assert row is not None
    return row
