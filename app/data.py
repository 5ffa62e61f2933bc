"""What the pages read, and the only place that keeps it.

Every value is kept under the DuckLake snapshot it came from and the arguments it was asked with: while nothing is
written a rerun costs nothing. Frozen records are shared between sessions without a copy. One connection per
process reads; nothing here writes.

A collector commits about once a second. The clock and the snapshot are therefore read in ticks of TICK_S: all pages and
all sessions inside a tick look at one snapshot and share what was computed from it, however many there are. A commit
shows, and an age is right, within that time. What is long over (QUIET_AFTER) is looked at once a minute.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from app import answers, text
from app.output import DEFAULT_WAREHOUSE
from inventory.load import load
from records.errors import WarehouseMissing
from records.link import LinkEstimate
from records.measurement import TracerouteResult
from records.place import Site
from records.units import ms
from routing import gates
from routing.answer import Answer, to_json
from routing.matrix import MatrixRow
from routing.request import Request
from routing.scenario import FailSite, MatrixChange, Scenario, WhatIf, compare_matrix
from warehouse import Warehouse, open_warehouse, queries, workbench
from warehouse.moments import link_moments

__all__ = [
    "SILENT_AFTER_S",
    "TICK_S",
    "Source",
    "agents",
    "clock",
    "counts",
    "failure",
    "failure_effects",
    "first",
    "inference",
    "inference_latest",
    "known",
    "links",
    "location",
    "newest",
    "opened",
    "path_history",
    "paths",
    "ping",
    "plan",
    "rejects",
    "run_sql",
    "schema",
    "sites",
    "sites_of",
    "source",
    "throughput",
    "warehouse_sites",
]

TICK_S = 5
QUIET_AFTER = timedelta(minutes=10)
#: Of so many sources and windows the links are compared with those read before.
_WINDOWS_KEPT = 8
#: An agent that has said nothing for this long is shown as silent; it reports every few seconds.
SILENT_AFTER_S = 120.0

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


@st.cache_resource(show_spinner=False, max_entries=4)
def opened(place: str) -> Warehouse:
    """The warehouse at a place, opened once for the process."""
    return open_warehouse(place)


def source() -> Source | None:
    """The newest snapshot of the warehouse as of the last tick; None where there is no warehouse yet."""
    place = location()
    try:
        opened(place)
    except WarehouseMissing:
        return None
    ticks = int(datetime.now(UTC).timestamp()) // TICK_S
    return Source(place, _snapshot(place, ticks), datetime.fromtimestamp(ticks * TICK_S, UTC))


@st.cache_data(show_spinner=False, max_entries=8)
def _snapshot(place: str, ticks: int) -> int:  # noqa: ARG001 - the tick is what the answer is kept under
    return opened(place).snapshot_id()


def clock(at: Source) -> datetime:
    """The clock that ages are told by: the tick, or the minute when nothing has been measured for long."""
    last = newest(at)
    return at.now if last is not None and at.now - last < QUIET_AFTER else at.now.replace(second=0)


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


@st.cache_resource(show_spinner="Reading links", max_entries=24)
def _links(key: tuple[str, int], now: datetime, window: timedelta | None) -> tuple[LinkEstimate, ...]:
    at = Source(*key, now)
    oldest = None if window is None else max(gates.GatePolicy().max_age_s or 0.0, window.total_seconds())
    measured = queries.link_estimates(opened(key[0]), now=now, window=window)
    return _same(key, window, tuple(gates.grade(measured, sites(at), gates.GatePolicy(max_age_s=oldest))))


#: The links that were read last, by source and window.
_before: dict[tuple[tuple[str, int], timedelta | None], tuple[LinkEstimate, ...]] = {}


def _same(key: tuple[str, int], window: timedelta | None, links: tuple[LinkEstimate, ...]) -> tuple[LinkEstimate, ...]:
    """The links of before where a later clock finds nothing else in them: what all sessions drew of them stays drawn (app.identity)."""
    before = _before.get((key, window))
    if before == links:
        return before
    while len(_before) >= _WINDOWS_KEPT:
        _before.pop(next(iter(_before)), None)
    _before[key, window] = links
    return links


def links(at: Source, window: str) -> tuple[LinkEstimate, ...]:
    """Every measured link of a window with its fibre floor, inflation and gate."""
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


@st.cache_data(show_spinner=False, max_entries=16)
def _agents(key: tuple[str, int], now: datetime) -> Columns:
    return _columns(queries.agents(opened(key[0]), now))


def agents(at: Source) -> Columns:
    """Every agent with its last status."""
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


@st.cache_resource(show_spinner=False, max_entries=8)
def _matrix(key: tuple[str, int], now: datetime, window: str) -> list[MatrixRow]:
    return answers.matrix_rows(known(Source(*key, now), window))


@st.cache_resource(show_spinner="Failing the site", max_entries=32)
def _failure(key: tuple[str, int], now: datetime, window: str, site: str) -> tuple[list[MatrixRow], list[MatrixChange]]:
    world = known(Source(*key, now), window)
    before = _matrix(key, now, window)
    return before, compare_matrix(before, answers.matrix_rows(world, fail=[site]))


def failure(at: Source, window: str, site: str) -> tuple[list[MatrixRow], list[MatrixChange]]:
    """All pairs as they are, and what the loss of a site changes."""
    return _failure(at.key, clock(at), window, site)


@st.cache_data(show_spinner="Planning before and after", max_entries=32)
def _failure_effects(key: tuple[str, int], now: datetime, window: str, site: str, workload: str) -> Columns:
    world = known(Source(*key, now), window)
    scenario = Scenario(name=f"fail {site}", edits=(FailSite(site),))
    asked = answers.workload_of(workload)
    sources = sorted({link.src for link in world.links if link.src in world.sites and world.sites[link.src].kind == "pop"})
    requests = [Request(source=source, workload=asked, k=1) for source in sources]
    rows = list(zip(sources, answers.what_if_answers(world, scenario, requests), strict=True))
    return {
        "from": [source for source, _ in rows],
        "state": [_state(result) for _, result in rows],
        "before": [_served_at(result.before) for _, result in rows],
        "after": [_served_at(result.after) for _, result in rows],
        "rehome": [result.rehome.dst if result.rehome else None for _, result in rows],
        "before_ms": [ms(_ttft_ns(result.before)) for _, result in rows],
        "delta_ms": [ms(result.delta.ttft_p50_ns) if result.delta else None for _, result in rows],
    }


def _state(result: WhatIf) -> str:
    if result.delta is None or result.delta.lost:
        return "✕ lost"
    if result.rehome is not None:
        return "⌂ re-homed"
    if result.delta.moved:
        return "↷ moved"
    return "unchanged" if not result.delta.ttft_p50_ns else "↝ other way"


def _served_at(answer: Answer | None) -> str | None:
    return answer.routes[0].sites[-1] if answer is not None and answer.routes else None


def _ttft_ns(answer: Answer | None) -> float | None:
    return answer.routes[0].ttft.p50_ns if answer is not None and answer.routes and answer.routes[0].ttft is not None else None


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
    """Run one statement of the user; never kept, because a query may ask for the time."""
    return workbench.run(opened(at.location), query, row_limit=row_limit, timeout_s=timeout_s)


def _columns(table: Any) -> Columns:
    """An Arrow table as plain lists by column."""
    found: Mapping[str, list[Any]] = table.to_pydict()
    return dict(found)
