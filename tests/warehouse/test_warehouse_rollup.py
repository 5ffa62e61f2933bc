"""Roll-ups: what they add up to is what the raw rows say, whatever came late, whatever was killed."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from warehouse_builders import NOW, as_objects, batch, ping, put, report, request, visit

from app.cli import root
from records.histogram import RELATIVE_ERROR
from records.link import Grain, LinkEstimate
from warehouse import Warehouse, ingest, open_warehouse
from warehouse.grain import DAY, HOUR, MINUTE, floored, raised
from warehouse.maintain import tidy
from warehouse.queries import link_estimates, ping_series
from warehouse.rollup import minute_steps, rollup
from warehouse.store import store

ROOT = Path(__file__).parents[2]
LATER = NOW + timedelta(days=2)
_FILLED = ("ping_sample", "http", "inference", "agent_status", "batch", "rollup_minute", "rollup_hour", "rollup_touched", "rollup_degraded")
_FILLED += ("rollup_day", "rollup_touched_day", "rollup_inference", "rollup_inference_day")


def _all(wh: Warehouse, query: str) -> list[tuple[object, ...]]:
    with wh.cursor() as cursor:
        rows: list[tuple[object, ...]] = cursor.execute(query).fetchall()
        return rows


def _clean(wh: Warehouse) -> None:
    with wh.transaction() as cursor:
        for name in _FILLED:
            cursor.execute(f"DELETE FROM {name}")  # noqa: S608 - the names are ours


def test_values_that_no_sum_can_hold_stop_nothing(tmp_path: Path) -> None:
    """Of a warehouse that took them once: the sum is the largest there is, everybody else's minutes, hours and days are made."""
    with open_warehouse(tmp_path / "kept", mode="write") as wh:
        put(wh, ping(1, [1000, 1000, 1000]), ping(2, [2000, 3000], dst="iad"))
        with wh.transaction() as cursor:
            cursor.execute("UPDATE ping_sample SET rtt_ns = 9223372036854775807 WHERE dst = 'fra'")
        rollup(wh, now=LATER)
        for table in ("rollup_minute", "rollup_hour", "rollup_day"):
            assert _all(wh, f"SELECT dst, reply_count, sum_ns FROM {table} ORDER BY dst") == [  # noqa: S608 - names from above
                ("fra", 3, 9223372036854775807),
                ("iad", 2, 5000),
            ]


#: Every roll-up's sums against the raw rows', by hand: an EXCEPT in both directions.
_RAW = """
    SELECT 'ping', src, dst, medium, is_degraded_agent, {unit}(sent_at), count(*) FILTER (outcome <> 'send_failed'),
        count(*) FILTER (outcome IN ('timeout', 'unreachable')), count(rtt_ns), min(rtt_ns), max(rtt_ns), sum(rtt_ns)::BIGINT, max(sent_at)
    FROM marked_ping WHERE NOT is_from_future AND NOT is_duplicate_id GROUP BY ALL
    UNION ALL
    SELECT 'http', src, dst, medium, is_degraded_agent, {unit}(started_at), count(*), NULL, count(tcp_rtt_ns), min(tcp_rtt_ns),
        max(tcp_rtt_ns), sum(tcp_rtt_ns)::BIGINT, max(started_at)
    FROM marked_http WHERE NOT is_from_future AND NOT is_duplicate_id GROUP BY ALL
    UNION ALL
    SELECT 'inference', src, dst, medium, is_degraded_agent, {unit}(started_at), count(*), NULL, count(ttft_ns), min(ttft_ns), max(ttft_ns),
        sum(ttft_ns)::BIGINT, max(started_at)
    FROM marked_inference WHERE NOT is_from_future AND NOT is_duplicate_id GROUP BY ALL
"""
_ROLLED = """
    SELECT probe_type, src, dst, medium, is_degraded_agent, bucket_at, sum(sent_count)::BIGINT, sum(lost_count)::BIGINT,
        sum(reply_count)::BIGINT, min(min_ns), max(max_ns), sum(sum_ns)::BIGINT, max(newest_at)
    FROM {table} GROUP BY ALL
"""


def _agree(wh: Warehouse) -> None:
    for table, unit in (("rollup_minute", "minute_of"), ("rollup_hour", "hour_of"), ("rollup_day", "day_of")):
        raw, rolled = _RAW.format(unit=unit), _ROLLED.format(table=table)
        assert _all(wh, f"({raw}) EXCEPT ({rolled})") == []
        assert _all(wh, f"({rolled}) EXCEPT ({raw})") == []
        wrong = f"SELECT count(*) FROM {table} WHERE reply_count <> coalesce(list_sum([b.n FOR b IN buckets]), 0)"  # noqa: S608
        assert _all(wh, wrong) == [(0,)]


def _within(got: float | None, exact: float | None) -> bool:
    """Within the stated error of the exact value; half a nanosecond is for rounding to whole ones."""
    if got is None or exact is None:
        return got is exact
    return abs(got - exact) <= RELATIVE_ERROR * exact + 0.5


def _same_links(rolled: Sequence[LinkEstimate], raw: Sequence[LinkEstimate]) -> None:
    assert [link.key for link in rolled] == [link.key for link in raw]
    for a, b in zip(rolled, raw, strict=True):
        assert (a.rtt_min_ns, a.loss_ratio, a.sample_count, a.age_s, a.gate, a.rtt_from) == (
            (b.rtt_min_ns, b.loss_ratio, b.sample_count, b.age_s, b.gate, b.rtt_from)
        )
        assert a.histogram == b.histogram
        for name in ("rtt_p50_ns", "rtt_p95_ns", "rtt_p99_ns"):
            assert _within(getattr(a, name), getattr(b, name)), (name, a, b)


def _same_series(wh: Warehouse, dst: str, grain: Grain, step: timedelta, start: datetime, count: int) -> None:
    span = {"start": start, "end": start + count * step, "bucket_count": count}
    exact = ping_series(wh, "sin", dst, "internet", **span, grain="raw")
    series = ping_series(wh, "sin", dst, "internet", **span, grain=grain)
    assert set(series["grain"].to_pylist()) == {grain}
    for name in ("bucket_at", "sent", "lost", "min_ms", "max_ms"):
        assert series[name].to_pylist() == exact[name].to_pylist(), name
    for name in ("p5_ms", "p25_ms", "p50_ms", "p75_ms", "p95_ms"):
        pairs = zip(series[name].to_pylist(), exact[name].to_pylist(), strict=True)
        assert all(_within(a and a * 1e6, b and b * 1e6) for a, b in pairs), name


#: RTTs of one link's packets, None: lost; every link has its own distribution.
_RTTS = st.lists(st.one_of(st.none(), st.integers(1, 10**10), st.integers(10**6, 10**8)), min_size=1, max_size=50)


@settings(deadline=None, max_examples=2)
@given(links=st.lists(_RTTS, min_size=20, max_size=30), late=st.integers(0, 20))
def test_percentiles_are_within_the_stated_error(shared: Warehouse, links: list[list[int | None]], late: int) -> None:
    """Counts, least and greatest are exact, any percentile of added-up buckets is within 1 % of the exact one, of any data."""
    _clean(shared)
    start = NOW - timedelta(hours=8)
    rounds = [
        ping(1000 * n + i, [rtt], at=start + timedelta(minutes=13 * i + n, seconds=n + 1), dst=f"d{n:02}")
        for n, rtts in enumerate(links)
        for i, rtt in enumerate(rtts)
    ]
    put(shared, *rounds[late:])
    rollup(shared, now=LATER)
    put(shared, *rounds[:late], ping(10**6, [5]))  # after the pass: not in the roll-ups, yet in every answer
    exact = link_estimates(shared, now=LATER, grain="raw")
    assert len(exact) == len(links) + 1
    for grain, step in (("minute", MINUTE), ("hour", HOUR), ("day", DAY)):
        _same_links(link_estimates(shared, now=LATER, grain=grain), exact)
        if grain != "day":  # whose buckets begin with the day
            _same_series(shared, "d07", grain, 6 * step, start, 4)


def test_roll_ups_say_what_the_raw_rows_say(shared: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever order rounds, late ones, grades, passes and maintenance come, each packet is in the roll-ups once, where it belongs."""
    _clean(shared)
    chance = random.Random(11)
    events = ["rollup", "tidy", "degraded", "degraded", "ok", "visit", "request", "twice"] * 2
    chance.shuffle(events)
    for number, event in enumerate(events):
        at = NOW - timedelta(minutes=chance.randrange(300), seconds=number + 1)
        round_ = ping(number, [chance.choice([None, chance.randint(1, 10**9)]) for _ in range(4)], at=at, dst=chance.choice(["fra", "nrt"]))
        put(shared, round_)
        if event == "rollup":
            rollup(shared, now=LATER, max_rows=9)
        elif event == "tidy":
            tidy(shared)
        elif event == "visit":
            put(shared, visit(1000 + number, chance.choice([None, 10**6 + number]), at=at, dst="lhr"))
        elif event == "request":
            put(shared, request(2000 + number, chance.choice([None, 10**7 + number]), at=at))
        elif event == "twice":
            put(shared, round_)
        else:
            put(shared, report(at + timedelta(minutes=30), grade=event))
    monkeypatch.setattr(ingest, "MAX_AHEAD_NS", 1 << 60)
    put(shared, ping(5000, [1000], at=NOW + timedelta(days=2)))  # from the future, as none comes in any more: in no answer
    rollup(shared, now=LATER, max_rows=20)
    assert _all(shared, "SELECT count(DISTINCT is_degraded_agent) FROM rollup_minute") == [(2,)]
    _agree(shared)
    before = shared.snapshot_id()
    assert rollup(shared, now=LATER) == {"rollup_minute": 0, "rollup_hour": 0, "rollup_day": 0}
    assert shared.snapshot_id() == before
    exact = link_estimates(shared, now=NOW, window=timedelta(hours=4), grain="raw")
    for grain in ("minute", "hour", "day"):
        rolled = link_estimates(shared, now=NOW, window=timedelta(hours=4), grain=grain)
        _same_links(rolled, exact)
        assert as_objects(shared, window=timedelta(hours=4), grain=grain) == rolled
        if grain != "day":
            _same_series(shared, "nrt", grain, HOUR, NOW - 6 * HOUR, 7)


def test_a_window_of_few_packets_is_read_raw(shared: Warehouse) -> None:
    """Without being told, small windows are answered exactly, after a pass too."""
    _clean(shared)
    put(shared, ping(1, [12_345_678, 23_456_789]))
    rollup(shared, now=LATER)
    (link,) = link_estimates(shared, now=NOW)
    assert (link.grain, link.rtt_p50_ns) == ("raw", 12_345_678)
    assert set(ping_series(shared, "sin", "fra", "internet", start=NOW - 5 * HOUR, end=NOW, bucket_count=5)["grain"].to_pylist()) == {"raw"}


def test_large_windows_are_read_from_roll_ups(shared: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a window holds many packets its length decides: a short one by minutes, a long one by hours, narrow buckets by raw rows."""
    _clean(shared)
    monkeypatch.setattr("warehouse.queries.PAIR_RAW_ROWS", 0)
    monkeypatch.setattr("warehouse.queries.RAW_ROWS", 0)
    put(shared, ping(1, [1_000_000], at=NOW - timedelta(hours=4, minutes=10)), ping(2, [3_000_000]))
    rollup(shared, now=LATER)
    grains = {hours: {link.grain for link in link_estimates(shared, now=NOW, window=timedelta(hours=hours))} for hours in (1, 5, 7, 50)}
    assert grains == {1: {"minute"}, 5: {"minute"}, 7: {"hour"}, 50: {"day"}}
    for count, grain in ((5, "hour"), (100, "minute"), (1000, "raw")):
        series = ping_series(shared, "sin", "fra", "internet", start=NOW - 10 * HOUR, end=NOW, bucket_count=count)
        assert set(series["grain"].to_pylist()) == {grain}
        assert sum(series["sent"].to_pylist()) == 2


def test_links_say_what_they_are_made_of(own: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """`isochrone links --json` names the grain: raw of a small warehouse; of a large one by the window, and the answer is within 1 %."""
    now = floored(datetime.now(UTC), MINUTE)
    rtts = {5: 12_345_678, 100: 23_456_789, 600: 34_567_891, 5000: 45_678_912}
    put(own, *(ping(ago, [rtt, None], at=now - timedelta(minutes=ago)) for ago, rtt in rtts.items()), received_at=now)
    rollup(own, now=now + 2 * DAY)

    def links(window: str) -> dict[str, object]:
        asked = ["links", "--json", "--window", window, "--warehouse", str(own.location)]
        (link,) = json.loads(CliRunner().invoke(root, asked, standalone_mode=False, catch_exceptions=False).stdout)
        return dict(link)

    exact = {window: links(window) for window in ("1h", "3h", "24h", "7d")}
    assert [link["grain"] for link in exact.values()] == ["raw"] * 4
    assert [link["samples"] for link in exact.values()] == [1, 2, 3, 4]
    monkeypatch.setattr("warehouse.queries.RAW_ROWS", 0)
    for window, grain in (("1h", "minute"), ("3h", "minute"), ("24h", "hour"), ("7d", "day")):
        rolled, raw = links(window), exact[window]
        assert rolled["grain"] == grain
        assert all(rolled[name] == raw[name] for name in ("samples", "loss_ratio", "gate"))
        got, true = rolled["rtt_ms"], raw["rtt_ms"]
        assert isinstance(got, dict)
        assert isinstance(true, dict)
        assert got["min"] == true["min"]
        assert all(_within(got[name] * 1e6, true[name] * 1e6) for name in ("p50", "p95", "p99"))


_LOOP = """
import random, sys, time
from datetime import UTC, datetime, timedelta
sys.path.insert(0, "tests/warehouse")
from warehouse_builders import NOW, batch, ping, report
from warehouse import open_warehouse
from warehouse.maintain import tidy
from warehouse.rollup import rollup
from warehouse.store import store
wh = open_warehouse(sys.argv[1], mode="write")
random.seed(sys.argv[2])
print("ready", flush=True)
for n in range(int(sys.argv[2]) * 10_000, 10**9):
    lines = [ping(n, [random.randint(10**6, 10**8), None], at=NOW - timedelta(seconds=random.randint(0, 20_000)))]
    grade = random.choice(["ok", "ok", "degraded"])
    store(wh, [batch([*lines, report(NOW - timedelta(seconds=20_000 - n % 10_000), grade=grade)], sequence=n)])
    rollup(wh, now=NOW + timedelta(hours=3))
    if n % 3 == 0:
        tidy(wh)
    print(n, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_each_packet_is_rolled_up_once(tmp_path: Path, empty_warehouse: Path) -> None:
    """A process that stores, rolls up and tidies is killed again and again; then the roll-ups and the raw rows agree."""
    place = tmp_path / "kept"
    shutil.copytree(empty_warehouse, place)
    chance = random.Random(5)
    for number in range(3):
        process = subprocess.Popen([sys.executable, "-c", _LOOP, str(place), str(number)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(2):
            process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
    with open_warehouse(place, mode="write") as wh:
        assert _all(wh, "SELECT count(*) > 3 FROM ping_sample") == [(True,)]
        rollup(wh, now=LATER)
        _agree(wh)


def test_hours_are_made_once_they_are_over(shared: Warehouse) -> None:
    """The hour that goes on has no row yet; one that is over has, and gets a new one when something late comes."""
    _clean(shared)
    put(shared, ping(1, [1000], at=NOW + timedelta(minutes=2)), ping(2, [2000], at=NOW - timedelta(minutes=2)))
    assert rollup(shared, now=NOW + timedelta(minutes=6))["rollup_hour"] == 1
    assert _all(shared, "SELECT hour_at FROM rollup_touched") == [(NOW,)]
    put(shared, ping(3, [3000], at=NOW - timedelta(minutes=9)))
    assert rollup(shared, now=NOW + timedelta(minutes=7)) == {"rollup_minute": 1, "rollup_hour": 1, "rollup_day": 0}
    assert _all(shared, "SELECT bucket_at, sent_count, min_ns, max_ns FROM rollup_hour") == [(NOW - HOUR, 2, 2000, 3000)]


def test_floored_and_raised_are_multiples_since_1970() -> None:
    """A time on a multiple is its own floor and ceiling."""
    at = datetime(2026, 3, 1, 12, 0, 30, 1, tzinfo=UTC)
    assert floored(at, MINUTE) == datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert raised(at, HOUR) == datetime(2026, 3, 1, 13, 0, tzinfo=UTC)
    assert floored(NOW, HOUR) == raised(NOW, HOUR) == NOW


def test_a_commit_of_several_files_is_one_pass(own: Warehouse) -> None:
    """A commit with more rows than a pass reads, in files of two days, is rolled up whole, and passes come to an end."""
    days = [batch([ping(n, [1000, 2000], dst=dst)], received_at=NOW + timedelta(days=n)) for n, dst in enumerate(("fra", "ams"))]
    store(own, days)
    put(own, ping(5, [3000]))
    steps = list(itertools.islice(minute_steps(own, now=NOW, max_rows=1), 6))
    assert (len(steps), sum(steps)) == (2, 3)
