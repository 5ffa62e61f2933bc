"""Roll-ups of inference requests: what they add up to is what the requests say, whatever came late, whenever a pass was made."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from warehouse_builders import NOW, put, report, request

from records.histogram import RELATIVE_ERROR
from warehouse import Warehouse
from warehouse.grain import DAY, HOUR
from warehouse.health import inference_pools
from warehouse.maintain import tidy
from warehouse.queries import inference_latest
from warehouse.rollup import rollup

LATER = NOW + DAY
_EXACT = ("src", "dst", "medium", "model", "connection", "count", "errors", "output_tokens", "unstreamed", "last_at")


def _same(rolled: pa.Table, exact: pa.Table) -> None:
    """Counts and times are the same, quantiles within the stated error; 1 ns is for those that are 0."""
    assert set(exact["grain"].to_pylist()) == {"raw"}
    assert rolled.column_names == exact.column_names
    assert rolled.num_rows == exact.num_rows > 0
    for name in exact.column_names:
        pairs = list(zip(rolled[name].to_pylist(), exact[name].to_pylist(), strict=True))
        if name in _EXACT:
            assert all(got == true for got, true in pairs), (name, pairs)
        elif name != "grain":
            assert all((got is None) is (true is None) for got, true in pairs), (name, pairs)
            assert all(got is None or abs(got - true) <= RELATIVE_ERROR * true + 1e-6 for got, true in pairs), (name, pairs)


def _agree(wh: Warehouse, window: timedelta | None) -> None:
    """Each question over a window, by hours and by days, against the requests themselves."""
    exact = inference_latest(wh, now=NOW, window=window, grain="raw")
    since = NOW - (window or 400 * DAY)
    pools = inference_pools(wh, since=since, until=NOW, grain="raw")
    for grain in ("hour", "day"):
        rolled = inference_latest(wh, now=NOW, window=window, grain=grain)
        assert set(rolled["grain"].to_pylist()) == {grain}
        _same(rolled, exact)
        _same(inference_pools(wh, since=since, until=NOW, grain=grain), pools)


def _requests(chance: random.Random, first: int, count: int) -> list[Any]:
    """Requests of the last four days, some refused, some of unknown network, some whose answer was held back."""
    made = []
    for n in range(first, first + count):
        at = NOW - timedelta(seconds=chance.randrange(1, 4 * 86_400), microseconds=n)
        ttft = chance.choice([None, chance.randrange(10**6, 10**9)])
        gaps = [chance.randrange(10**6, 10**8) for _ in range(chance.randrange(5))]
        known = {
            "tcp_ns": chance.choice([None, 10**6 + n]),
            "tcp_rtt_ns": chance.choice([None, chance.randrange(10**6, 2 * 10**9)]),
            "output_tokens": chance.choice([None, n % 50]),
            "is_streamed": chance.choice([None, True, False]),
            "connection": chance.choice(["cold", "warm"]),
            "dst": chance.choice(["fra", "nrt"]),
        }
        made.append(request(n, ttft, gaps if ttft else [], at=at, **known))
    return made


@pytest.mark.slow
def test_requests_rolled_up_are_those_that_came(shared: Warehouse) -> None:
    """Requests before and after a pass, in hours made and made again, twice sent, and of an agent whose grade is told later."""
    chance = random.Random(3)
    first, late, newest = _requests(chance, 0, 90), _requests(chance, 100, 40), _requests(chance, 200, 40)
    windows = (None, timedelta(hours=50, minutes=17), 20 * HOUR)
    put(shared, *first)
    rollup(shared, now=LATER)
    put(shared, *late, first[0])
    for window in windows:  # hours made, and requests that no pass has seen
        _agree(shared, window)
    rollup(shared, now=NOW - DAY)  # their hours of the last day touched, not made; the days before made again
    tidy(shared)
    put(shared, *newest)
    for window in windows:
        _agree(shared, window)
    before = inference_latest(shared, now=NOW, grain="raw")["count"].to_pylist()
    rollup(shared, now=LATER)
    for window in windows:
        _agree(shared, window)
    assert inference_latest(shared, now=NOW, grain="day")["count"].to_pylist() == before
    # A grade counts from the next pass on, and then of what was rolled up before, too.
    put(shared, report(NOW - 2 * DAY, grade="degraded"), report(NOW - DAY))
    rollup(shared, now=LATER)
    for window in windows:
        _agree(shared, window)
    assert inference_latest(shared, now=NOW, grain="day")["count"].to_pylist() < before
    assert rollup(shared, now=LATER) == {"rollup_minute": 0, "rollup_hour": 0, "rollup_day": 0}


def test_a_window_without_a_whole_hour_is_read_raw(shared: Warehouse) -> None:
    """Whatever is asked for."""
    put(shared, request(10_000, 10**8, at=NOW - timedelta(minutes=30)))
    rollup(shared, now=LATER)
    assert set(inference_latest(shared, now=NOW, window=timedelta(minutes=50), grain="day")["grain"].to_pylist()) == {"raw"}
