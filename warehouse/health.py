"""Questions about the measuring itself: how the agents fare, when nothing was measured, how it was timed, what has changed.

As warehouse.queries: each looks at one snapshot and gives an Arrow table; times are UTC, quantities carry their unit.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import duckdb
import pyarrow as pa

from records.link import Grain
from records.measurement import TracerouteResult
from warehouse.arrived import arrived
from warehouse.asking import answer_rows, answer_table, check_parameters, reading, traceroute_of
from warehouse.connect import Warehouse
from warehouse.grain import HOUR, floored, raised, rolled_up_to
from warehouse.queries import requests_table
from warehouse.rollup import FAR_BACK

__all__ = ["agent_reports", "inference_pools", "link_changes", "path_at", "path_changes", "sent_by_time", "timing_sources"]

#: Minutes, or hours, that a link must have been measured in to be compared.
_LEAST = 5
#: From this many hours on, rolled up, a day is compared by its hours: it holds sixty times as many minutes.
_HOURS_FROM = timedelta(hours=6)


def agent_reports(wh: Warehouse, *, since: datetime, until: datetime, agent: str | None = None) -> pa.Table:
    """What the agents (or one) reported in (since, until]: reported_at, agent, site, grade, spool_bytes, skipped_rounds,
    dropped_measurements, loop_lag_p99_ms, clock_error_ms.
    """
    return answer_table(wh, "agent_reports", since=since, until=until, agent=agent)


def sent_by_time(wh: Warehouse, *, since: datetime, until: datetime, bucket_count: int) -> pa.Table:
    """Probe packets by source and bucket of [since, until): src, slot (0 .. bucket_count - 1), sent. Buckets without any are left out.

    Buckets narrower than a minute show the minutes' packets at their start. Whole hours from a whole hour on are read from the hours.
    """
    check_parameters({"since": since, "until": until})
    width = max(timedelta(microseconds=1), (until - since) / bucket_count)
    with reading(wh) as cursor:
        mark = rolled_up_to(cursor)
        came = arrived(cursor, mark, ("ping_sample",))
        span = {"since": since, "until": until, "width": width, "mark": mark, "ping_sample_arrived": came.get("ping_sample", until)}
        without = {"ping_sample"} - came.keys()
        if width % HOUR or floored(since, HOUR) != since:
            return answer_table(cursor, "sent_by_time", without, **span)
        touched = _touched(_touched_hours(cursor, since, until))
        return answer_table(cursor, "sent_by_hours", without, **span, **touched)


def _touched_hours(cursor: duckdb.DuckDBPyConnection, since: datetime, until: datetime) -> list[datetime]:
    """The hours of [since, until) that are to be made anew."""
    return [hour for (hour,) in cursor.execute("SELECT hour_at FROM rollup_touched").fetchall() if since <= hour < until]


def _touched(hours: Collection[datetime]) -> dict[str, datetime]:
    """The span of hours that are to be made anew; an empty one where there are none."""
    return {"touched_from": min(hours, default=FAR_BACK), "touched_until": max(hours) + HOUR if hours else FAR_BACK}


def timing_sources(wh: Warehouse, *, since: datetime, until: datetime) -> pa.Table:
    """How the answered packets of (since, until] were timed: agent, ts_source, n."""
    return answer_table(wh, "timing_sources", since=since, until=until)


def inference_pools(wh: Warehouse, *, since: datetime, until: datetime, grain: Grain | None = None) -> pa.Table:
    """Serving by (src, dst, medium, model, connection): the TTFT's parts, tokens, errors; see sql/queries/inference_pools.sql. `grain` as
    in queries.inference_latest.
    """
    return requests_table(wh, "inference_pools", since=since, until=until, grain=grain)


def link_changes(
    wh: Warehouse, *, now: datetime, span: timedelta = timedelta(hours=1), before: timedelta = timedelta(hours=24)
) -> pa.Table:
    """Links of the last `span` against the `before` that precedes it: src, dst, medium, was_ms, now_ms, change_ms, was_mad_ms, was_loss,
    now_loss, now_minutes, was_minutes, was_hours; the greatest change first. Only links with five minutes or more now, and five minutes
    before, or five hours where six hours or more of before are rolled up: then was_ms and was_mad_ms are of the hours' means and
    was_minutes is NULL, else they are of the minutes' and was_hours is.
    """
    check_parameters({"now": now})
    since = now - span
    hour_from, hour_until = raised(since - before, HOUR), floored(since, HOUR)
    with reading(wh) as cursor:
        first = answer_rows(cursor, "hours_from", since=hour_from, until=hour_until)[0]["first_at"] if hour_from < hour_until else None
        if first is None or hour_until - first < _HOURS_FROM:
            return answer_table(cursor, "link_changes", before=since - before, since=since, until=now, least=_LEAST)
        touched = _touched_hours(cursor, first, hour_until)
        return answer_table(
            cursor,
            "link_changes_hours",
            (),
            since=since,
            until=now,
            hour_from=hour_from,
            hour_until=hour_until,
            least=_LEAST,
            **_touched(touched),
        )


def path_changes(wh: Warehouse, *, since: datetime, until: datetime) -> pa.Table:
    """Pairs whose flows took more than one path in (since, until]: src, dst, medium, changes, last_at; the most first."""
    return answer_table(wh, "path_changes", since=since, until=until)


def path_at(wh: Warehouse, src: str, dst: str, medium: str, flow: int, at: datetime) -> TracerouteResult | None:
    """The trace of a flow that began at a time, to the microsecond; None when there is none."""
    found = answer_rows(wh, "path_at", src=src, dst=dst, medium=medium, flow=flow, at=at)
    return traceroute_of(found[0]) if found else None
