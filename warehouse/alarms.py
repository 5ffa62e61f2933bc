"""What alarms are made from, and where they are kept. The rules are elsewhere (the package `alarms`); rows go in and out here as they are.

Times are UTC; a change is one transaction, in which alarms are read, judged and written by one process at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from warehouse.asking import answer_rows, answer_table, reading
from warehouse.connect import Warehouse
from warehouse.faults import reported
from warehouse.rollup import FAR_AHEAD
from warehouse.statements import statement
from warehouse.store import with_incoming

__all__ = [
    "Cursor",
    "alarm_rows",
    "alarm_rows_of",
    "buckets",
    "changing",
    "due_notices",
    "history",
    "known_paths",
    "last_notices",
    "notices_of",
    "put_alarms",
    "put_notices",
    "put_silences",
    "reading",
    "reports",
    "rolled_at",
    "silence_rows",
    "traces",
]

Row = dict[str, Any]
Cursor = duckdb.DuckDBPyConnection
Place = Warehouse | Cursor

_TEXT, _REAL, _INT, _LIST = pa.string(), pa.float64(), pa.int64(), pa.list_(pa.string())
_AT = pa.timestamp("us", tz="UTC")
_ALARM = {
    **dict.fromkeys(("id", "key", "kind", "severity", "group_key", "group_title", "summary"), _TEXT),
    "sites": _LIST,
    **dict.fromkeys(("src", "dst", "medium", "agent", "probe_type", "workload"), _TEXT),
    **dict.fromkeys(("value", "baseline"), _REAL),
    "unit": _TEXT,
    **dict.fromkeys(("since_at", "opened_at", "last_seen_at", "updated_at", "closed_at"), _AT),
    "close_reason": _TEXT,
    "acknowledged_at": _AT,
    **dict.fromkeys(("acknowledged_by", "detail"), _TEXT),
}
_SILENCE = {
    "id": _TEXT,
    "until_at": _AT,
    "created_at": _AT,
    **dict.fromkeys(("created_by", "reason", "alarm_id", "kind", "site", "agent"), _TEXT),
}
_NOTICE = {
    **dict.fromkeys(("id", "receiver", "group_key", "status"), _TEXT),
    "alarm_ids": _LIST,
    "payload": _TEXT,
    "created_at": _AT,
    "attempt_count": _INT,
    **dict.fromkeys(("next_at", "sent_at", "failed_at"), _AT),
    "error": _TEXT,
}
#: That nobody is called; a list of names that is never empty.
_NOBODY = ("\ufffd",)


def buckets(wh: Place, *, since: datetime, until: datetime, width: timedelta, degraded: Collection[str] = ()) -> pa.Table:
    """Each link's time buckets of [since, until): src, dst, medium, slot, rtt_p50_ms, sent_count, lost_count; see the SQL."""
    names = tuple((name,) for name in sorted(degraded)) or (_NOBODY,)
    return answer_table(wh, "alarm_buckets", since=since, until=until, width=width, degraded=names)


def history(wh: Place, *, since: datetime, until: datetime) -> pa.Table:
    """As `buckets`, of whole minutes and from the roll-ups: cheap for hours, within 1 %."""
    return answer_table(wh, "alarm_history", since=since, until=until)


def rolled_at(wh: Place) -> datetime | None:
    """When the newest pass over the roll-ups was made; None: there was none."""
    at: datetime | None = answer_rows(wh, "alarm_rolled")[0]["rolled_at"]
    return at


def reports(wh: Place, *, since: datetime, until: datetime, width: timedelta) -> list[Row]:
    """Agents' reports that came in (since, until], the newest of each agent and `width`."""
    return answer_rows(wh, "alarm_reports", since=since, until=until, width=width)


def traces(wh: Place, *, since: datetime, until: datetime) -> list[Row]:
    """Traces to the end that came in (since, until]."""
    return answer_rows(wh, "alarm_traces", since=since, until=until)


def known_paths(wh: Place, *, since: datetime, until: datetime) -> list[Row]:
    """The ways taken by traces that came in (since, until], each once."""
    return answer_rows(wh, "alarm_paths", since=since, until=until)


def alarm_rows(wh: Place, *, closed_since: datetime = FAR_AHEAD) -> list[Row]:
    """The open alarms, and those closed after a time."""
    return answer_rows(wh, "alarms", since=closed_since)


def alarm_rows_of(wh: Place, ids: Collection[str]) -> list[Row]:
    """The alarms of some ids, open or not, as far as they are kept."""
    return answer_rows(wh, "alarms_of", ids=tuple((each,) for each in sorted(ids)) or (_NOBODY,))


def silence_rows(wh: Place, *, now: datetime) -> list[Row]:
    """The silences that still hold."""
    return answer_rows(wh, "alarm_silences", now=now)


def last_notices(wh: Place, *, since: datetime, hour: datetime) -> list[Row]:
    """What each receiver was last told of each cause, after `since`; recent_count: its notices after `hour`, of any cause."""
    return answer_rows(wh, "alarm_last_notices", since=since, hour=hour)


def due_notices(wh: Place) -> list[Row]:
    """What is still to be sent."""
    return answer_rows(wh, "alarm_due_notices")


def notices_of(wh: Place, alarm_id: str) -> list[Row]:
    """The notices that tell of an alarm."""
    return answer_rows(wh, "alarm_notices", id=alarm_id)


@contextlib.contextmanager
def changing(wh: Warehouse) -> Iterator[Cursor]:
    """One transaction to read alarms and change them in; no other evaluator has one meanwhile."""
    with wh.transaction() as cursor:
        yield cursor


def put_alarms(cursor: Cursor, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace alarms by their ids, or add them."""
    _put(cursor, "alarm", "take_out", _ALARM, rows)


def put_notices(cursor: Cursor, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace notices by their ids, or add them."""
    _put(cursor, "alarm_notice", "take_out_notice", _NOTICE, rows)


def put_silences(cursor: Cursor, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace silences by their ids, or add them."""
    _put(cursor, "alarm_silence", "take_out_silence", _SILENCE, rows)


def _put(cursor: Cursor, table: str, take_out: str, columns: Mapping[str, pa.DataType], rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    incoming = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in columns.items()})
    with reported():
        with_incoming(cursor, incoming, statement(f"alarms/{take_out}"))
        with_incoming(cursor, incoming, f"INSERT INTO {table} BY NAME SELECT * FROM incoming")  # noqa: S608 - the names are ours
