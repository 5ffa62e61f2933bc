"""What the alarms of a fleet cost a minute. How often they are wrong, and what they find, is in bench/alarm_rates.py.

5,000 links of 350 PoPs and 240 regions, five packets a link and minute: an evaluation of the newest minute, beside what reads its four
hours of baseline anew each time.

    python bench/alarms.py [--json] [--links N]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from alarms.settings import Settings
from alarms.watch import Watch
from warehouse import Warehouse, open_warehouse

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
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


def main() -> None:
    """Measure, and say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--links", type=int, default=5000)
    options = parser.parse_args()
    cost = _cost(options.links)
    document: dict[str, Any] = {
        "claim": f"alarms over {options.links} links cost under a second a minute",
        "ours": {"minute_s": cost["minute_s"], "minute_cpu_s": cost["minute_cpu_s"], "first_s": cost["first_s"]},
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


if __name__ == "__main__":
    main()
