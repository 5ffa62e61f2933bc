"""Benchmark: what an agent costs its host at the reference load, beside what one would run instead.

500 targets on the loopback of a network namespace of its own, ten packets a minute each (five every half minute), for as long as
the window lasts. Ours is the whole daemon: schedule, kernel-stamped ICMP, spool with fsync, batches sent to a collector
that takes them. The others only ping and append what came back to a file: a loop of fping as SmokePing runs it, and a loop
of icmplib's multiping. CPU is user and system time of the process and its children from /proc, memory the resident set.

    python bench/agent.py [--targets 500] [--seconds 60] [--json]      (as root: for the namespace and ICMP)
"""

from __future__ import annotations

import argparse
import gzip
import http.server
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ROUND_S, COUNT = 30, 5
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

FPING = """
import subprocess, sys, time
next_s = time.monotonic()
with open(sys.argv[1], "a") as log:
    while True:
        argv = ["fping", "-q", "-C", "5", "-p", "100", "-i", "1", "-t", "2000", *sys.argv[2:]]
        log.write(subprocess.run(argv, capture_output=True, text=True).stderr); log.flush()
        next_s += 30
        time.sleep(max(0, next_s - time.monotonic()))
"""

ICMPLIB = """
import json, sys, time, icmplib
next_s = time.monotonic()
with open(sys.argv[1], "a") as log:
    while True:
        for host in icmplib.multiping(sys.argv[2:], count=5, interval=0.1, timeout=2, concurrent_tasks=50):
            log.write(json.dumps([host.address, host.rtts, host.packets_sent]) + "\\n")
        log.flush()
        next_s += 30
        time.sleep(max(0, next_s - time.monotonic()))
"""


class Sink(http.server.BaseHTTPRequestHandler):
    """A collector that takes every batch and keeps what it says."""

    protocol_version = "HTTP/1.1"
    lines: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.lines += map(json.loads, body.splitlines())  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def addresses(count: int) -> list[str]:
    """Of the loopback, in one /16."""
    return [f"127.10.{n // 250}.{n % 250 + 1}" for n in range(count)]


def usage(pid: int) -> tuple[float, int]:
    """CPU seconds of a process, its ended children and its living ones; resident bytes of it and the living ones."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return 0.0, 0
    cpu_s = sum(map(int, stat[11:15])) / TICKS
    resident = int(stat[21]) * PAGE
    for child in children:
        more_s, more = usage(child)
        cpu_s += more_s
        resident += more
    return cpu_s, resident


@contextmanager
def running(argv: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def watched(process: subprocess.Popen[bytes], seconds: float) -> dict[str, float]:
    """CPU share over the window and the largest resident set seen."""
    began_s, (cpu_before_s, _) = time.monotonic(), usage(process.pid)
    largest = 0
    while time.monotonic() - began_s < seconds:
        time.sleep(0.25)
        if process.poll() is not None:
            raise SystemExit("a tool ended by itself")
        largest = max(largest, usage(process.pid)[1])
    cpu_s = usage(process.pid)[0] - cpu_before_s
    return {"cpu_percent_of_a_core": 100 * cpu_s / (time.monotonic() - began_s), "resident_mb": largest / 1e6}


def ours(targets: list[str], folder: Path, seconds: float) -> dict[str, Any]:
    """The daemon, from its second round on: the first imports and opens."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.lines = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = folder / "agent.toml"
    tables = "".join(f'[[target]]\nsite = "s{n}"\naddress = "{address}"\n' for n, address in enumerate(targets))
    config.write_text(
        '[agent]\nid = "bench"\nsite = "bench"\nspool_dir = "spool"\nallow_private_targets = true\n'
        f'[collector]\nurl = "http://127.0.0.1:{server.server_address[1]}"\n'
        "[limits]\npackets_per_second = 200\npackets_per_second_per_network = 200\n"
        f'[[probe]]\ntype = "ping"\nengine = "icmp"\ninterval_s = {ROUND_S}\ncount = {COUNT}\ninterval_ms = 100\n{tables}'
    )
    with running([sys.executable, "-m", "app.cli", "agent", "run", "--config", str(config)]) as process:
        time.sleep(ROUND_S + 5)
        found: dict[str, Any] = watched(process, seconds)
        found["threads"] = len(list(Path(f"/proc/{process.pid}/task").iterdir()))
    lines = server.lines  # type: ignore[attr-defined]
    server.shutdown()
    samples = [sample for line in lines if line["type"] == "ping" for sample in line["samples"]]
    statuses = [line for line in lines if line["type"] == "status"]
    found["packets"] = len(samples)
    found["lost"] = sum(sample["outcome"] != "reply" for sample in samples)
    found["kernel_stamped"] = sum(sample.get("ts_source") == "kernel_txrx" for sample in samples)
    found["skipped_rounds"] = statuses[-1]["skipped_rounds"]
    found["round_lag_p99_ms"] = max((status.get("round_lag_p99_ns") or 0 for status in statuses[1:]), default=0) / 1e6
    return found


def other(script: str, targets: list[str], folder: Path, seconds: float) -> dict[str, Any]:
    """A loop that pings all of them every half minute, over whole rounds from its start on."""
    with running([sys.executable, "-c", script, str(folder / "log"), *targets]) as process:
        return dict(watched(process, max(ROUND_S, seconds // ROUND_S * ROUND_S)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=500, help="default 500, the reference load")
    parser.add_argument("--seconds", type=float, default=30, help="window of each tool (default 30)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        again = [sys.executable, __file__, *sys.argv[1:], "--inside"]
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *again])  # noqa: S606
    targets = addresses(options.targets)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine = ours(targets, folder, options.seconds)
        others = {"icmplib": other(ICMPLIB, targets, folder, options.seconds)}
        if shutil.which("fping"):
            others["fping"] = other(FPING, targets, folder, options.seconds)
    document = {
        "claim": f"CPU of pinging {options.targets} targets ten times a minute each for ever (ours: the whole agent)",
        "ours": mine,
        "others": others,
        "ratio": {name: one["cpu_percent_of_a_core"] / mine["cpu_percent_of_a_core"] for name, one in others.items()},
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    print(document["claim"])
    for name, one in {"isochrone": mine, **others}.items():
        print(f"  {name:10} {one['cpu_percent_of_a_core']:5.2f} % of a core, {one['resident_mb']:5.1f} MB resident")
    said = f"{mine['kernel_stamped']} timed by the kernel, {mine['skipped_rounds']} rounds skipped"
    print(f"  ours: {mine['lost']} of {mine['packets']} packets lost, {said}")


if __name__ == "__main__":
    main()
