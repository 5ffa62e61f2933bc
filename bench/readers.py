"""Benchmark: what three readers feel of a collector that stores: first alone, then beside 2,900 and 29,000 packets a second.

The warehouse holds an hour of packets, rolled up. `dashboard` asks the dashboard's own questions over one open warehouse, `cli` runs
`isochrone links --json` again and again (start and all), `duckdb` asks the view links and counts through DuckDB alone, opened by the
lines that `isochrone warehouse status` prints. Each says how long every question took and every error it met. 29 agents send one batch a
second each over HTTP; the collector does its maintenance meanwhile.

    python bench/readers.py [--seconds 25] [--json]
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from ingest import PACKETS, ROOT, SECOND, SERVER, batch, free_port, rounds

from records.batch import BatchName
from warehouse import open_warehouse
from warehouse.ingest import parse
from warehouse.opening import python_lines
from warehouse.rollup import rollup
from warehouse.store import store

AGENTS = 29
RATES = {"idle": 0, "reference": 100, "high": 1000}

#: Every reader: questions one after the other, [time, seconds, error or null] each as a line, until there is the file argv[3].
LOOP = """
import json, os, sys, time
def ask(question):
    began, error = time.perf_counter(), None
    try:
        question()
    except Exception as failed:
        error = repr(failed)
    print(json.dumps([time.time(), time.perf_counter() - began, error]), flush=True)
"""
READERS = {
    "dashboard": LOOP
    + """
from datetime import UTC, datetime, timedelta
from warehouse import open_warehouse, queries
hour = timedelta(hours=1)
with open_warehouse(sys.argv[1]) as wh:
    while not os.path.exists(sys.argv[3]):
        now = datetime.now(UTC)
        for question in (
            lambda: queries.link_estimates(wh, now=now), lambda: queries.link_estimates(wh, now=now, window=hour),
            lambda: queries.ping_series(wh, "p001", "p002", "internet", start=now - hour, end=now, bucket_count=300),
            lambda: queries.measurement_counts(wh), lambda: queries.agents(wh, now), lambda: queries.time_range(wh),
            lambda: queries.latest_paths(wh, "p001", "p002", "internet"), lambda: queries.reject_counts(wh),
        ):
            ask(question)
            time.sleep(0.1)
""",
    "cli": LOOP
    + """
import subprocess
def links():
    subprocess.run([sys.executable, "-m", "app.cli", "links", "--json", "--warehouse", sys.argv[1]], check=True, stdout=subprocess.DEVNULL)
while not os.path.exists(sys.argv[3]):
    ask(links)
    time.sleep(0.5)
""",
    "duckdb": LOOP
    + """
exec(sys.argv[2])
while not os.path.exists(sys.argv[3]):
    for query in ("ping_sample SELECT count(*)", "links SELECT count(*)", "latest_ping LIMIT 10"):
        ask(lambda: con.sql("FROM " + query).fetchall())
        time.sleep(0.3)
""",
}


def fill(place: Path, contents: list[bytes]) -> None:
    """An hour of packets up to now, a minute to a commit, rolled up."""
    now = datetime.now(UTC)
    with open_warehouse(place, mode="write") as wh:
        for minute in range(60, 0, -1):
            at = now - timedelta(minutes=minute)
            store(wh, [made(agent, content, at) for agent, content in enumerate(contents)])
        rollup(wh, now=now)


def named(agent: int, at: datetime) -> BatchName:
    """A name of its own for every agent and second."""
    return BatchName(f"p{agent:03d}-1", f"{agent:06x}{int(at.timestamp()):010x}", 0)


def body(agent: int, content: bytes, at: datetime) -> bytes:
    """The agent's content as of this second."""
    return batch(content, named(agent, at)).replace(str(SECOND).encode(), str(int(at.timestamp())).encode())


def made(agent: int, content: bytes, at: datetime) -> Any:
    """The same as a parsed batch."""
    return parse(body(agent, content, at), named(agent, at), received_at=at)


class Agent(threading.Thread):
    """Sends one batch a second; counts packets answered, and what was answered otherwise."""

    def __init__(self, number: int, port: int, content: bytes, over: threading.Event) -> None:
        super().__init__()
        self.number, self.port, self.content, self.over = number, port, content, over
        self.stored = 0
        self.refused: list[int] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        count = self.content.count(b"\n") * PACKETS
        due = time.monotonic() + self.number / AGENTS
        while not self.over.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1.0, time.monotonic())
            at = datetime.now(UTC)
            name = named(self.number, at)
            headers = {"Isochrone-Agent": name.agent, "Isochrone-Boot": name.boot, "Isochrone-Sequence": "0", "Content-Encoding": "gzip"}
            connection.request("POST", "/api/v1/batches", gzip.compress(body(self.number, self.content, at), 1), headers)
            answer = connection.getresponse()
            already = json.loads(answer.read()).get("already")
            if answer.status == 200:
                self.stored += 0 if already else count
            else:
                self.refused.append(answer.status)


def percentile(values: list[float], share: float) -> float | None:
    """The value that this share of them does not exceed (nearest rank); None of nothing."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None


def phase(place: Path, port: int, contents: list[bytes], seconds: float) -> dict[str, Any]:
    """The three readers for so long, beside what the contents are sent by."""
    over = threading.Event()
    agents = [Agent(number, port, content, over) for number, content in enumerate(contents)]
    with open_warehouse(place) as wh:
        alone = "\n".join(python_lines(wh.place, wh.data_path))
    end = place.parent / f"end-{time.monotonic_ns()}"
    readers = {
        name: subprocess.Popen([sys.executable, "-c", code, str(place), alone, str(end)], cwd=ROOT, stdout=subprocess.PIPE)
        for name, code in READERS.items()
    }
    began = time.time()
    for agent in agents:
        agent.start()
    time.sleep(seconds)
    over.set()
    for agent in agents:
        agent.join()
    took_s = time.time() - began
    found: dict[str, Any] = {"rows_per_s": sum(agent.stored for agent in agents) / took_s}
    found["refused"] = sum(len(agent.refused) for agent in agents)
    end.touch()
    for name, process in readers.items():
        out, _ = process.communicate(timeout=60)
        asked = [json.loads(line) for line in out.splitlines() if line.endswith(b"]")]
        times = [1e3 * took for at, took, _ in asked if at > began + 2]
        errors = [error for _, _, error in asked if error is not None]
        found[name] = {"asked": len(asked), "p50_ms": percentile(times, 0.5), "p95_ms": percentile(times, 0.95), "errors": errors}
    return found


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fill, then the three phases over one collector."""
    place, port = folder / "kept", free_port()
    whole = [rounds(agent) for agent in range(AGENTS)]

    def cut(packets: int) -> list[bytes]:
        return [b"".join(content.splitlines(keepends=True)[: packets // PACKETS]) for content in whole] if packets else []

    fill(place, cut(200))
    print("filled", file=sys.stderr, flush=True)
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(place), str(port)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            sys.exit("the collector did not start")
        found = {name: phase(place, port, cut(packets), options.seconds) for name, packets in RATES.items()}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    errors = sum(len(found[rate][reader]["errors"]) for rate in RATES for reader in READERS)
    slower = {rate: {reader: found[rate][reader]["p95_ms"] / found["idle"][reader]["p95_ms"] for reader in READERS} for rate in RATES}
    worst = max(slower["reference"].values())
    return {
        "claim": "beside a collector that stores the reference rate no reader meets an error and the p95 is within twice that of idle: "
        f"{'yes' if errors == 0 and worst <= 2 else 'no'}, {errors} errors, at most {worst:.2f} times",
        "ours": found,
        "others": {"idle": found["idle"]},
        "ratio": {f"{reader} {rate}": 1 / slower[rate][reader] for rate in ("reference", "high") for reader in READERS},
        "machine": {"cpus": os.cpu_count(), "load_1min": os.getloadavg()[0], "platform": platform.platform(), "duckdb": duckdb.__version__},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=25.0, help="how long each of the three phases lasts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="isochrone-bench-") as folder:
        report = run(Path(folder), options)
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print(report["claim"])
    for rate, found in report["ours"].items():
        said = "  ".join(
            f"{name} p50 {found[name]['p50_ms']:.0f} p95 {found[name]['p95_ms']:.0f} ms of {found[name]['asked']}" for name in READERS
        )
        print(f"{rate:10} {found['rows_per_s']:8.0f} packets/s  {said}")


if __name__ == "__main__":
    main()
