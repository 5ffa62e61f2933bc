"""Benchmark: how long the dashboard's questions take on a large warehouse, beside plain DuckDB tables and plain Parquet files.

A seeded fleet (bench/fleet.py) measures hour after hour until there are `--rows` packets; the warehouse rolls them up and compacts
itself. The columns that the questions need lie in a DuckDB file too (one table, in the order they came), and the warehouse's own
Parquet files are asked as a glob, without its catalog. Each question is asked `--repeat` times of each, with two threads; the
medians are compared. The others answer exactly from raw rows in the SQL one would write for them; counts and percentiles of ours
are checked against theirs (percentiles within 1 %). Last, batches are stored into a warehouse of one hour and into the large one by
turns: the rate must not fall as it grows. Packets are made as Parquet files (bench/packets.py) that are laid out as the warehouse lays
out its own and registered in its catalog; all else is inserted, and all roll-ups are made by the warehouse itself.

    python bench/queries.py [--rows 50000000] [--sites 50] [--repeat 5] [--folder DIR] [--fill-only] [--ours-only] [--json]

Needs about 25 bytes of disk a row, 12 with --ours-only. With --folder the data are kept and used again, and an unfinished filling goes
on where it stopped.
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
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from fleet import HOUR, START, packets_an_hour, put_hour
from packets import Writer, settle

from records.batch import BatchName, encode_line
from records.measurement import PingResult, PingSample
from warehouse import Warehouse, health, open_warehouse, queries
from warehouse.ingest import parse
from warehouse.maintain import status, tidy
from warehouse.moments import link_moments
from warehouse.rollup import FAR_AHEAD, minute_steps, rollup
from warehouse.store import store

Link = tuple[str, str, str]

TARGET_MS = 300.0
ENOUGH_S = 2.0
#: Exact quantiles of all pairs hold every RTT in memory, and spill nothing: a question that needs more is out.
OTHERS_MEMORY = "14GB"

_ROLLED = ("rollup_minute", "rollup_hour", "rollup_day", "rollup_inference", "rollup_inference_day")

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
#: A collector at its rate commits what came within a second; one that has little to do, each batch.
STORED = {"commits of 50,000 packets": {"together": 10, "commits": 4}, "commits of 5,000 packets": {"together": 1, "commits": 10}}
#: What these questions read.
COLUMNS = "src, dst, medium, sent_at, outcome, rtt_ns, is_round_start, is_duplicate_id"


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def fill(folder: Path, *, rows: int, sites: int, seed: int) -> int:
    """Hours of a fleet until there are `rows` packets; how many hours. Two threads make files ahead of their commits."""
    hours, mark = max(1, round(rows / packets_an_hour(sites))), folder / "hours"
    done = int(mark.read_text()) if mark.exists() else 0
    with open_warehouse(folder / "warehouse", mode="write") as wh, ThreadPoolExecutor(2) as threads:
        with wh.cursor() as cursor:
            cursor.execute("SET GLOBAL threads = 2")
        packets = Path(wh.data_path) / "main" / "ping_sample"
        writer, began, ahead = Writer(wh, sites=sites, seed=seed), time.perf_counter(), deque[Future[Path]]()
        for hour in range(done, hours):
            while len(ahead) < min(3, hours - hour):
                number = hour + len(ahead)
                ahead.append(threads.submit(writer.write, packets, number, START + number * HOUR))
            put_hour(wh, hour, ahead.popleft().result(), sites=sites, seed=seed)
            mark.write_text(str(hour + 1))
            if (hour + 1) % 10 == 0 or hour + 1 == hours:
                say(f"{hour + 1} of {hours} hours stored, {time.perf_counter() - began:.0f} s")
        settle(wh)
    return max(done, hours)


def roll(folder: Path) -> None:
    """What a collector does meanwhile: roll up, make hours and days, merge small files."""
    began = time.perf_counter()
    with open_warehouse(folder / "warehouse", mode="write") as wh:
        with wh.cursor() as cursor:
            cursor.execute("SET GLOBAL threads = 2")
        for number, _ in enumerate(minute_steps(wh, now=FAR_AHEAD)):
            if number % 20 == 0:
                say(f"{number} passes over the minutes, {time.perf_counter() - began:.0f} s")
        rollup(wh, now=FAR_AHEAD)
        tidy(wh)
        say(f"rolled up and tidied, {time.perf_counter() - began:.0f} s")


def store_rows_per_s(folder: Path, *, together: int, commits: int, rounds: int = 500) -> float:
    """Packets stored per second as a collector stores them, in commits of `together` batches of `rounds` rounds of ten packets."""
    boot = f"{time.time_ns():016x}"
    # Each time of another time, or what was stored the last time would be looked into for repeats of these.
    at_ns = (int((START + 2000 * HOUR).timestamp()) - time.time_ns() // 10**6 % 10**7) * 10**9
    batches = []
    for number in range(1 + commits * together):
        lines = [  # one round each
            PingResult(
                id=f"{boot}-{number * rounds + n}",
                agent="bench-1",
                src="p001",
                dst=f"p{n % 50 + 100}",
                medium="internet",
                target="192.0.2.1",
                engine="bench/1",
                started_at_ns=at_ns + n * 10**9,
                method="icmp",
                timeout_ns=2 * 10**9,
                payload_bytes=56,
                samples=tuple(
                    PingSample(sequence=i, outcome="reply", sent_at_ns=at_ns + n * 10**9 + i, rtt_ns=10**7 + n + i, ts_source="kernel_txrx")
                    for i in range(10)
                ),
            )
            for n in range(rounds)
        ]
        content = b"".join(encode_line(line) for line in lines)
        batches.append(parse(content, BatchName("bench-1", boot, number), received_at=START + 2000 * HOUR))
    with open_warehouse(folder, mode="write") as wh:
        store(wh, batches[:1])
        began = time.perf_counter()
        for first in range(1, len(batches), together):
            store(wh, batches[first : first + together])
        return commits * together * rounds * 10 / (time.perf_counter() - began)


def store_rates(folder: Path, repeat: int, *, together: int, commits: int) -> dict[str, float]:
    """Medians of `store_rows_per_s` into the small warehouse and the full one, by turns."""
    places = {"an hour": folder / "small" / "warehouse", "full": folder / "warehouse"}
    turns = [{name: store_rows_per_s(place, together=together, commits=commits) for name, place in places.items()} for _ in range(repeat)]
    return {name: statistics.median(turn[name] for turn in turns) for name in places}


def asked(question: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """(median ms, answer); one more time before, to warm up. What takes seconds is asked less often, from ENOUGH_S on once."""
    began = time.perf_counter()
    answer = question()
    first_s = time.perf_counter() - began
    if first_s > ENOUGH_S:
        return 1e3 * first_s, answer
    took = []
    for _ in range(max(1, min(repeat, int(ENOUGH_S / first_s)))):
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


def _of_window(wh: Warehouse, pair: Link, route: list[Link], end: datetime, window: timedelta) -> dict[str, Callable[[], Any]]:
    """Those of the questions that are of a window up to `end`."""
    since = end - window
    return {
        "links": lambda: queries.link_estimates(wh, now=end, window=window),
        "series": lambda: queries.ping_series(wh, *pair, start=since, end=end, bucket_count=300),
        "moments": lambda: link_moments(wh, route, now=end, window=window),
        "inference": lambda: queries.inference_latest(wh, now=end, window=window),
        "pools": lambda: health.inference_pools(wh, since=since, until=end),
        "requests": lambda: queries.inference_series(wh, *pair, start=since, end=end),
        "throughput": lambda: queries.throughput_series(wh, *pair, start=since, end=end),
        "path history": lambda: queries.path_history(wh, *pair, since, end),
    }


def ours(wh: Warehouse, end: datetime, windows: dict[str, timedelta]) -> dict[str, Callable[[], Any]]:
    """The dashboard's own functions."""
    pair = ("p001", "p002", "internet")
    route = [pair, ("p001", "p003", "internet"), ("p003", "p002", "internet")]
    found: dict[str, Callable[[], Any]] = {}
    for name, window in windows.items():
        found |= {f"{question} {name}": asking for question, asking in _of_window(wh, pair, route, end, window).items()}
    # As the dashboard asks them: of a week at most, or of an hour.
    week = max(START, end - timedelta(days=7))
    return found | {
        "counts": lambda: queries.measurement_counts(wh),
        "time range": lambda: queries.time_range(wh),
        "changes": lambda: health.link_changes(wh, now=end),
        "path changes": lambda: health.path_changes(wh, since=end - HOUR, until=end),
        "gaps": lambda: health.sent_by_time(wh, since=week, until=week + 240 * HOUR, bucket_count=120),
        "timing": lambda: health.timing_sources(wh, since=end - HOUR, until=end),
        "reports": lambda: health.agent_reports(wh, since=week, until=end, agent="p001-1"),
        "agents": lambda: queries.agents(wh, end),
        "paths": lambda: queries.latest_paths(wh, *pair),
        "rejects": lambda: queries.reject_counts(wh),
        "reject lines": lambda: queries.rejects(wh),
        "sites": lambda: queries.sites(wh),
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
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the data are made, kept and found again; without it a temporary folder")
    parser.add_argument("--fill-only", action="store_true", help="make the data in --folder, ask nothing")
    parser.add_argument("--ours-only", action="store_true", help="copy nothing into plain tables, ask the warehouse alone")
    parser.add_argument("--raw-only", action="store_true", help="with --fill-only: leave the roll-ups for later")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.fill_only and options.folder is None:
        sys.exit("--fill-only needs a --folder to keep the data in")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="isochrone-bench-"))
    free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
    need_bytes = (12 if options.ours_only else 25) * options.rows
    if free < need_bytes and not (folder / "hours").exists():
        need = f"{options.rows} rows need about {need_bytes / 1e9:.0f} GB"
        sys.exit(f"{need} and {folder} has {free / 1e9:.0f}; give fewer --rows, or another --folder")
    if options.fill_only:
        say(f"{prepare(folder, options)} hours are there")
        return
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
        print(f"{name:18} {value:8.0f} ms  ({report['ours']['grain'].get(name, '-'):6})  {others}")


def copy(wh: Warehouse, folder: Path) -> None:
    """The columns that the questions need as a table of a DuckDB file."""
    with wh.cursor() as cursor:
        cursor.execute(f"ATTACH '{folder / 'plain.duckdb'}' AS plain")
        cursor.execute(f"CREATE TABLE plain.packets AS SELECT {COLUMNS} FROM wh.ping_sample")  # noqa: S608
        cursor.execute("DETACH plain")


def prepare(folder: Path, options: argparse.Namespace) -> int:
    """Fill the warehouse, a small one too, and copy the large one; how many hours it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    hours = fill(folder, rows=options.rows, sites=options.sites, seed=options.seed)
    if not options.ours_only and not (folder / "copied").exists():
        (folder / "plain.duckdb").unlink(missing_ok=True)
        with open_warehouse(folder / "warehouse") as wh:
            copy(wh, folder)
        (folder / "copied").touch()
    small = folder / "small"
    if not (small / "hours").exists():
        small.mkdir(exist_ok=True)
        fill(small, rows=packets_an_hour(options.sites), sites=options.sites, seed=options.seed)
    for place in () if options.raw_only else (small, folder):
        roll(place)
    return hours


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fill the warehouses, ask all of them, and hold the answers against each other."""
    began = time.perf_counter()
    hours = prepare(folder, options)
    prepared_s = time.perf_counter() - began
    end = START + hours * HOUR
    with open_warehouse(folder / "warehouse") as wh:
        sizes = {table.name: table for table in status(wh).tables}
        files = f"{wh.data_path}main/ping_sample/**/*.parquet"
    windows = {"1 h": HOUR, "24 h": 24 * HOUR, "all": hours * HOUR}
    with open_warehouse(folder / "warehouse") as wh:
        with wh.cursor() as cursor:
            cursor.execute("SET GLOBAL threads = 2")
        answers = {name: asked(question, options.repeat) for name, question in ours(wh, end, windows).items()}
    grain = {
        name: (found[0].grain if name.startswith("links") else found["grain"][0].as_py())
        for name, (_, found) in answers.items()
        if name.split()[0] in {"links", "series", "inference", "pools"} and len(found)
    }
    say(f"ours: { ({name: round(ms) for name, (ms, _) in answers.items()}) }")
    others: dict[str, dict[str, float]] = {}
    worst, without = 0.0, dict[str, list[str]]()
    for other in () if options.ours_only else ("duckdb_tables", "parquet_glob"):
        connection = duckdb.connect(str(folder / "plain.duckdb") if other == "duckdb_tables" else ":memory:", config={"threads": 2})
        connection.execute("SET TimeZone = 'UTC'")
        if other == "parquet_glob":
            connection.execute(f"CREATE VIEW packets AS FROM read_parquet('{files}')")
        connection.execute(f"SET memory_limit = '{OTHERS_MEMORY}'")
        found: dict[str, tuple[float, Any]] = {}
        for name, question in plain(connection, end, windows).items():
            try:
                found[name] = asked(question, options.repeat)
            except duckdb.OutOfMemoryException:
                without.setdefault(other, []).append(name)
            say(f"{other}: {name} {round(found[name][0]) if name in found else 'out of memory'}")
        for name in windows:
            if f"links {name}" in found:
                worst = max(worst, agree(answers[f"links {name}"][1], found[f"links {name}"][1].to_pylist()))
        others[other] = {name: ms for name, (ms, _) in found.items()}
        connection.close()
        say(f"{other}: { ({name: round(ms) for name, ms in others[other].items()}) }")
    rates = {how: store_rates(folder, options.repeat, **asked_of) for how, asked_of in STORED.items()}
    mine = {name: ms for name, (ms, _) in answers.items()}
    plain_bytes = {"parquet_glob": sizes["ping_sample"].file_bytes}
    if not options.ours_only:
        plain_bytes["duckdb_tables"] = (folder / "plain.duckdb").stat().st_size
    slowest = max(mine, key=mine.__getitem__)
    late = sorted(name for name, ms in mine.items() if ms >= TARGET_MS)
    ratios = {other: statistics.median(ms / mine[name] for name, ms in found.items()) for other, found in others.items()}
    count = sizes["ping_sample"].row_count
    return {
        "claim": f"every question of the dashboard under {TARGET_MS:.0f} ms (median, two threads) over {count / 1e6:.0f} M packets of "
        f"{options.sites * (options.sites - 1)} pairs: {'no, not ' + ', '.join(late) if late else 'yes'}; the slowest, {slowest}, takes "
        f"{mine[slowest]:.0f} ms",
        "ours": {
            "median_ms": mine,
            "grain": grain,
            "worst_percentile_error": worst,
            "prepared_s": prepared_s,
            "store_rows_per_s": rates,
            "bytes": {name: sizes[name].file_bytes for name in ("ping_sample", *_ROLLED)},
            "rollup_rows": {name: sizes[name].row_count for name in _ROLLED},
        },
        "others": {
            name: {"median_ms": found, "out_of_memory": without.get(name, []), "bytes": plain_bytes[name]} for name, found in others.items()
        },
        "ratio": ratios,
        "machine": {"cpus": os.cpu_count(), "load_1min": os.getloadavg()[0], "platform": platform.platform(), "duckdb": duckdb.__version__},
    }


if __name__ == "__main__":
    main()
