"""Which rows answer a question about a window: raw ones, roll-ups by minute, by hour or by day.

Raw rows are exact; they are taken as long as the window holds few enough of them and they are all still there. Else the window is
widened to whole minutes (to whole hours where minutes have expired) and roll-ups are added up: whole days inside a window of days from
`rollup_day`, whole hours of what is left from `rollup_hour`, its edges from `rollup_minute`, and what was committed after the newest pass
from the raw rows. Days and hours that something late has touched are added up from what they are made of (see sql/rollup/rolled.sql).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from records.link import Grain
from warehouse.arrived import arrived
from warehouse.rollup import FAR_AHEAD, FAR_BACK
from warehouse.statements import bound

__all__ = ["DAY", "HOUR", "MINUTE", "RAW_ROWS", "Plan", "floored", "plan", "plan_requests", "raised", "rolled_up_to"]

#: Up to about so many raw rows in a window are read one by one (100 ms or so for a question about every link).
RAW_ROWS = 1_000_000
#: From this length on a window is made of hours.
HOURS_FROM = timedelta(hours=6)
#: And from this one on of days, with hours at its ends.
DAYS_FROM = timedelta(hours=49)
#: Up to about so many inference requests in a window are read one by one.
REQUEST_RAW_ROWS = 20_000
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_NEWEST = (1 << 63) - 1


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
    cursor: duckdb.DuckDBPyConnection,
    since: datetime,
    until: datetime,
    *,
    grain: Grain | None,
    raw_rows: int | None = RAW_ROWS,
    coarsest: Grain = "day",
    tables: Collection[str] = ("ping_sample", "http"),
) -> Plan:
    """How the window [since, until) is answered, in the transaction of `cursor`; `grain` insists on one.

    raw_rows   up to about so many raw rows of the window are read raw; None: however many there are
    coarsest   hour: days are of no use
    tables     what is asked of: packets, and connections

    Raises UserError for a time without a zone.
    """
    since, until = max(since.astimezone(UTC), FAR_BACK), min(until.astimezone(UTC), FAR_AHEAD)
    if grain == "raw":
        return Plan("raw", {})
    has_expired = True
    if grain is None and (raw_rows is None or raw_rows > 0):
        # The usual case of a small warehouse costs one look into the catalog.
        total, has_expired = _row(cursor, "raw_total")
        if not has_expired and (raw_rows is None or total <= raw_rows):
            return Plan("raw", {})
    mark = rolled_up_to(cursor)
    if mark == 0:
        return Plan("raw", {})
    raw_from, minute_from = _row(cursor, "expired") if has_expired else (None, None)
    if grain is None and (raw_from is None or since >= raw_from):
        span = {"since": since, "until": until}
        if raw_rows is None or _row(cursor, "raw_rows", tables=tuple((name,) for name in tables), **span)[0] <= raw_rows:
            return Plan("raw", {})
    if grain is None:
        grain = "minute" if until - since < HOURS_FROM else "hour" if until - since < DAYS_FROM or coarsest == "hour" else "day"
    if minute_from is not None and since < minute_from:
        grain, since = "hour" if grain == "minute" else grain, floored(since, HOUR)
    since, until = floored(since, MINUTE), raised(until, MINUTE)
    if minute_from is not None and floored(until, HOUR) < minute_from:
        until = raised(until, HOUR)
    return _cover(cursor, mark, since, until, grain, tables)


def plan_requests(cursor: duckdb.DuckDBPyConnection, since: datetime, until: datetime, *, grain: Grain | None) -> Plan:
    """As plan, of inference requests; a window is not widened: its edges are raw requests.

    grain   raw: none of it is from roll-ups; hour: no days
    """
    since, until = max(since.astimezone(UTC), FAR_BACK), min(until.astimezone(UTC), FAR_AHEAD)
    if grain == "raw" or raised(since, HOUR) >= floored(until, HOUR):
        return Plan("raw", {})
    span = {"since": since, "until": until}
    if grain is None and _row(cursor, "raw_rows", tables=(("inference",),), **span)[0] <= REQUEST_RAW_ROWS:
        return Plan("raw", {})
    mark = rolled_up_to(cursor)
    if mark == 0:
        return Plan("raw", {})
    found = _cover(cursor, mark, since, until, grain or ("hour" if until - since < DAYS_FROM else "day"), ("inference",))
    # Where no edge, no touched hour and nothing fresh is asked for, no requests are.
    return replace(found, empty=found.empty | {"requests"}) if found.empty >= {"head", "tail", "touched", "fresh"} else found


def rolled_up_to(cursor: duckdb.DuckDBPyConnection) -> int:
    """The roll-ups' mark: the snapshot up to which they hold everything; 0: none was made."""
    row = cursor.execute("SELECT snapshot_id FROM rollup_mark").fetchone()
    assert row is not None
    return int(row[0])


def _cover(cursor: duckdb.DuckDBPyConnection, mark: int, since: datetime, until: datetime, grain: Grain, tables: Collection[str]) -> Plan:
    """A window's days, the hours before and after these, and the edges that are left; what tables have that no pass has seen."""
    hour_from = hour_until = since
    if grain != "minute":
        hour_from = raised(since, HOUR)
        hour_until = max(floored(until, HOUR), hour_from)
    day_from = day_until = hour_until
    if grain == "day" and raised(hour_from, DAY) < floored(hour_until, DAY):
        day_from, day_until = raised(hour_from, DAY), floored(hour_until, DAY)
    hours = _touched(cursor, "SELECT hour_at FROM rollup_touched", hour_from, hour_until)
    days = _touched(cursor, "SELECT day_at FROM rollup_touched_day", day_from, day_until)
    came = arrived(cursor, mark, tables)
    parameters = {
        "after": mark,
        "upto": _NEWEST,
        "since": since,
        "until": until,
        "least": since,
        "most": until - timedelta(microseconds=1),
        "day_from": day_from,
        "day_until": day_until,
        "touched_days": days,
        "touched_days_from": min(days, default=FAR_BACK),
        "touched_days_until": max(days) + DAY if days else FAR_BACK,
        "hour_from": hour_from,
        "hour_until": hour_until,
        "touched_hours": hours,
        "touched_from": min(hours, default=FAR_BACK),
        "touched_until": max(hours) + HOUR if hours else FAR_BACK,
        "head_until": min(hour_from, until),
        "tail_from": hour_until,
        **{f"{name}_arrived": at for name, at in came.items()},
    }
    is_there = {
        "days": day_from < day_until,
        "hours": hour_from < day_from,
        "hours_tail": day_until < hour_until,
        "hours_touched": bool(days),
        "head": since < min(hour_from, until),
        "tail": hour_until < until,
        "touched": bool(hours),
        "fresh": bool(came),
    }
    is_there["tail"] |= not any(is_there.values())  # one part stays, whatever is in it
    is_there |= {name: name in came for name in ("ping_sample", "http", "inference")}
    return Plan(grain, parameters, frozenset(name for name, is_so in is_there.items() if not is_so))


def _touched(cursor: duckdb.DuckDBPyConnection, query: str, first: datetime, until: datetime) -> list[datetime]:
    """Those of the hours or days in [first, until)."""
    return sorted(at for (at,) in cursor.execute(query).fetchall() if first <= at < until) if first < until else []


def _row(cursor: duckdb.DuckDBPyConnection, name: str, **parameters: object) -> tuple[Any, ...]:
    text, rest = bound(f"queries/{name}", parameters)
    row = cursor.execute(text, rest or None).fetchone()
    assert row is not None
    return row
