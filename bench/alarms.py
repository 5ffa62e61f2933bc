"""What the alarms of a fleet cost a minute, how often they are wrong on real series, and how soon they are right.

5,000 links of 350 PoPs and 240 regions, five packets a link and minute: an evaluation of the newest minute, beside what reads its four
hours of baseline anew each time.
Then the detector of RTT shifts over the real series of ../shared/data, if they are there: series in any order
(no shift is in them), and steps put into them.

    python bench/alarms.py [--json] [--links N]
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from alarms.settings import Settings
from alarms.shift import RttSeries, ShiftRules, false_alarms_per_day
from alarms.watch import Watch
from warehouse import Warehouse, open_warehouse

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REAL = Path(__file__).parents[2] / "shared" / "data" / "ibm-latency" / "ibm_vpc_interregion_weekly.csv"
#: 350 PoPs, 240 regions; i tells links apart.
_NAMES = "'p' || lpad((i % 350)::VARCHAR, 3, '0') AS src, 'aws:r' || lpad((i // 350 * 7 % 240)::VARCHAR, 3, '0') AS dst"
_HISTORY = f"""
INSERT INTO rollup_minute BY NAME
SELECT
    src, dst, 'internet' AS medium, 'ping' AS probe_type, false AS is_degraded_agent, bucket_at,
    5 AS sent_count, 0 AS lost_count, 5 AS reply_count, ns AS min_ns, ns AS max_ns, 5 * ns AS sum_ns, bucket_at AS newest_at,
    [{{'bucket': rtt_bucket(ns), 'n': 4::BIGINT}}, {{'bucket': rtt_bucket(ns) + 1, 'n': 1::BIGINT}}] AS buckets
FROM (
    SELECT {_NAMES}, bucket_at, (40e6 + i * 1e4 + hash(i, bucket_at) % 1000000)::BIGINT AS ns
    FROM range($links) AS t (i), (SELECT $start::TIMESTAMPTZ + to_minutes(m::INTEGER) AS bucket_at FROM range(240) AS u (m))
)
"""  # noqa: S608 - all of it is here
_PACKETS = f"""
INSERT INTO ping_sample BY NAME
SELECT
    'm' || i AS measurement_id, 'p' || i % 350 AS agent, 'b' AS boot, {_NAMES}, 'internet' AS medium, '192.0.2.1' AS target,
    'bench/1' AS engine, 'icmp' AS method, $at::TIMESTAMPTZ AS started_at, k AS sequence, k = 0 AS is_round_start,
    $at::TIMESTAMPTZ + to_seconds(k) AS sent_at, 'reply' AS outcome, (40e6 + i * 1e4 + hash(i, k) % 1000000)::BIGINT AS rtt_ns,
    'kernel_txrx' AS ts_source, 0 AS duplicates, false AS late, 1000000000 AS timeout_ns, 56 AS payload_bytes,
    'b' AS batch_boot, 0 AS batch_sequence, $at::TIMESTAMPTZ + INTERVAL 30 SECOND AS received_at, false AS is_duplicate_id
FROM range($links) AS t (i), range(5) AS u (k)
"""  # noqa: S608 - all of it is here


def _fill(wh: Warehouse, links: int) -> None:
    """Four hours by the minute, rolled up."""
    with wh.transaction() as cursor:
        cursor.execute(_HISTORY, {"start": NOW - timedelta(minutes=240), "links": links})
        cursor.execute("UPDATE rollup_mark SET rolled_at = $now", {"now": NOW + timedelta(minutes=3)})


def _minute(wh: Warehouse, links: int, at: datetime) -> None:
    with wh.transaction() as cursor:
        cursor.execute(_PACKETS, {"at": at, "links": links})


def _cost(links: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, open_warehouse(Path(folder) / "kept", mode="write") as wh:
        _fill(wh, links)
        watch = Watch(wh, Settings(), NOW)
        first = watch.step(NOW + timedelta(seconds=30))
        steps, anew = [], []
        for n in range(1, 6):
            _minute(wh, links, NOW + (n - 1) * timedelta(minutes=1))
            now = NOW + n * timedelta(minutes=1) + timedelta(seconds=30)
            cpu = time.process_time()
            found = watch.step(now)
            steps.append((found.seconds, time.process_time() - cpu))
            assert found.link_count == links
            if n <= 2:
                anew.append(Watch(wh, Settings(), NOW, replay=timedelta(minutes=1)).step(now).seconds)
    return {
        "first_s": first.seconds,
        "minute_s": statistics.median(wall for wall, _ in steps),
        "minute_cpu_s": statistics.median(cpu for _, cpu in steps),
        "anew_s": statistics.median(anew),
    }


def _real() -> dict[str, Any] | None:
    if not REAL.exists():
        return None
    series: dict[tuple[str, str], list[float]] = defaultdict(list)
    with REAL.open() as file:
        for row in sorted(csv.DictReader(file), key=lambda row: row["window_end"]):
            series[row["src"], row["dst"]].append(float(row["avg_rtt_ms"]))
    chance, rules = random.Random(1), ShiftRules()
    alarms = judged = 0
    for values in series.values():
        detector = RttSeries(ShiftRules(settle=6))
        for n in range(1440 * 3):  # three days of each: its values in any order
            was_on = detector.level is not None
            judged += not detector.is_learning and not was_on
            detector.observe(NOW + n * timedelta(minutes=1), chance.choice(values) + chance.uniform(-0.5, 0.5))
            alarms += detector.level is not None and not was_on
    power: dict[str, dict[str, float]] = {}
    for step in (3.0, 5.0, 10.0, 20.0, 50.0):
        delays = []
        for values in series.values():
            middle = statistics.median(values)
            calm = [value for value in values if abs(value - middle) <= 0.05 * middle]
            detector = RttSeries(rules)
            for _ in range(250):
                detector.observe(NOW, chance.choice(calm))
            delay = 0
            while detector.level is None and delay < 60:
                delay += 1
                detector.observe(NOW, chance.choice(calm) + step)
            delays.append(delay if detector.level is not None else None)
        found = [delay for delay in delays if delay is not None]
        power[f"{step:g}_ms"] = {"found_share": len(found) / len(delays), "median_minutes": statistics.median(found) if found else 0.0}
    return {
        "shuffled_series_days": judged / 1440,
        "shuffled_false_alarms": alarms,
        "stated_per_series_day": false_alarms_per_day(window=rules.window, run=rules.run, per_day=1440),
        "power": power,
    }


def main() -> None:
    """Measure, and say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--links", type=int, default=5000)
    options = parser.parse_args()
    cost, real = _cost(options.links), _real()
    document = {
        "claim": f"alarms over {options.links} links cost under a second a minute",
        "ours": {"minute_s": cost["minute_s"], "minute_cpu_s": cost["minute_cpu_s"], "first_s": cost["first_s"], "real_series": real},
        "others": {"read_anew": {"minute_s": cost["anew_s"]}},
        "ratio": {"read_anew": cost["anew_s"] / cost["minute_s"]},
        "machine": {"python": platform.python_version(), "system": platform.platform()},
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    minute_s, cpu_s, first_s = cost["minute_s"], cost["minute_cpu_s"], cost["first_s"]
    print(f"{options.links} links: {minute_s:.2f} s a minute ({cpu_s:.2f} s of processors), {first_s:.1f} s the first time;")
    print(f"reading four hours anew each time: {cost['anew_s']:.2f} s, {document['ratio']['read_anew']:.1f} times as long")
    if real is None:
        print("no real series here: no figures of false alarms and power")
        return
    days, wrong = real["shuffled_series_days"], real["shuffled_false_alarms"]
    stated = real["stated_per_series_day"]
    print(f"real values in any order: {wrong} false alarms in {days:.0f} days of a link; stated {stated:.2g} a day at most")
    for step, found in real["power"].items():
        print(f"a step of {step.replace('_', ' ')}: found in {found['found_share']:.0%}, at minute {found['median_minutes']:g}")


if __name__ == "__main__":
    main()
