"""What the pages about the measuring itself read, kept as in app.data."""

from __future__ import annotations

from datetime import datetime, timedelta

import streamlit as st

from app import data, text
from app.data import Columns, Source
from records.measurement import TracerouteResult
from warehouse import health, queries

__all__ = ["changes", "path_at", "path_changes", "pools", "rejected", "reports", "sent", "since_of", "timing"]

#: Packets are looked at one by one for no longer than this.
RAW_SPAN = timedelta(hours=1)
#: Minutes are kept for this long, and gaps looked for in no more.
GAP_SPAN = timedelta(days=7)
GAP_BUCKETS = 120
_HOUR = timedelta(hours=1)


def since_of(at: Source, window: str, most: timedelta | None = None) -> datetime:
    """Where a window begins, in UTC; not more than `most` ago, and not before the first measurement."""
    length = text.window_of(window)
    if most is not None:
        length = most if length is None else min(length, most)
    begin = data.first(at) or at.now
    return max(begin - timedelta(seconds=1), data.clock(at) - length) if length is not None else begin - timedelta(seconds=1)


@st.cache_data(show_spinner=False, max_entries=16)
def _reports(key: tuple[str, int], since: datetime, until: datetime, agent: str) -> Columns:
    return dict(health.agent_reports(data.opened(key[0]), since=since, until=until, agent=agent).to_pydict())


def reports(at: Source, window: str, agent: str) -> Columns:
    """What one agent reported of itself over the window, at most a week."""
    return _reports(at.key, since_of(at, window, GAP_SPAN), data.clock(at), agent)


@st.cache_data(show_spinner=False, max_entries=16)
def _sent(key: tuple[str, int], since: datetime, until: datetime) -> Columns:
    return dict(health.sent_by_time(data.opened(key[0]), since=since, until=until, bucket_count=GAP_BUCKETS).to_pydict())


def sent(at: Source, window: str) -> tuple[Columns, datetime, datetime]:
    """Probe packets by source and bucket (GAP_BUCKETS of them), and the span they are of."""
    since, until = since_of(at, window, GAP_SPAN), data.newest(at) or at.now
    # Buckets of whole minutes, for the counts come by the minute; of whole hours where they are that long: there are fewer of those.
    step = timedelta(minutes=max(1, -(-int((until - since).total_seconds()) // (60 * GAP_BUCKETS))))
    since = since.replace(second=0, microsecond=0)
    if step > _HOUR:
        step = -(-step // _HOUR) * _HOUR
        since = since.replace(minute=0)
    until = since + step * GAP_BUCKETS
    return _sent(at.key, since, until), since, until


@st.cache_data(show_spinner=False, max_entries=16)
def _timing(key: tuple[str, int], since: datetime, until: datetime) -> Columns:
    return dict(health.timing_sources(data.opened(key[0]), since=since, until=until).to_pydict())


def timing(at: Source, window: str) -> Columns:
    """How the newest packets were timed: those of the window's last hour at most."""
    newest = data.newest(at) or at.now
    return _timing(at.key, max(since_of(at, window), newest - RAW_SPAN), newest)


@st.cache_data(show_spinner=False, max_entries=16)
def _rejected(key: tuple[str, int]) -> Columns:
    return dict(queries.rejects(data.opened(key[0]), 200).to_pydict())


def rejected(at: Source) -> Columns:
    """The newest rows that were refused, 200 at most."""
    return _rejected(at.key)


@st.cache_data(show_spinner=False, max_entries=16)
def _pools(key: tuple[str, int], since: datetime, until: datetime) -> Columns:
    return dict(health.inference_pools(data.opened(key[0]), since=since, until=until).to_pydict())


def pools(at: Source, window: str) -> Columns:
    """Every asking site, serving site and model: the parts of the TTFT."""
    return _pools(at.key, since_of(at, window), data.clock(at) + timedelta(minutes=1))


@st.cache_resource(show_spinner=False, max_entries=8)
def _changes(key: tuple[str, int], now: datetime) -> Columns:
    return dict(health.link_changes(data.opened(key[0]), now=now).to_pydict())


def changes(at: Source) -> Columns:
    """Links of the last hour against the day before it, the greatest change first; empty before there is an hour of both. Shared."""
    return _changes(at.key, data.clock(at).replace(second=0))


@st.cache_resource(show_spinner=False, max_entries=8)
def _path_changes(key: tuple[str, int], until: datetime) -> Columns:
    return dict(health.path_changes(data.opened(key[0]), since=until - RAW_SPAN, until=until).to_pydict())


def path_changes(at: Source) -> Columns:
    """Pairs whose path changed in the last hour. Shared."""
    return _path_changes(at.key, data.clock(at).replace(second=0) + timedelta(minutes=1))


@st.cache_resource(show_spinner=False, max_entries=64)
def _path_at(key: tuple[str, int], src: str, dst: str, medium: str, flow: int, when: datetime) -> TracerouteResult | None:
    return health.path_at(data.opened(key[0]), src, dst, medium, flow, when)


def path_at(at: Source, src: str, dst: str, medium: str, flow: int, when: datetime) -> TracerouteResult | None:
    """The trace of one flow that began at `when`."""
    return _path_at(at.key, src, dst, medium, flow, when)
