"""Benchmark: how long the dashboard's questions take on a large warehouse, beside plain DuckDB tables and plain Parquet files.

A seeded generator makes probe packets of every ordered pair of sites, one each `--every` seconds, with a lognormal queue on top of the
pair's own RTT and 0.2 % loss, an hour to a commit, as many hours as give `--rows`. The warehouse rolls them up. The same rows lie in a
DuckDB file (one table, in the order of time as they came) and in Parquet files by day. Each question is asked `--repeat` times of each,
in processes' one thread pool of two; the medians are compared. The others answer the links and the series exactly from raw rows in
the SQL one would write for them; counts and percentiles of ours are checked against theirs (percentiles within 1 %).

    python bench/queries.py [--rows 50000000] [--sites 50] [--repeat 5] [--folder DIR] [--json]

Needs about 60 bytes of disk a row, three copies and the roll-ups together.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from warehouse import Warehouse, open_warehouse, queries
from warehouse.maintain import status, tidy
from warehouse.rollup import rollup

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TARGET_MS = 300.0

#: One hour's packets: $hour_at, $sites, $every, $seed. Hashes of pair and packet make the numbers, the same on any machine.
PACKETS = """
INSERT INTO ping_sample BY NAME
WITH pair AS (
    SELECT a.i * $sites + b.i AS pair, format('p{:03d}', a.i) AS src, format('p{:03d}', b.i) AS dst,
        2e6 + 250e6 * (hash(least(a.i, b.i), greatest(a.i, b.i), $seed) % 1000000) / 1e6 AS base_ns
    FROM range($sites) AS a (i), range($sites) AS b (i) WHERE a.i <> b.i
),
packet AS (
    SELECT pair.*, n.i AS n, hash(pair, n.i, $hour, $seed) AS h, (hash(n.i, pair, $hour, $seed + 1) % 1000000) / 1e6 AS u
    FROM pair, range(3600 // $every) AS n (i)
),
timed AS (
    SELECT *, make_timestamptz(CAST($hour_us + n * $every * 1000000 + h % 1000000 AS BIGINT)) AS sent_at, h % 500 = 0 AS is_lost FROM packet
)
SELECT
    format('{:016x}-{}', pair, $hour * 3600 + n) AS measurement_id, src || '-1' AS agent, format('{:016x}', pair) AS boot, src, dst,
    'internet' AS medium, '192.0.2.1' AS target, 'bench/1' AS engine, 'icmp' AS method, sent_at AS started_at, 0 AS sequence,
    true AS is_round_start, sent_at, if(is_lost, 'timeout', 'reply') AS outcome,
    CASE WHEN NOT is_lost THEN CAST(base_ns + exp(11 + 2 * u + sin(h % 1000)) AS BIGINT) END AS rtt_ns,
    CASE WHEN NOT is_lost THEN 'kernel_txrx' END AS ts_source, 1000 AS sched_lag_ns, CASE WHEN NOT is_lost THEN 57 END AS reply_ttl,
    0 AS duplicates, false AS late, 2000000000 AS timeout_ns, 56 AS payload_bytes, 'b' AS batch_boot, $hour AS batch_sequence,
    make_timestamptz(epoch_us(sent_at) + 2000000) AS received_at, false AS is_duplicate_id
FROM timed
"""

LINKS = """
SELECT src, dst, medium, min(rtt_ns), quantile_disc(rtt_ns, [0.50, 0.95, 0.99]), count(*) FILTER (outcome <> 'send_failed'),
    count(*) FILTER (outcome IN ('timeout', 'unreachable')), count(rtt_ns), max(sent_at)
FROM packets WHERE sent_at > $since AND sent_at <= $now AND NOT is_duplicate_id
GROUP BY src, dst, medium ORDER BY src, dst, medium
"""
SERIES = """
SELECT epoch_us(sent_at - $since) * 300 // epoch_us($now - $since) AS bucket, count(*),
    count(*) FILTER (outcome IN ('timeout', 'unreachable')), min(rtt_ns), quantile_disc(rtt_ns, [0.05, 0.25, 0.50, 0.75, 0.95]), max(rtt_ns)
FROM packets
WHERE src = 'p001' AND dst = 'p002' AND medium = 'internet' AND sent_at >= $since AND sent_at < $now AND NOT is_duplicate_id
GROUP BY bucket ORDER BY bucket
"""
COUNTS = "SELECT count(*) FROM packets WHERE is_round_start AND NOT is_duplicate_id"
RANGE = "SELECT min(sent_at), max(sent_at) FROM packets"


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def fill(wh: Warehouse, *, rows: int, sites: int, every: int, seed: int) -> int:
    """Hours of packets until there are `rows`; how many hours."""
    hours = max(1, round(rows / (sites * (sites - 1) * (3600 // every))))
    began = time.perf_counter()
    for hour in range(hours):
        at = START + hour * HOUR
        values = {"sites": sites, "every": every, "seed": seed, "hour": hour, "hour_us": int(at.timestamp()) * 10**6}
        with wh.transaction() as cursor:
            cursor.execute(PACKETS, values)
        if hour % 24 == 23 or hour == hours - 1:
            say(f"{hour + 1} of {hours} hours stored, {time.perf_counter() - began:.0f} s")
    return hours


def asked(question: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """(median ms, answer); one more time before, to warm up."""
    answer = question()
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        answer = question()
        took.append(1e3 * (time.perf_counter() - began))
    return statistics.median(took), answer


def plain(connection: duckdb.DuckDBPyConnection, end: datetime, windows: dict[str, timedelta]) -> dict[str, Callable[[], Any]]:
    """The same questions to one table or view `packets`."""

    def ask(sql: str, **values: object) -> Callable[[], Any]:
        return lambda: connection.execute(sql, values or None).to_arrow_table()

    found = {f"links {name}": ask(LINKS, since=end - window, now=end) for name, window in windows.items()}
    found |= {f"series {name}": ask(SERIES, since=end - window, now=end) for name, window in windows.items()}
    return found | {"counts": ask(COUNTS), "time range": ask(RANGE)}


def ours(wh: Warehouse, end: datetime, windows: dict[str, timedelta]) -> dict[str, Callable[[], Any]]:
    """The dashboard's own functions."""
    pair = ("p001", "p002", "internet")
    found: dict[str, Callable[[], Any]] = {}
    for name, window in windows.items():
        found[f"links {name}"] = lambda window=window: queries.link_estimates(wh, now=end, window=window)
        found[f"series {name}"] = lambda window=window: queries.ping_series(wh, *pair, start=end - window, end=end, bucket_count=300)
    return found | {
        "counts": lambda: queries.measurement_counts(wh),
        "time range": lambda: queries.time_range(wh),
        "agents": lambda: queries.agents(wh, end),
        "inference": lambda: queries.inference_latest(wh, now=end),
        "throughput": lambda: queries.throughput_series(wh, *pair, start=START, end=end),
        "paths": lambda: queries.latest_paths(wh, *pair),
        "rejects": lambda: queries.reject_counts(wh),
    }


def agree(links: list[Any], exact: list[dict[str, Any]]) -> float:
    """The greatest relative error of a percentile; AssertionError when anything else differs."""
    worst = 0.0
    assert len(links) == len(exact)
    for link, row in zip(links, exact, strict=True):
        src, dst, medium, least, quantiles, _sent, _lost, replies, _newest = row.values()
        assert (link.src, link.dst, link.medium, link.rtt_min_ns, link.sample_count) == (src, dst, medium, least, replies)
        for got, true in zip((link.rtt_p50_ns, link.rtt_p95_ns, link.rtt_p99_ns), quantiles, strict=True):
            worst = max(worst, abs(got / true - 1))
    return worst


def main() -> None:
    """Fill, ask, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--sites", type=int, default=50)
    parser.add_argument("--every", type=int, default=10, help="seconds between two packets of a pair")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the data are made, kept and found again; without it a temporary folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="isochrone-bench-"))
    free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
    if free < 60 * options.rows:
        need = f"{options.rows} rows need about {60 * options.rows / 1e9:.0f} GB"
        sys.exit(f"{need} and {folder} has {free / 1e9:.0f}; give fewer --rows, or another --folder")
    try:
        report = run(folder, options)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print(report["claim"])
    for name, value in report["ours"]["median_ms"].items():
        others = "  ".join(
            f"{other} {found['median_ms'][name]:8.0f}" for other, found in report["others"].items() if name in found["median_ms"]
        )
        print(f"{name:14} {value:8.0f} ms  ({report['ours']['grain'].get(name, '-'):6})  {others}")


def copy(wh: Warehouse, folder: Path) -> None:
    """The same rows as a table of a DuckDB file and as Parquet files by day."""
    with wh.cursor() as cursor:
        cursor.execute(f"ATTACH '{folder / 'plain.duckdb'}' AS plain")
        cursor.execute("CREATE TABLE plain.packets AS FROM wh.ping_sample")
        by_day = "SELECT *, CAST(received_at AS DATE) AS day FROM wh.ping_sample"
        cursor.execute(f"COPY ({by_day}) TO '{folder / 'parquet'}' (FORMAT parquet, PARTITION_BY (day))")
        cursor.execute("DETACH plain")


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fill the three, ask all of them, and hold the answers against each other."""
    with open_warehouse(folder / "warehouse", mode="write") as wh:
        with wh.cursor() as cursor:
            cursor.execute("SET GLOBAL threads = 2")
        began = time.perf_counter()
        if not (folder / "hours").exists():
            hours = fill(wh, rows=options.rows, sites=options.sites, every=options.every, seed=options.seed)
            (folder / "hours").write_text(f"{hours} {time.perf_counter() - began}")
        hours, filled_s = (float(part) for part in (folder / "hours").read_text().split())
        end = START + hours * HOUR
        began = time.perf_counter()
        rolled = rollup(wh, now=end + HOUR)
        rolled_s = time.perf_counter() - began
        say(f"rolled up: {rolled}, {rolled_s:.0f} s")
        tidy(wh)
        sizes = {table.name: table for table in status(wh).tables}
        began = time.perf_counter()
        if not (folder / "copied").exists():
            shutil.rmtree(folder / "parquet", ignore_errors=True)
            (folder / "plain.duckdb").unlink(missing_ok=True)
            copy(wh, folder)
            (folder / "copied").touch()
        say(f"copied, {time.perf_counter() - began:.0f} s")
    windows = {"1 h": HOUR, "24 h": 24 * HOUR, "all": hours * HOUR}
    with open_warehouse(folder / "warehouse") as wh:
        with wh.cursor() as cursor:
            cursor.execute("SET GLOBAL threads = 2")
        answers = {name: asked(question, options.repeat) for name, question in ours(wh, end, windows).items()}
    grain = {
        name: (found[0].grain if name.startswith("links") else found["grain"][0].as_py())
        for name, (_, found) in answers.items()
        if name.split()[0] in {"links", "series"}
    }
    say(f"ours: { ({name: round(ms) for name, (ms, _) in answers.items()}) }")
    others: dict[str, dict[str, float]] = {}
    worst = 0.0
    for other in ("duckdb_tables", "parquet_glob"):
        connection = duckdb.connect(str(folder / "plain.duckdb") if other == "duckdb_tables" else ":memory:", config={"threads": 2})
        connection.execute("SET TimeZone = 'UTC'")
        if other == "parquet_glob":
            connection.execute(f"CREATE VIEW packets AS FROM read_parquet('{folder / 'parquet'}/*/*.parquet')")
        found = {name: asked(question, options.repeat) for name, question in plain(connection, end, windows).items()}
        for name in windows:
            worst = max(worst, agree(answers[f"links {name}"][1], found[f"links {name}"][1].to_pylist()))
        others[other] = {name: ms for name, (ms, _) in found.items()}
        connection.close()
    mine = {name: ms for name, (ms, _) in answers.items()}
    slowest = max(mine.values())
    ratios = {other: statistics.median(ms / mine[name] for name, ms in found.items()) for other, found in others.items()}
    count = sizes["ping_sample"].row_count
    return {
        "claim": f"every question of the dashboard under {TARGET_MS:.0f} ms (median, two threads) over {count / 1e6:.0f} M packets of "
        f"{options.sites * (options.sites - 1)} pairs: {'yes' if slowest < TARGET_MS else 'no'}, the slowest takes {slowest:.0f} ms",
        "ours": {
            "median_ms": mine,
            "grain": grain,
            "worst_percentile_error": worst,
            "fill_rows_per_s": count / filled_s,
            "rollup_rows_per_s": count / rolled_s if sum(rolled.values()) else None,
            "bytes": {name: sizes[name].file_bytes for name in ("ping_sample", "rollup_minute", "rollup_hour")},
            "rollup_rows": {name: sizes[name].row_count for name in ("rollup_minute", "rollup_hour")},
        },
        "others": {
            "duckdb_tables": {"median_ms": others["duckdb_tables"], "bytes": (folder / "plain.duckdb").stat().st_size},
            "parquet_glob": {
                "median_ms": others["parquet_glob"],
                "bytes": sum(p.stat().st_size for p in (folder / "parquet").rglob("*.parquet")),
            },
        },
        "ratio": ratios,
        "machine": {"cpus": os.cpu_count(), "load_1min": os.getloadavg()[0], "platform": platform.platform(), "duckdb": duckdb.__version__},
    }


if __name__ == "__main__":
    main()
