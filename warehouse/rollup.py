"""Roll-ups by minute, hour and day, kept up to date commit by commit.

1. A pass reads the raw rows of the snapshots after the mark, adds their fragments to `rollup_minute`, notes the hours they touch
   and moves the mark, all in one transaction: whatever is killed when, a packet is counted once.
2. A late packet is a row like any other: its fragment joins those of its minute, and its hour is touched again.
3. Whether an agent failed its own checks is known only afterwards. When that changes, the minutes concerned are made anew from raw
   rows, as far as these are still there.
4. An hour that is over and touched is made of its minutes, in one transaction, and is then no longer touched; a day that is over, touched
   and without a touched hour is made of its hours.
5. Inference requests are few and long kept: an hour of them, with all that pages show, is made of the requests themselves.

A question takes untouched days and hours from their tables, all else from `rollup_minute`, and what was committed after the mark from the
raw rows: its answer is whole at any moment (see warehouse.grain).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import duckdb

from warehouse.arrived import MEASURED, arrived
from warehouse.connect import Warehouse
from warehouse.statements import statement

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EVER", "FAR_AHEAD", "FAR_BACK", "PASS_ROWS", "day_steps", "expired_before", "hour_steps", "minute_steps", "rollup"]

#: About how many raw rows one transaction rolls up: a second or two of work, for which commits wait.
PASS_ROWS = 1_000_000
#: Hours, and days, made in one transaction.
_HOURS, _DAYS = 6, 2
#: An hour is made once it has been over for this long; what comes later makes it anew.
_SETTLE = timedelta(minutes=5)
FAR_BACK, FAR_AHEAD = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
#: Whatever time a packet claims.
EVER = {"least": datetime.min.replace(tzinfo=UTC), "most": datetime.max.replace(tzinfo=UTC)}


def rollup(warehouse: Warehouse, *, now: datetime, max_rows: int = PASS_ROWS) -> dict[str, int]:
    """Bring the roll-ups up to date; the rows added, by table.

    Idempotent: when nothing was committed since, nothing is added. Raises UserError on a warehouse open for reading only.
    """
    added = {"rollup_minute": sum(minute_steps(warehouse, now=now, max_rows=max_rows))}
    added["rollup_hour"] = sum(hour_steps(warehouse, now=now))
    added["rollup_day"] = sum(day_steps(warehouse, now=now))
    return added


def minute_steps(warehouse: Warehouse, *, now: datetime, max_rows: int = PASS_ROWS) -> Iterator[int]:
    """Roll up to minutes what was committed since the mark, a bounded transaction at each step; the fragments it added."""
    is_done = False
    while not is_done:
        added, is_done = _pass(warehouse, now, max_rows)
        yield added


def _pass(warehouse: Warehouse, now: datetime, max_rows: int) -> tuple[int, bool]:
    """One transaction; (fragments added, whether the mark is at the newest snapshot)."""
    import pyarrow as pa  # readers take constants from here and need none of it

    with warehouse.transaction() as cursor:
        mark = _number(cursor, "SELECT snapshot_id FROM rollup_mark")
        newest = _number(cursor, "SELECT id FROM wh.current_snapshot()")
        found = cursor.execute(statement("rollup/upper"), {"mark": mark, "max_rows": max_rows}).fetchone()
        upper = newest if found is None or found[0] is None else min(int(found[0]), newest)
        again = _again(cursor, mark)
        came = arrived(cursor, mark)
        fragments = _arrow(cursor, "fragments", after=mark, upto=upper, **EVER, **_since(came))
        joined = pa.concat_tables([again, fragments]) if again is not None else fragments
        if joined.num_rows:
            _use(cursor, "minute", incoming=joined)
            _use(cursor, "touch", incoming=joined)
            _use(cursor, "touch_day", incoming=joined)
        counts = _arrow(cursor, "counts", mark=mark, upper=upper, **_since(came, MEASURED))
        if counts.num_rows:
            _add_counts(cursor, counts)
        # Without rows the mark stays, unless it has to pass them by: an idle warehouse makes no snapshots.
        if joined.num_rows or counts.num_rows or again is not None or upper < newest:
            cursor.execute(statement("rollup/mark"), {"upper": upper, "now": now})
        return joined.num_rows, upper >= newest


#: Tables that are rolled up.
_ROLLED = ("ping_sample", "http", "inference")
_WHENEVER = {f"{name}_arrived": EVER["least"] for name in _ROLLED}


def _since(came: Mapping[str, datetime], tables: Collection[str] = _ROLLED) -> dict[str, datetime]:
    """The parameters $TABLE_arrived; nothing arrives after the last moment there is."""
    return {f"{name}_arrived": came.get(name, EVER["most"]) for name in tables}


def _add_counts(cursor: duckdb.DuckDBPyConnection, counts: pa.Table) -> None:
    """Add measurements to the days they arrived on: a row for each table and day, so that there are few."""
    whole = _arrow(cursor, "count", incoming=counts)
    _use(cursor, "count_delete", incoming=counts)
    _use(cursor, "count_insert", incoming=whole)


def _again(cursor: duckdb.DuckDBPyConnection, mark: int) -> pa.Table | None:
    """Where an agent's grade is known otherwise than before, take its minutes out; their rows made anew, None where none has changed."""
    known = _arrow(cursor, "degraded")
    changed = _arrow(cursor, "changed", known=known)
    if not changed.num_rows:
        return None
    cursor.execute("DELETE FROM rollup_degraded")
    if known.num_rows:
        _use(cursor, "known", known=known)
    # Minutes whose raw rows have expired stay as they are. A clock may be a day ahead of an arrival.
    least = expired_before(cursor, "ping_sample")
    least = FAR_BACK if least is None else least + timedelta(days=1)
    regraded = _arrow(cursor, "regraded", changed=changed, after=0, upto=mark, least=least, most=FAR_AHEAD, **_WHENEVER)
    if not regraded.num_rows:
        return _arrow(cursor, "fragments", after=mark, upto=mark, **EVER, **_since({}))  # no rows
    times = regraded["bucket_at"].to_pylist()
    first, last = min(times), max(times)
    _use(cursor, "regraded_delete", regraded=regraded, least=first, most=last)
    return _arrow(cursor, "again", regraded=regraded, after=0, upto=mark, least=first, most=last + timedelta(minutes=1), **_WHENEVER)


def hour_steps(warehouse: Warehouse, *, now: datetime) -> Iterator[int]:
    """Make the hours that are over and touched, a few in each transaction; the rows added to rollup_hour at each step."""
    while True:
        with warehouse.transaction() as cursor:
            rows = cursor.execute(
                "SELECT hour_at FROM rollup_touched WHERE hour_at <= $over ORDER BY hour_at LIMIT $most",
                {"over": now - timedelta(hours=1) - _SETTLE, "most": _HOURS},
            ).fetchall()
            if not rows:
                return
            gone = expired_before(cursor, "rollup_minute")
            hours = [row[0] for row in rows]
            late = [hour for hour in hours if gone is not None and hour < gone]
            whole = [hour for hour in hours if hour not in late]
            added = 0
            for some, is_late in ((whole, False), (late, True)):
                if some:
                    added += _make_hours(cursor, some, is_late=is_late)
            _make_inference_hours(cursor, hours)
        yield added


def _make_hours(cursor: duckdb.DuckDBPyConnection, hours: list[datetime], *, is_late: bool) -> int:
    ready, span = _ready("hour_at", hours, timedelta(hours=1))
    made = _arrow(cursor, "hours", ready=ready, **span)
    if is_late:
        # The minutes of that time are gone and the hour was made of them: what came late adds to it, once, and goes.
        _use(cursor, "minutes_delete", ready=ready, **span)
    else:
        _use(cursor, "hours_delete", ready=ready, **span)
    if made.num_rows:
        _use(cursor, "hour", incoming=made)
    _use(cursor, "untouch", ready=ready)
    return int(made.num_rows)


def _make_inference_hours(cursor: duckdb.DuckDBPyConnection, hours: list[datetime]) -> None:
    """From the requests themselves, which are few and kept long; what is committed after the mark touches its hours by the next pass."""
    gone = expired_before(cursor, "inference")
    there = [hour for hour in hours if gone is None or hour >= gone + timedelta(days=1)]  # a clock may be a day ahead of an arrival
    if there:
        ready, span = _ready("hour_at", there, timedelta(hours=1))
        mark = _number(cursor, "SELECT snapshot_id FROM rollup_mark")
        _replace(cursor, "inference_hour", ready, span, _arrow(cursor, "inference_hours", ready=ready, upto=mark, **span))


def day_steps(warehouse: Warehouse, *, now: datetime) -> Iterator[int]:
    """Make the days that are over and touched of their hours, a few in each transaction; the rows added to rollup_day at each step."""
    while True:
        with warehouse.transaction() as cursor:
            over = {"over": now - timedelta(days=1) - _SETTLE, "most": _DAYS}
            days = [row[0] for row in cursor.execute(statement("rollup/ready_days"), over).fetchall()]
            if not days:
                return
            ready, span = _ready("day_at", days, timedelta(days=1))
            made = _arrow(cursor, "days", ready=ready, **span)
            _replace(cursor, "day", ready, span, made)
            _replace(cursor, "inference_day", ready, span, _arrow(cursor, "inference_days", ready=ready, **span))
            _use(cursor, "untouch_day", ready=ready)
        yield int(made.num_rows)


def _ready(column: str, times: list[datetime], length: timedelta) -> tuple[pa.Table, dict[str, object]]:
    """(a table of hours or days, the span they lie in)."""
    import pyarrow as pa

    table = pa.table({column: pa.array(times, pa.timestamp("us", tz="UTC"))})
    return table, {"least": times[0], "most": times[-1] + length}


def _replace(cursor: duckdb.DuckDBPyConnection, name: str, ready: pa.Table, span: dict[str, object], made: pa.Table) -> None:
    """Put what was made of hours or days where there was what was made of them before."""
    _use(cursor, f"{name}s_delete", ready=ready, **span)
    if made.num_rows:
        _use(cursor, name, incoming=made)


def expired_before(cursor: duckdb.DuckDBPyConnection, table: str) -> datetime | None:
    """Up to which time rows of a table were removed when their time was over; None when none ever was."""
    row = cursor.execute("SELECT max(before_at) FROM expiry WHERE table_name = $table", {"table": table}).fetchone()
    return None if row is None else row[0]


def _number(cursor: duckdb.DuckDBPyConnection, query: str) -> int:
    row = cursor.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _arrow(cursor: duckdb.DuckDBPyConnection, name: str, **values: object) -> pa.Table:
    with _Registered(cursor, values) as parameters:
        return cursor.execute(statement(f"rollup/{name}"), parameters or None).to_arrow_table()


def _use(cursor: duckdb.DuckDBPyConnection, name: str, **values: object) -> None:
    with _Registered(cursor, values) as parameters:
        cursor.execute(statement(f"rollup/{name}"), parameters or None)


class _Registered:
    """Arrow tables among the values are there under their names as long as the block lasts; it gives the others."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, values: dict[str, object]) -> None:
        self._cursor = cursor
        import pyarrow as pa

        self._tables = {name: value for name, value in values.items() if isinstance(value, pa.Table)}
        self._others = {name: value for name, value in values.items() if not isinstance(value, pa.Table)}

    def __enter__(self) -> dict[str, object]:
        for name, table in self._tables.items():
            self._cursor.register(name, table)
        return self._others

    def __exit__(self, *_: object) -> None:
        for name in self._tables:
            self._cursor.unregister(name)
