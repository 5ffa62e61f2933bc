"""How much there is is counted once, and a day before is compared by its hours: both must say what the raw rows say."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from warehouse_builders import NOW, ping, put, request, trace, visit

from warehouse import Warehouse
from warehouse.health import link_changes, sent_by_time
from warehouse.queries import measurement_counts
from warehouse.retention import expire_steps
from warehouse.rollup import rollup
from warehouse.statements import folder

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def _counted(wh: Warehouse) -> dict[str, int]:
    """Row by row."""
    with wh.cursor() as cursor:
        found = {"ping": cursor.execute("SELECT count(*) FROM ping_sample WHERE is_round_start AND NOT is_duplicate_id").fetchall()[0][0]}
        for name in ("traceroute", "throughput", "inference", "http", "stamp", "serving"):
            found[name] = cursor.execute(f"SELECT count(*) FROM {name} WHERE NOT is_duplicate_id").fetchall()[0][0]  # noqa: S608
    return found | {"rtt_matrix": 0}


def test_counts_are_those_of_the_rows(own: Warehouse) -> None:
    """Before a pass, after it, after more of the same day, ids that come twice, and after raw rows have expired."""
    old = NOW - 40 * DAY
    put(own, ping(1, [10, 20, None], at=old), visit(2, 9, at=old), trace(3, at=old), received_at=old)
    assert measurement_counts(own) == _counted(own)
    rollup(own, now=NOW)
    assert measurement_counts(own) == _counted(own)
    put(own, ping(1, [10, 20, None], at=old), ping(4, [7]), request(5, 800), trace(6))  # the first is a repetition
    assert measurement_counts(own) == _counted(own)
    rollup(own, now=NOW)
    put(own, ping(7, [7]), received_at=NOW + timedelta(seconds=1))
    rollup(own, now=NOW)
    rollup(own, now=NOW)
    assert measurement_counts(own) == _counted(own)
    assert (measurement_counts(own)["ping"], measurement_counts(own)["http"]) == (3, 1)
    with own.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM measurement_count").fetchall() == [(6,)]  # three tables, two days
    list(expire_steps(own, now=NOW))
    assert measurement_counts(own) == _counted(own)
    assert (measurement_counts(own)["ping"], measurement_counts(own)["http"], measurement_counts(own)["traceroute"]) == (2, 0, 2)


def test_a_day_is_compared_by_its_hours(own: Warehouse) -> None:
    """Hours of 8, 10, 12, ... ms before, minutes of 30 ms now; a late packet in one of the hours counts too."""
    rounds = [ping(n, [(8 + 2 * n) * 1_000_000] * 2, at=NOW - (10 - n) * HOUR) for n in range(9)]  # 8 to 24 ms, hours 2 to 10
    now = [ping(20 + n, [30_000_000, None], at=NOW - timedelta(minutes=n + 1)) for n in range(6)]
    put(own, *rounds, *now)
    rollup(own, now=NOW)
    # Two of 8 ms and one of 11 ms: the hour's mean is 9 ms.
    put(own, ping(40, [11_000_000], at=NOW - 10 * HOUR + timedelta(minutes=30)))
    rollup(own, now=NOW - 12 * HOUR)  # the minutes, not yet the hour
    # The same day by buckets of two hours: from hours, and from minutes a second beside them.
    since = NOW - 12 * HOUR
    by_hour = sent_by_time(own, since=since, until=NOW, bucket_count=6).to_pylist()
    by_minute = sent_by_time(own, since=since - timedelta(seconds=1), until=NOW - timedelta(seconds=1), bucket_count=6).to_pylist()
    assert [(row["slot"], row["sent"]) for row in by_hour] == [(1, 5), (2, 4), (3, 4), (4, 4), (5, 14)]
    assert by_hour == by_minute
    (row,) = link_changes(own, now=NOW).to_pylist()
    assert (row["was_hours"], row["was_minutes"], row["now_minutes"]) == (9, None, 6)
    assert row["was_ms"] == pytest.approx(16)  # the median of 9, 10, 12, ..., 24
    assert row["was_mad_ms"] == pytest.approx(4)  # of 7, 6, 4, 2, 0, 2, 4, 6, 8
    assert (row["now_ms"], row["change_ms"], row["was_loss"], row["now_loss"]) == (pytest.approx(30), pytest.approx(14), 0.0, 0.5)


def test_migrations_have_numbers_of_their_own() -> None:
    """In order; two of one number would be applied by their names. (Two that are out bear 014.)"""
    names = [name for name, _ in folder("schema")]
    numbers = [int(re.match(r"\d{3}_", name)[0][:3]) for name in names if name != "014_traceroute_error"]  # type: ignore[index]
    assert numbers == sorted(set(numbers))
