"""What the pages read, and the only place that keeps it.

Every value is kept under the DuckLake snapshot it came from and the arguments it was asked with: while nothing is
written a rerun costs nothing. Frozen records are shared between sessions without a copy. One connection per
process reads; nothing here writes.

A collector commits about once a second. The clock and the snapshot are therefore read in ticks of TICK_S: all pages and
all sessions inside a tick look at one snapshot and share what was computed from it, however many there are. A commit
shows, and an age is right, within that time, or as soon as that many links are read (app.current). What is long over
(QUIET_AFTER) is looked at once a minute.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from threading import Lock
from typing import Any

import streamlit as st

from app import answers, text
from app.current import Current
from app.identity import surplus
from app.output import DEFAULT_WAREHOUSE
from inventory.load import load
from records.errors import IsochroneError, WarehouseMissing
from records.link import LinkEstimate
from records.measurement import TracerouteResult
from records.place import Site
from records.units import ms
from routing import gates
from routing.answer import to_json
from routing.kernel import Form
from routing.matrix import Matrix, solve
from routing.request import Request
from routing.scenario import MatrixChange, compare_matrices
from routing.served import Failure, Serving
from warehouse import Warehouse, open_warehouse, queries, workbench
from warehouse.connect import catalog_of
from warehouse.moments import link_moments

__all__ = [
    "CURRENT",
    "SILENT_AFTER_S",
    "TICK_S",
    "Source",
    "age_s",
    "agents",
    "clock",
    "counts",
    "failure",
    "failure_effects",
    "first",
    "fresh",
    "inference",
    "inference_latest",
    "known",
    "links",
    "location",
    "newest",
    "of_minute",
    "opened",
    "path_history",
    "paths",
    "ping",
    "plan",
    "read_links",
    "rejects",
    "run_sql",
    "schema",
    "sites",
    "sites_of",
    "source",
    "throughput",
    "warehouse_sites",
]

log = logging.getLogger(__name__)

TICK_S = 5
QUIET_AFTER = timedelta(minutes=10)
#: Of so many ticks and windows links are kept, and of fewer where they are many (app.identity).
_LINKS_KEPT = 24
#: Of so many sources and windows the links are compared with those read before.
_WINDOWS_KEPT = 8
#: An agent that has said nothing for this long is shown as silent; it reports every few seconds.
SILENT_AFTER_S = 120.0
#: While somebody's SQL runs, all other sessions together may take so much more memory.
SESSIONS_SPARE_MB = 2048

Columns = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a page's numbers come from: a warehouse, one snapshot of it, and the tick of the clock in UTC."""

    location: str
    snapshot: int
    now: datetime

    @property
    def key(self) -> tuple[str, int]:
        """What a value that does not depend on the clock is kept under."""
        return (self.location, self.snapshot)


def location() -> str:
    """Where the measurements are kept, from ISOCHRONE_WAREHOUSE."""
    return os.environ.get("ISOCHRONE_WAREHOUSE") or DEFAULT_WAREHOUSE


def opened(place: str) -> Warehouse:
    """The warehouse at a place, opened once for the process, and anew when there is another catalog than before.

    Raises WarehouseMissing where there is none any more: what is open goes on without its files, and fails in words of its own.
    """
    return _opened(place, catalog_of(place))


@st.cache_resource(show_spinner=False, max_entries=4)
def _opened(place: str, _catalog: tuple[int, int] | None) -> Warehouse:
    return open_warehouse(place)


def source() -> Source | None:
    """The newest snapshot of the warehouse as of the last tick; None where there is no warehouse, yet or any more."""
    place = location()
    try:
        opened(place)
        return CURRENT.of(place)
    except WarehouseMissing:
        CURRENT.forget(place)
        return None


def fresh(at: Source) -> Source:
    """The newest source of a page that goes on looking. Raises WarehouseMissing where there is no warehouse any more."""
    opened(at.location)
    return source() or at


def _newest(place: str) -> Source:
    ticks = int(datetime.now(UTC).timestamp()) // TICK_S
    return Source(place, _snapshot(place, ticks), datetime.fromtimestamp(ticks * TICK_S, UTC))


#: What `source` gives; the server has it read ahead (app.current).
CURRENT = Current(_newest, tick_s=TICK_S)


def of_minute(at: Source, window: str) -> Source:
    """The source as somebody first saw it in this minute: what takes long to compute is computed once a minute, for all sessions.

    Where a later minute finds nothing else in the links of the window, it is that of before: nothing is computed again.
    """
    minute = _of_minute(at.location, int(at.now.timestamp()) // 60, at)
    found = links(minute, window)
    before = _settled.get((minute.key, window))
    if before is not None and before[1] is found:
        return before[0]
    with _lock:
        while len(_settled) >= _WINDOWS_KEPT:
            del _settled[next(iter(_settled))]
        _settled[minute.key, window] = (minute, found)
    return minute


#: What `of_minute` gave last, and its links, by source and window.
_settled: dict[tuple[tuple[str, int], str], tuple[Source, tuple[LinkEstimate, ...]]] = {}


@st.cache_resource(show_spinner=False, max_entries=8)
def _of_minute(place: str, minute: int, _at: Source) -> Source:  # noqa: ARG001 - what the answer is kept under
    return _at


@st.cache_data(show_spinner=False, max_entries=8)
def _snapshot(place: str, ticks: int) -> int:  # noqa: ARG001 - the tick is what the answer is kept under
    warehouse = opened(place)
    try:
        warehouse.shed()
    except IsochroneError:  # who asks next is told what is wrong
        log.debug("the warehouse could not be opened anew", exc_info=True)
    return warehouse.snapshot_id()


def clock(at: Source) -> datetime:
    """The clock that ages are told by: the tick, or the minute when nothing has been measured for long."""
    last = newest(at)
    return at.now if last is not None and at.now - last < QUIET_AFTER else at.now.replace(second=0)


def age_s(at: datetime) -> float:
    """Seconds since a moment, by the clock of now: what is shown may be of a source that was read a while ago (app.current)."""
    return max(0.0, (datetime.now(UTC) - at).total_seconds())


# ---- places


@st.cache_resource(show_spinner=False, max_entries=8)
def _warehouse_sites(key: tuple[str, int]) -> tuple[Site, ...]:
    return tuple(queries.sites(opened(key[0])))


def warehouse_sites(at: Source) -> tuple[Site, ...]:
    """The places the warehouse knows: those that measure or are measured."""
    return _warehouse_sites(at.key)


@st.cache_resource(show_spinner=False, max_entries=8)
def _sites(key: tuple[str, int]) -> dict[str, Site]:
    return load().sites | {site.id: site for site in _warehouse_sites(key)}


def sites(at: Source) -> dict[str, Site]:
    """Every place by id: the inventory's, and over them what the warehouse says."""
    return _sites(at.key)


def sites_of(key: tuple[str, int]) -> dict[str, Site]:
    """The same by `Source.key`."""
    return _sites(key)


# ---- links


@st.cache_resource(show_spinner="Reading links", max_entries=_LINKS_KEPT)
def _links(key: tuple[str, int], now: datetime, window: timedelta | None) -> tuple[LinkEstimate, ...]:
    at = Source(*key, now)
    oldest = None if window is None else max(gates.GatePolicy().max_age_s or 0.0, window.total_seconds())
    measured = queries.link_estimates(opened(key[0]), now=now, window=window)
    found = _same(key, window, tuple(gates.grade(measured, sites(at), gates.GatePolicy(max_age_s=oldest))))
    _make_room((key, now, window), len(found))
    return found


#: The links that were read last, by source and window.
_before: dict[tuple[tuple[str, int], timedelta | None], tuple[LinkEstimate, ...]] = {}
_lock = Lock()


def _same(key: tuple[str, int], window: timedelta | None, links: tuple[LinkEstimate, ...]) -> tuple[LinkEstimate, ...]:
    """The links of before where a later clock finds nothing else in them: what all sessions drew of them stays drawn (app.identity)."""
    before = _before.get((key, window))
    with _lock:
        _before.pop((key, window), None)
        _before[key, window] = links = links if before is None or before != links else before
        for oldest in list(_before)[: surplus([len(one) for one in _before.values()], _WINDOWS_KEPT)]:
            del _before[oldest]
    return links


#: How many links each entry of `_links` has, the oldest first.
_sizes: dict[tuple[tuple[str, int], datetime, timedelta | None], int] = {}


def _make_room(asked: tuple[tuple[str, int], datetime, timedelta | None], count: int) -> None:
    """Forget the oldest links, where all that are kept are too many."""
    with _lock:
        _sizes.pop(asked, None)
        _sizes[asked] = count
        gone = list(_sizes)[: surplus(list(_sizes.values()), _LINKS_KEPT)]
        for oldest in gone:
            del _sizes[oldest]
    for oldest in gone:
        _links.clear(*oldest)


def links(at: Source, window: str) -> tuple[LinkEstimate, ...]:
    """Every measured link of a window with its fibre floor, inflation and gate."""
    CURRENT.looked(at.location, window)
    return read_links(at, window)


def read_links(at: Source, window: str) -> tuple[LinkEstimate, ...]:
    """`links`, where nobody looks at them."""
    return _links(at.key, clock(at), text.window_of(window))


# ---- the state of things


@st.cache_data(show_spinner=False, max_entries=8)
def _counts(key: tuple[str, int]) -> dict[str, int]:
    return queries.measurement_counts(opened(key[0]))


def counts(at: Source) -> dict[str, int]:
    """How many measurements of each probe type there are."""
    return _counts(at.key)


@st.cache_data(show_spinner=False, max_entries=8)
def _time_range(key: tuple[str, int]) -> tuple[datetime, datetime] | None:
    return queries.time_range(opened(key[0]))


def first(at: Source) -> datetime | None:
    """When the oldest measurement was made, in UTC; None when there is none."""
    span = _time_range(at.key)
    return span[0] if span else None


def newest(at: Source) -> datetime | None:
    """When the newest measurement was made, in UTC; None when there is none."""
    span = _time_range(at.key)
    return span[1] if span else None


@st.cache_resource(show_spinner=False, max_entries=16)
def _agents(key: tuple[str, int], now: datetime) -> Columns:
    return _columns(queries.agents(opened(key[0]), now))


def agents(at: Source) -> Columns:
    """Every agent with its last status. Shared: nobody may change it."""
    return _agents(at.key, clock(at))


@st.cache_data(show_spinner=False, max_entries=8)
def _rejects(key: tuple[str, int]) -> dict[str, int]:
    return queries.reject_counts(opened(key[0]))


def rejects(at: Source) -> dict[str, int]:
    """How many rows were refused, by reason."""
    return _rejects(at.key)


# ---- one pair


@st.cache_data(show_spinner=False, max_entries=64)
def _ping(key: tuple[str, int], src: str, dst: str, medium: str, start: datetime, end: datetime, buckets: int) -> Columns:
    return _columns(queries.ping_series(opened(key[0]), src, dst, medium, start=start, end=end, bucket_count=buckets))


def ping(at: Source, src: str, dst: str, medium: str, start: datetime, end: datetime, buckets: int) -> Columns:
    """A pair's ping series in equal buckets; empty ones are there, with None."""
    return _ping(at.key, src, dst, medium, start, end, buckets)


@st.cache_data(show_spinner=False, max_entries=64)
def _throughput(key: tuple[str, int], src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    return _columns(queries.throughput_series(opened(key[0]), src, dst, medium, start=start, end=end))


def throughput(at: Source, src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    """A pair's throughput tests."""
    return _throughput(at.key, src, dst, medium, start, end)


@st.cache_data(show_spinner=False, max_entries=64)
def _inference(key: tuple[str, int], src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    return _columns(queries.inference_series(opened(key[0]), src, dst, medium, start=start, end=end))


def inference(at: Source, src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    """A pair's inference requests."""
    return _inference(at.key, src, dst, medium, start, end)


@st.cache_data(show_spinner=False, max_entries=16)
def _inference_latest(key: tuple[str, int], now: datetime, window: timedelta | None) -> Columns:
    return _columns(queries.inference_latest(opened(key[0]), now=now, window=window))


def inference_latest(at: Source, window: str) -> Columns:
    """Every pair that asked a model something, with its TTFT."""
    return _inference_latest(at.key, clock(at), text.window_of(window))


@st.cache_resource(show_spinner=False, max_entries=64)
def _paths(key: tuple[str, int], src: str, dst: str, medium: str | None) -> tuple[TracerouteResult, ...]:
    return tuple(queries.latest_paths(opened(key[0]), src, dst, medium))


def paths(at: Source, src: str, dst: str, medium: str | None) -> tuple[TracerouteResult, ...]:
    """The newest path of each flow of a pair."""
    return _paths(at.key, src, dst, medium)


@st.cache_data(show_spinner=False, max_entries=64)
def _path_history(key: tuple[str, int], src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    return _columns(queries.path_history(opened(key[0]), src, dst, medium, start, end))


def path_history(at: Source, src: str, dst: str, medium: str, start: datetime, end: datetime) -> Columns:
    """Every traceroute of a pair in a span of time."""
    return _path_history(at.key, src, dst, medium, start, end)


# ---- decisions


def known(at: Source, window: str) -> answers.Links:
    """The links of a window as the planner takes them."""
    return answers.Links(links(at, window), sites(at), at.snapshot, at.location)


@st.cache_data(show_spinner="Planning", max_entries=64)
def _plan(key: tuple[str, int], now: datetime, window: str, request: Request) -> dict[str, Any]:
    span = text.window_of(window)
    moments: answers.MomentsOf = lambda keys: link_moments(opened(key[0]), keys, now=now, window=span)  # noqa: E731
    return to_json(answers.route_answer(known(Source(*key, now), window), request, moments=moments))


def plan(at: Source, window: str, request: Request) -> dict[str, Any]:
    """The planner's answer, as `isochrone route --json` gives it."""
    return _plan(at.key, clock(at), window, request)


#: A server lives long: loading the compiled form pays with the second site that somebody fails.
_FORM: Form = "numba" if find_spec("numba") else "auto"


@st.cache_resource(show_spinner="Looking for the best way of every pair", max_entries=4)
def _matrix(key: tuple[str, int], now: datetime, window: str) -> Matrix:
    return solve(links(Source(*key, now), window), form=_FORM)


@st.cache_resource(show_spinner="Failing the site", max_entries=8)
def _changes(key: tuple[str, int], now: datetime, window: str, site: str) -> list[MatrixChange]:
    return compare_matrices(_matrix(key, now, window), solve(links(Source(*key, now), window), fail=[site], form=_FORM))


def failure(at: Source, window: str, site: str) -> tuple[Matrix, list[MatrixChange]]:
    """All pairs as they are, and what the loss of a site changes."""
    now = clock(at)
    return _matrix(at.key, now, window), _changes(at.key, now, window, site)


@st.cache_resource(show_spinner=False, max_entries=4)
def _serving(key: tuple[str, int], now: datetime, window: str) -> Serving:
    return answers.serving_of(known(Source(*key, now), window))


@st.cache_resource(show_spinner=False, max_entries=4)
def _failed(key: tuple[str, int], now: datetime, window: str, site: str) -> Failure:
    return Failure(site, _serving(key, now, window))


@st.cache_data(show_spinner="Planning before and after", max_entries=32)
def _failure_effects(key: tuple[str, int], now: datetime, window: str, site: str, workload: str) -> Columns:
    serving = _serving(key, now, window)
    places, asked = serving.world.sites, answers.workload_of(workload)
    sources = sorted({link.src for link in serving.world.links if link.src in places and places[link.src].kind == "pop"})
    failed = _failed(key, now, window, site)
    effects = {source: failed.effect(Request(source=source, workload=asked, k=1)) for source in sources}
    # What changed first, the worst of it before the rest: among hundreds of PoPs one row may be all that matters.
    order = list(reversed(text.STATE_TITLES))
    sources.sort(key=lambda name: (order.index(effects[name].state), -(effects[name].delta_ns or 0), name))
    found = [effects[source] for source in sources]
    return {
        "from": sources,
        "state": [text.STATE_TITLES[one.state] for one in found],
        "before": [None if one.before is None else one.before.sites[-1] for one in found],
        "after": [None if one.after is None else one.after.sites[-1] for one in found],
        "rehome": [one.rehome.dst if one.rehome else None for one in found],
        "before_ms": [None if one.before is None else ms(one.before.ttft_p50_ns) for one in found],
        "delta_ms": [ms(one.delta_ns) for one in found],
    }


def failure_effects(at: Source, window: str, site: str, workload: str) -> Columns:
    """Where the requests of every measuring PoP are served before and after the loss of a site."""
    return _failure_effects(at.key, clock(at), window, site, workload)


# ---- ad hoc


@st.cache_resource(show_spinner=False, max_entries=4)
def _schema(key: tuple[str, int]) -> Sequence[Any]:
    return tuple(workbench.schema(opened(key[0])))


def schema(at: Source) -> Sequence[Any]:
    """Tables and views with their columns and comments."""
    return _schema(at.key)


def run_sql(at: Source, query: str, *, row_limit: int, timeout_s: float) -> Any:
    """Run one statement of the user; never kept, because a query may ask for the time. Giant values do not end the server."""
    most_mb = workbench.MEMORY_MB
    with workbench.bounded_process(most_mb, spare_mb=SESSIONS_SPARE_MB):
        return workbench.run(opened(at.location), query, row_limit=row_limit, timeout_s=timeout_s, memory_mb=most_mb)


def _columns(table: Any) -> Columns:
    """An Arrow table as plain lists by column."""
    return dict(table.to_pydict())
