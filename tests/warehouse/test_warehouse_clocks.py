"""An agent's clock and the collector's that are an hour apart: nothing is lost by it, and times come out right."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from collector_process import running
from hypothesis import given
from hypothesis import strategies as st
from warehouse_builders import ping, post, report, stamped, trace

from records.batch import HEADER_CLOCK_SET, HEADER_SENT_AT, Line
from records.units import SECOND
from warehouse import open_warehouse
from warehouse.clocks import MAX_AHEAD_NS, MAX_BEHIND_NS, redating_ns
from warehouse.refusal import Refusal

HOUR = 3600 * SECOND
NOW_NS = 1_790_000_000 * SECOND


def said(sent_at_ns: int | None = None, clock_set_ns: int | None = None) -> dict[str, str]:
    """Headers of an agent's request."""
    found = {HEADER_SENT_AT: sent_at_ns, HEADER_CLOCK_SET: clock_set_ns}
    return {name: str(value) for name, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("headers", "moved_ns"),
    [
        ({}, 0),
        (said(clock_set_ns=-HOUR), 0),
        (said(NOW_NS), 0),
        (said(NOW_NS - HOUR), 0),
        (said(NOW_NS + MAX_AHEAD_NS), 0),
        (said(NOW_NS, -HOUR), -HOUR),
        (said(NOW_NS, -MAX_AHEAD_NS), 0),
        (said(NOW_NS, -MAX_AHEAD_NS - 1), -MAX_AHEAD_NS - 1),
        (said(NOW_NS + MAX_AHEAD_NS, -2 * SECOND), -2 * SECOND),
        (said(NOW_NS - HOUR, -HOUR), 0),
        (said(NOW_NS, HOUR), 0),
        (said(NOW_NS, -(10**19) + 1), -(1 << 62)),
        (said(NOW_NS, NOW_NS), NOW_NS),
        (said(NOW_NS, MAX_BEHIND_NS), 0),
        (said(NOW_NS - MAX_BEHIND_NS), 0),
        ({HEADER_SENT_AT: "yesterday"}, 0),
    ],
    ids=str,
)
def test_lines_move_back_where_a_clock_far_ahead_was_set_back(headers: dict[str, str], moved_ns: int) -> None:
    """Or forward one that was years behind; else they stay: of a clock that is behind, was set forward, was less ahead, or says nothing."""
    assert redating_ns(headers, NOW_NS) == moved_ns


@given(ahead_ns=st.integers(MAX_AHEAD_NS + 1, 10**18), clock_set_ns=st.none() | st.integers(-(10**18), 10**18))
def test_while_the_clock_is_far_ahead_nothing_is_taken(ahead_ns: int, clock_set_ns: int | None) -> None:
    """Whatever it was set by."""
    with pytest.raises(Refusal) as refused:
        redating_ns(said(NOW_NS + ahead_ns, clock_set_ns), NOW_NS)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (425, "10")
    assert f"is {ahead_ns // SECOND} s ahead" in refused.value.detail


@given(behind_ns=st.integers(MAX_BEHIND_NS + 1, NOW_NS))
def test_nor_while_it_is_years_behind(behind_ns: int) -> None:
    """A board without a battery, before its clock was ever set."""
    with pytest.raises(Refusal, match=r"behind the collector's, and at most 400 days are taken") as refused:
        redating_ns(said(NOW_NS - behind_ns), NOW_NS)
    assert refused.value.status == 425


def test_an_agent_whose_clock_was_an_hour_ahead(tmp_path: Path) -> None:
    """Refused while it is; afterwards stored an hour earlier than it was dated, in bulk and line by line, and the batch says so."""
    truly = (datetime.now(UTC) - timedelta(seconds=30)).replace(microsecond=123_457)
    dated = truly + timedelta(hours=1)
    lines: list[Line] = [
        *(ping(n, [1000, None], at=dated) for n in range(40)),
        trace(50, at=dated),
        stamped(51, [5], at=dated),
        report(dated),
    ]
    with running(tmp_path / "kept", tmp_path / "c.sock", '{"commit_interval_s": 0.05}') as process, process.client() as client:

        def send(ahead_ns: int, clock_set_ns: int | None = None) -> Any:
            parts = post(lines)
            parts["headers"] |= said(time.time_ns() + ahead_ns, clock_set_ns)
            return client.post(**parts)

        for _ in range(3):
            early = send(HOUR)
            assert (early.status_code, early.json()["code"]) == (425, "clock_off")
        taken = send(0, -HOUR)
        assert (taken.status_code, taken.json()) == (200, {"stored": 43, "rejected": 0, "already": False})
        again = send(0, -HOUR)
        assert again.json()["already"] is True
        metrics = client.get("/metrics").text
        assert 'isochrone_batches_total{outcome="clock_off"} 3' in metrics
        err = process.stop()
    assert err.count("is 3600 s ahead") + err.count("is 3599 s ahead") == 1, err
    with open_warehouse(tmp_path / "kept") as wh, wh.cursor() as cursor:
        asked = "SELECT DISTINCT epoch_us({}) FROM {}"
        expected = [(int(truly.timestamp()) * 1_000_000 + 123_457,)]
        for column, table in (
            ("started_at", "ping_sample"),
            ("started_at", "traceroute"),
            ("started_at", "stamp"),
            ("reported_at", "agent_status"),
        ):
            assert cursor.execute(asked.format(column, table)).fetchall() == expected
        first = cursor.execute("SELECT min(epoch_us(sent_at)), count(*) FROM ping_sample").fetchone()
        assert first == (*expected[0], 80)
        assert cursor.execute("SELECT redated_ns, rejected_count FROM batch").fetchall() == [(-HOUR, 0)]


def test_an_agent_that_says_nothing_is_judged_line_by_line(tmp_path: Path) -> None:
    """As one of an older version: what is dated ahead is kept as a reject with the reason."""
    now = datetime.now(UTC)
    with running(tmp_path / "kept", tmp_path / "c.sock", '{"commit_interval_s": 0.05}') as process, process.client() as client:
        answer = client.post(**post([ping(1, [1], at=now + timedelta(hours=1)), ping(2, [1], at=now)]))
        assert (answer.status_code, answer.json()) == (200, {"stored": 1, "rejected": 1, "already": False})
    with open_warehouse(tmp_path / "kept") as wh, wh.cursor() as cursor:
        assert cursor.execute("SELECT reason FROM reject").fetchall() == [("from_the_future",)]
        assert cursor.execute("SELECT redated_ns FROM batch").fetchall() == [(None,)]


def test_the_answers_are_in_the_description() -> None:
    """425 and both headers, for programs."""
    described = json.loads((Path(__file__).parents[2] / "warehouse" / "openapi.json").read_text())["paths"]["/api/v1/batches"]["post"]
    assert "425" in described["responses"]
    assert {HEADER_SENT_AT, HEADER_CLOCK_SET} <= {each["name"] for each in described["parameters"]}
