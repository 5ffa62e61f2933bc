"""Questions about the measuring itself: how the agents fare, when nothing was measured, how it was timed, what has changed.

As warehouse.queries: each looks at one snapshot and gives an Arrow table; times are UTC, quantities carry their unit.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa

from records.measurement import TracerouteResult
from warehouse.connect import Warehouse
from warehouse.queries import _check, _rows, _table, _traceroute, reading

__all__ = ["agent_reports", "inference_pools", "link_changes", "path_at", "path_changes", "sent_by_time", "timing_sources"]


def agent_reports(wh: Warehouse, *, since: datetime, until: datetime, agent: str | None = None) -> pa.Table:
    """What the agents (or one) reported in (since, until]: reported_at, agent, site, grade, spool_bytes, skipped_rounds,
    dropped_measurements, loop_lag_p99_ms, clock_error_ms.
    """
    return _table(wh, "agent_reports", since=since, until=until, agent=agent)


def sent_by_time(wh: Warehouse, *, since: datetime, until: datetime, bucket_count: int) -> pa.Table:
    """Probe packets by source and bucket of [since, until): src, slot (0 .. bucket_count - 1), sent. Buckets without any are left out.

    Buckets narrower than a minute show the minutes' packets at their start.
    """
    _check({"since": since, "until": until})
    width = max(timedelta(microseconds=1), (until - since) / bucket_count)
    with reading(wh) as cursor:
        mark = int(_rows(cursor, "rollup_state")[0]["mark"])
        return _table(cursor, "sent_by_time", since=since, until=until, width=width, mark=mark)


def timing_sources(wh: Warehouse, *, since: datetime, until: datetime) -> pa.Table:
    """How the answered packets of (since, until] were timed: agent, ts_source, n."""
    return _table(wh, "timing_sources", since=since, until=until)


def inference_pools(wh: Warehouse, *, since: datetime, until: datetime) -> pa.Table:
    """Serving by (src, dst, medium, model, connection): the TTFT's parts, tokens, errors; see sql/queries/inference_pools.sql."""
    return _table(wh, "inference_pools", since=since, until=until)


def link_changes(
    wh: Warehouse, *, now: datetime, span: timedelta = timedelta(hours=1), before: timedelta = timedelta(hours=24)
) -> pa.Table:
    """Links of the last `span` against the `before` that precedes it: src, dst, medium, was_ms, now_ms, change_ms, was_mad_ms, was_loss,
    now_loss, now_minutes, was_minutes; the greatest change first. Only links with five minutes or more in both.
    """
    return _table(wh, "link_changes", before=now - span - before, since=now - span, until=now, least=5)


def path_changes(wh: Warehouse, *, since: datetime, until: datetime) -> pa.Table:
    """Pairs whose flows took more than one path in (since, until]: src, dst, medium, changes, last_at; the most first."""
    return _table(wh, "path_changes", since=since, until=until)


def path_at(wh: Warehouse, src: str, dst: str, medium: str, flow: int, at: datetime) -> TracerouteResult | None:
    """The trace of a flow that began at a time, to the microsecond; None when there is none."""
    found = _rows(wh, "path_at", src=src, dst=dst, medium=medium, flow=flow, at=at)
    return _traceroute(found[0]) if found else None
