"""What is removed when its time is over, and only then: raw rows after they are in the roll-ups, minutes after their hours are made.

Whole days (raw, minutes) and whole months (hours, records) go at once, so that removing them drops files and rewrites none. What was
removed is recorded in `expiry`; questions that reach further back are answered from the next coarser roll-up (see warehouse.grain).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from records.errors import UserError
from warehouse.connect import Warehouse
from warehouse.statements import statement

__all__ = ["Expired", "Kept", "expire_steps", "kept", "set_kept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How long one kind of thing is kept; keep_days None: for ever."""

    name: str
    keep_days: int | None
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """What was removed of one table, or would be: rows of before `before_at`. waits: why it was left for later; None: it was not."""

    table: str
    before_at: datetime
    row_count: int
    waits: str | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: str
    table: str
    column: str
    by_month: bool


_RULES = (
    _Rule("raw", "ping_sample", "received_at", by_month=False),
    _Rule("raw", "http", "received_at", by_month=False),
    _Rule("minute", "rollup_minute", "bucket_at", by_month=False),
    *(_Rule("hour", name, "bucket_at", by_month=True) for name in ("rollup_hour", "rollup_inference")),
    *(_Rule("hour", name, "bucket_at", by_month=True) for name in ("rollup_day", "rollup_inference_day")),
    *(
        _Rule("records", name, "received_at", by_month=True)
        for name in ("traceroute", "throughput", "inference", "stamp", "serving", "agent_status", "reject", "batch")
    ),
    # NULL, of an alarm that is open and a notice that waits, is before no time.
    _Rule("records", "alarm", "closed_at", by_month=True),
    _Rule("records", "alarm_notice", "sent_at", by_month=True),
)
#: A kind must be kept at least as long as the one it is made of or points to.
_ORDER = (("raw", "minute"), ("minute", "hour"), ("raw", "records"))


def kept(warehouse: Warehouse) -> list[Kept]:
    """How long what is kept, by name."""
    with warehouse.cursor() as cursor:
        return _kept(cursor)


def _kept(cursor: duckdb.DuckDBPyConnection) -> list[Kept]:
    rows = cursor.execute(statement("care/retention")).fetchall()
    return [Kept(name=name, keep_days=days, meaning=meaning) for name, days, meaning in rows]


def set_kept(warehouse: Warehouse, new: Mapping[str, int | None]) -> list[Kept]:
    """Change how long kinds are kept (days, None: for ever); what is kept now.

    Raises UserError for an unknown kind, less than a day, or a kind kept shorter than one that rests on it.
    """
    with warehouse.transaction() as cursor:
        days = {kind.name: kind.keep_days for kind in _kept(cursor)}
        for name, keep in new.items():
            if name not in days:
                raise UserError(f"there is no retention {name!r}; there are {', '.join(days)}")
            if keep is not None and not 1 <= keep <= 36_500:
                raise UserError(f"{name}={keep}: keep it for 1 to 36500 days, or forever")
        days |= new
        for shorter, longer in _ORDER:
            least, most = days[shorter], days[longer]
            if most is not None and (least is None or least > most):
                text = "for ever" if least is None else f"for {least} days"
                raise UserError(f"{shorter} would be kept {text} and {longer} only for {most}; keep {longer} at least as long as {shorter}")
        for name, keep in new.items():
            cursor.execute(statement("care/retention_set"), {"name": name, "keep_days": keep})
        return _kept(cursor)


def expire_steps(warehouse: Warehouse, *, now: datetime, dry_run: bool = False) -> Iterator[Expired]:
    """Remove what is over, a table and transaction at each step; dry_run only says what would be removed."""
    days = {kind.name: kind.keep_days for kind in kept(warehouse)}
    for rule in _RULES:
        keep = days[rule.kind]
        if keep is None:
            continue
        before = _cut(now - timedelta(days=keep), by_month=rule.by_month)
        if dry_run:
            with warehouse.cursor() as cursor:
                yield _expire(cursor, rule, before, now, dry_run=True)
        else:
            with warehouse.transaction() as cursor:
                done = _expire(cursor, rule, before, now, dry_run=False)
            yield done


def _expire(cursor: duckdb.DuckDBPyConnection, rule: _Rule, before: datetime, now: datetime, *, dry_run: bool) -> Expired:
    where = f"FROM {rule.table} WHERE {rule.column} < $before_at"  # the names are those of the rules
    count = _count(cursor, f"SELECT count(*) {where}", before)
    waits = _waits(cursor, rule, before) if count else None
    if count and waits is None and not dry_run:
        cursor.execute(f"DELETE {where}", {"before_at": before})
        parameters = {"table_name": rule.table, "before_at": before, "row_count": count, "expired_at": now}
        cursor.execute(statement("care/expired"), parameters)
        # Days of arrival go whole: what is counted of them goes with them.
        counted = {"table_name": rule.table, "before_at": before}
        cursor.execute("DELETE FROM measurement_count WHERE table_name = $table_name AND day_at < $before_at", counted)
    return Expired(table=rule.table, before_at=before, row_count=count, waits=waits)


def _waits(cursor: duckdb.DuckDBPyConnection, rule: _Rule, before: datetime) -> str | None:
    if rule.table in {"ping_sample", "http", "inference"} and _count(cursor, statement("care/unrolled"), before):
        return "not all of it is in the roll-ups yet"
    unmade = "SELECT count(*) FROM rollup_touched WHERE hour_at < $before_at"
    if rule.table in {"rollup_minute", "inference"} and _count(cursor, unmade, before):
        return "not all of its hours are made yet"
    return None


def _count(cursor: duckdb.DuckDBPyConnection, query: str, before: datetime) -> int:
    row = cursor.execute(query, {"before_at": before}).fetchone()
    assert row is not None
    return int(row[0])


def _cut(at: datetime, *, by_month: bool) -> datetime:
    """The start of the UTC day, or month, that a time is in."""
    at = at.astimezone(UTC)
    return datetime(at.year, at.month, 1 if by_month else at.day, tzinfo=UTC)
