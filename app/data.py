"""What the pages read, and what all that they keep is kept by: sources, places, links, the state of things.

Of one pair: app.pair_data. What the planner makes of links: app.planned.

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
from records.place import Site
from routing import gates
from warehouse import Warehouse, open_warehouse, queries, workbench
from warehouse.connect import catalog_of

__all__ = [
    "CURRENT",
    "SILENT_AFTER_S",
    "TICK_S",
    "Source",
    "age_s",
    "agents",
    "clock",
    "columns_of",
    "counts",
    "first",
    "fresh",
    "inference_latest",
    "known",
    "links",
    "location",
    "newest",
    "of_minute",
    "opened",
    "read_links",
    "rejects",
    "run_sql",
    "schema",
    "sites",
    "sites_of",
    "source",
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


def known(at: Source, window: str) -> answers.Links:
    """The links of a window as the planner takes them."""
    return answers.Links(links(at, window), sites(at), at.snapshot, at.location)


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
    return columns_of(queries.agents(opened(key[0]), now))


def agents(at: Source) -> Columns:
    """Every agent with its last status. Shared: nobody may change it."""
    return _agents(at.key, clock(at))


@st.cache_data(show_spinner=False, max_entries=8)
def _rejects(key: tuple[str, int]) -> dict[str, int]:
    return queries.reject_counts(opened(key[0]))


def rejects(at: Source) -> dict[str, int]:
    """How many rows were refused, by reason."""
    return _rejects(at.key)


@st.cache_data(show_spinner=False, max_entries=16)
def _inference_latest(key: tuple[str, int], now: datetime, window: timedelta | None) -> Columns:
    return columns_of(queries.inference_latest(opened(key[0]), now=now, window=window))


def inference_latest(at: Source, window: str) -> Columns:
    """Every pair that asked a model something, with its TTFT."""
    return _inference_latest(at.key, clock(at), text.window_of(window))


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


def columns_of(table: Any) -> Columns:
    """An Arrow table as plain lists by column."""
    return dict(table.to_pydict())
