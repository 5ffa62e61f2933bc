"""Benchmark: how many probe packets a second the collector stores durably through HTTP, beside DuckLake's own bulk insert.

`--agents` agents, threads of this process, each send batches as agents do (gzip-compressed lines of rounds of five packets, one megabyte
before compression) to a collector in a process of its own, over TCP on loopback; each waits for its answer, which comes after the
commit, before it sends the next, and a 429 is obeyed. Bodies are made before the clock starts. What is stored is counted afterwards:
packets sent and answered, none missing and none twice.

`ducklake_bulk` is the same packets from Arrow tables in memory into a table of the same columns, partitions and order in a DuckLake of its
own: INSERT ... SELECT, `--group` rows to a commit, no parsing, no HTTP and no question whether it was stored before.

    python bench/ingest.py [--seconds 10] [--agents 24] [--json]
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import itertools
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from records.batch import BatchName, encode_line
from records.measurement import PingResult, PingSample
from warehouse import open_warehouse
from warehouse.ingest import parse
from warehouse.maintain import verify

ROOT = Path(__file__).parents[1]
PACKETS = 5
BATCH_BYTES = 1_000_000
#: A second that stands for every second: batches get their own by replacing it.
SECOND = 1_700_000_000

SERVER = """
import sys
from warehouse.collector import serve
serve(sys.argv[1], port=int(sys.argv[2]), on_ready=lambda: print("ready", flush=True))
"""


def rounds(agent: int) -> bytes:
    """One agent's batch: rounds to 200 targets in turn, as many as make BATCH_BYTES."""
    site, lines, size = f"p{agent:03d}", [], 0
    for n in itertools.count():
        at = SECOND * 10**9 + n * 317_123 % 500_000_000
        samples = tuple(
            PingSample(
                sequence=i,
                outcome="reply",
                sent_at_ns=at + i * 100_000_000 + n % 977,
                rtt_ns=2_000_000 + (n * 7919 + i * 104_729) % 250_000_000,
                ts_source="kernel_txrx",
                sched_lag_ns=1000 + n % 50_000,
                reply_ttl=57,
            )
            for i in range(PACKETS)
        )
        target = {"dst": f"p{n % 200:03d}", "target": f"192.0.2.{n % 200}", "medium": "internet"}
        of = {"id": f"{'0' * 16}-{n}", "agent": f"{site}-1", "src": site, "started_at_ns": at, "engine": "bench/1"}
        lines.append(
            encode_line(PingResult(**of, **target, method="icmp", timeout_ns=2 * 10**9, payload_bytes=56, samples=samples))  # type: ignore[arg-type]
        )
        size += len(lines[-1])
        if size >= BATCH_BYTES:
            return b"".join(lines)
    raise AssertionError


def batch(content: bytes, name: BatchName) -> bytes:
    """The agent's content under this name: its own ids and its own second."""
    return content.replace(b"0" * 16 + b"-", f"{name.boot}-".encode()).replace(str(SECOND).encode(), str(SECOND + name.sequence).encode())


def name_of(agent: int, sequence: int) -> BatchName:
    """One boot for each batch, so that measurement ids differ."""
    return BatchName(f"p{agent:03d}-1", f"{agent:06x}{sequence:010x}", sequence)


class Agent(threading.Thread):
    """Sends its batches one after the other until the time is over; counts what was answered 200."""

    def __init__(self, port: int, bodies: list[tuple[BatchName, bytes]], until: list[float]) -> None:
        super().__init__()
        self.port, self.bodies, self.until = port, bodies, until
        self.stored: list[BatchName] = []
        self.busy = 0
        self.wait_s: list[float] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        for name, body in self.bodies:
            if time.perf_counter() > self.until[0]:
                break
            headers = {"Isochrone-Agent": name.agent, "Isochrone-Boot": name.boot, "Isochrone-Sequence": str(name.sequence)}
            began = time.perf_counter()
            while True:
                connection.request("POST", "/api/v1/batches", body, headers | {"Content-Encoding": "gzip"})
                answer = connection.getresponse()
                said = answer.read()
                if answer.status != 429:
                    break
                self.busy += 1
                time.sleep(float(answer.headers["Retry-After"]))
            if answer.status != 200:
                raise RuntimeError(said)
            self.wait_s.append(time.perf_counter() - began)
            self.stored.append(name)


def bulk(folder: Path, tables: list[pa.Table], group: int) -> float:
    """Rows per second of DuckLake alone; each commit is made of the tables' rows."""
    table = pa.concat_tables(tables)
    with open_warehouse(folder, mode="write") as wh, wh.cursor() as cursor:
        cursor.execute("SET GLOBAL threads = 2")
        rows, seconds = 0, 0.0
        for offset in range(0, table.num_rows, group):
            part = table.slice(offset, group)
            cursor.register("incoming", part)
            began = time.perf_counter()
            cursor.execute("INSERT INTO ping_sample BY NAME SELECT *, false AS is_duplicate_id FROM incoming")
            seconds += time.perf_counter() - began
            rows += part.num_rows
            cursor.unregister("incoming")
    return rows / seconds


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    """Most memory a process ever had resident."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make the bodies, send them, count, and let DuckLake store the same."""
    contents = [rounds(agent) for agent in range(options.agents)]
    per_batch = contents[0].count(b"\n") * PACKETS
    each = -(-options.rows // (options.agents * per_batch))
    names = [[name_of(agent, sequence) for sequence in range(each)] for agent in range(options.agents)]
    # Level 1: the bodies are 40 % larger than an agent's and take as long to unpack, and making them does not take minutes.
    bodies = [[(name, gzip.compress(batch(contents[agent], name), 1)) for name in some] for agent, some in enumerate(names)]
    print(f"{options.agents} agents, {each} batches each of {per_batch} packets", file=sys.stderr, flush=True)
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder / "kept"), str(port)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            sys.exit("the collector did not start")
        began, cpu = time.perf_counter(), cpu_seconds(process.pid)
        until = [began + options.seconds]
        agents = [Agent(port, some, until) for some in bodies]
        for agent in agents:
            agent.start()
        for agent in agents:
            agent.join()
        took_s = time.perf_counter() - began
        cpu = cpu_seconds(process.pid) - cpu
        peak = peak_bytes(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    sent = sum(len(agent.stored) for agent in agents) * per_batch
    with open_warehouse(folder / "kept") as wh, wh.cursor() as cursor:
        counted = cursor.execute("SELECT count(*), count(DISTINCT (measurement_id, sequence)) FROM valid_ping").fetchone()
        assert counted == (sent, sent), f"{sent} packets sent and answered, {counted} stored and distinct"
        assert verify(wh) == []
    waits = sorted(wait for agent in agents for wait in agent.wait_s)
    some = [name for names_of in names for name in names_of[:2]]
    tables = [
        parse(batch(contents[n // 2], name), name, received_at=datetime.now(UTC)).tables["ping_sample"] for n, name in enumerate(some)
    ]
    theirs = bulk(folder / "bulk", tables, options.group)
    ours = sent / took_s
    return {
        "claim": f"at least 100,000 probe packets a second stored durably through HTTP, and a quarter of DuckLake's own bulk insert: "
        f"{'yes' if ours >= 100_000 and ours >= theirs / 4 else 'no'}, {ours:,.0f} a second of {theirs:,.0f}",
        "ours": {
            "rows_per_s": ours,
            "rows": sent,
            "seconds": took_s,
            "answered_p50_s": waits[len(waits) // 2],
            "answered_p99_s": waits[len(waits) * 99 // 100],
            "busy_answers": sum(agent.busy for agent in agents),
            "collector_cpu_s": cpu,
            "collector_peak_mb": peak / 1e6,
            "lost": 0,
            "duplicated": 0,
        },
        "others": {"ducklake_bulk": {"rows_per_s": theirs}},
        "ratio": {"ducklake_bulk": ours / theirs},
        "machine": {"cpus": os.cpu_count(), "load_1min": os.getloadavg()[0], "platform": platform.platform(), "duckdb": duckdb.__version__},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long agents start new batches")
    parser.add_argument("--agents", type=int, default=48)
    parser.add_argument("--rows", type=int, default=2_000_000, help="packets made beforehand: the run ends early when all are sent")
    parser.add_argument("--group", type=int, default=200_000, help="rows to a commit of the bulk insert, as of the collector's largest")
    parser.add_argument("--folder", type=Path, help="where the warehouses are made; without it a temporary folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="isochrone-bench-", dir=options.folder) as folder:
        report = run(Path(folder), options)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print(report["claim"])
        print(", ".join(f"{key} {value:.4g}" for key, value in report["ours"].items()))


if __name__ == "__main__":
    main()
