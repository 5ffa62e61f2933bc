"""Benchmark: how far each tool's round-trip times are from a nanosecond capture on the prober's own interface.

In the lab, 200 addresses of one far site (about 158 ms) are pinged three times each by every tool. A capture in the
prober's namespace tells each packet's true RTT; the n-th RTT a tool reports for a target is held against the n-th
echo of that target in the capture. fping's and ping's error is the rounding of what they print; icmplib's is the
scheduler's.

    python bench/ping.py [--targets 200] [--json]        (needs the lab's namespaces; tools that are missing are left out)
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.topology import builtin
from lab.world import Lab, start

COUNT = 3
PERIOD_MS = 400
SRC, DST = "sin", "fra"
ROOT = Path(__file__).parents[1]

OURS = """
import asyncio, json, sys
from probes.ping import IcmpEngine
async def main():
    engine = IcmpEngine(packets_per_s=1000)
    await engine.open()
    how = {"count": int(sys.argv[1]), "interval_ns": int(sys.argv[2]) * 1_000_000, "timeout_ns": 2_000_000_000, "payload_bytes": 56}
    rounds = await asyncio.gather(*(engine.ping(address, **how) for address in sys.argv[3:]))
    print(json.dumps([[sample.rtt_ns for sample in samples] for samples in rounds]))
asyncio.run(main())
"""

ICMPLIB = """
import json, sys, icmplib
hosts = icmplib.multiping(sys.argv[3:], count=int(sys.argv[1]), interval=int(sys.argv[2]) / 1000, timeout=2)
print(json.dumps([[rtt * 1e6 for rtt in host.rtts] if host.packets_received == host.packets_sent else [] for host in hosts]))
"""

Rtts = dict[str, list[float | None]]


def echoes(path: Path) -> dict[str, list[float]]:
    """True RTTs in ns by target, in the order sent, from a nanosecond capture of Ethernet or raw IP frames."""
    data = path.read_bytes()
    link_type = struct.unpack_from("<I", data, 20)[0]
    skip = {1: 14, 101: 0, 12: 0, 113: 16, 276: 20}[link_type]
    sent: dict[tuple[str, bytes], int] = {}
    found: dict[str, list[float]] = defaultdict(list)
    order: dict[tuple[str, bytes], int] = {}
    offset = 24
    while offset < len(data):
        seconds, nanoseconds, kept, _ = struct.unpack_from("<IIII", data, offset)
        packet = data[offset + 16 + skip : offset + 16 + kept]
        offset += 16 + kept
        if len(packet) < 28 or packet[9] != 1:
            continue
        at_ns, key = seconds * 10**9 + nanoseconds, packet[24:28]
        if packet[20] == 8:
            target = str(ipaddress.ip_address(packet[16:20]))
            sent[target, key] = at_ns
            order[target, key] = len(found[target])
            found[target].append(float("nan"))
        elif packet[20] == 0:
            target = str(ipaddress.ip_address(packet[12:16]))
            if (target, key) in order:
                found[target][order[target, key]] = at_ns - sent[target, key]
    return found


def run(lab: Lab, argv: list[str]) -> tuple[str, float]:
    """Output and CPU seconds of a command at the source."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        lab.command(SRC, argv), capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout + done.stderr, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def python(script: str) -> Callable[[Lab, list[str]], tuple[Rtts, float]]:
    """A tool that is a Python script."""

    def measure(lab: Lab, targets: list[str]) -> tuple[Rtts, float]:
        out, cpu_s = run(lab, [sys.executable, "-c", script, str(COUNT), str(PERIOD_MS), *targets])
        return dict(zip(targets, json.loads(out.splitlines()[-1]), strict=True)), cpu_s

    return measure


def fping(lab: Lab, targets: list[str]) -> tuple[Rtts, float]:
    """fping at 1 ms a packet, with its time-out set: in count mode it would take the period for one."""
    out, cpu_s = run(lab, ["fping", "-C", str(COUNT), "-q", "-i", "1", "-p", str(PERIOD_MS), "-t", "2000", *targets])
    rows = (line.split(":") for line in out.splitlines() if ":" in line)
    return {name.strip(): [None if field == "-" else float(field) * 1e6 for field in rtts.split()] for name, rtts in rows}, cpu_s


def ping(lab: Lab, targets: list[str]) -> tuple[Rtts, float]:
    """iputils' ping, 50 processes at once."""
    each = f"ping -n -c {COUNT} -i {PERIOD_MS / 1000} -W 2 {{}}"
    out, cpu_s = run(lab, ["sh", "-c", f"printf '%s\\n' {' '.join(targets)} | xargs -P 50 -I {{}} {each}"])
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for target, sequence, rtt in re.findall(r"from ([0-9.]+): icmp_seq=(\d+) .*time=([0-9.]+) ms", out):
        found[target][int(sequence)] = float(rtt) * 1e6
    return {target: [rtts.get(sequence) for sequence in range(1, COUNT + 1)] for target, rtts in found.items()}, cpu_s


TOOLS: dict[str, Callable[[Lab, list[str]], tuple[Rtts, float]]] = {
    "isochrone": python(OURS),
    "fping": fping,
    "ping": ping,
    "icmplib": python(ICMPLIB),
}


def judged(lab: Lab, name: str, targets: list[str], folder: Path) -> dict[str, Any]:
    """One tool under a capture: errors in us, what it lost though the capture has the reply, and its cost."""
    path = folder / f"{name}.pcap"
    dump_icmp = ["tcpdump", "-i", "any", "--time-stamp-precision=nano", "-B", "65536", "-U", "-w", str(path), "icmp"]
    with subprocess.Popen(lab.command(SRC, dump_icmp), stderr=subprocess.PIPE, text=True) as dump:
        assert dump.stderr is not None
        while "listening" not in dump.stderr.readline():
            if dump.poll() is not None:
                raise SystemExit("tcpdump does not run here; `apt-get install tcpdump`")
        began = time.monotonic()
        rtts, cpu_s = TOOLS[name](lab, targets)
        wall_s = time.monotonic() - began
        time.sleep(1.5)  # the capture is read in blocks; immediate mode would delay the very packets it stamps
        dump.send_signal(signal.SIGINT)
        dump.communicate(timeout=30)
    truth = echoes(path)
    pairs = [(ours, true) for target in targets for ours, true in zip(rtts.get(target, []), truth[target], strict=False) if true == true]  # noqa: PLR0124
    errors_us = sorted((ours - true) / 1e3 for ours, true in pairs if ours is not None)
    spread = sorted(abs(error) for error in errors_us)
    answered = sum(true == true for target in targets for true in truth[target])  # noqa: PLR0124
    return {
        "median_us": statistics.median(errors_us),
        "median_abs_us": statistics.median(spread),
        "p99_abs_us": spread[int(0.99 * (len(spread) - 1))],
        "falsely_lost": answered - len(errors_us),
        "packets": sum(len(sent) for sent in truth.values()),
        "cpu_us_per_packet": cpu_s * 1e6 / (COUNT * len(targets)),
        "seconds": wall_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=200, help="addresses pinged at once (default 200, at most 250)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        lab = start(builtin("demo-14"), Path(folder) / "lab", mode="namespaces", serving=False)
        try:
            base = ipaddress.ip_address(lab.address(SRC, DST) or "")
            targets = [str(base + number) for number in range(options.targets)]
            found = {name: judged(lab, name, targets, Path(folder)) for name in TOOLS if name != "fping" or shutil.which("fping")}
        finally:
            lab.stop()
    ours = found.pop("isochrone")
    document = {
        "claim": f"median distance of reported RTTs from a capture, {options.targets} targets at once, {COUNT} packets each",
        "ours": ours,
        "others": found,
        "ratio": {name: other["median_abs_us"] / ours["median_abs_us"] for name, other in found.items()},
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    print(document["claim"])
    for name, one in {"isochrone": ours, **found}.items():
        error = f"median {one['median_us']:10.1f} us  |median| {one['median_abs_us']:10.1f}  |p99| {one['p99_abs_us']:10.1f}"
        print(f"  {name:10} {error}  falsely lost {one['falsely_lost']}/{one['packets']}  {one['cpu_us_per_packet']:6.0f} us CPU a packet")


if __name__ == "__main__":
    main()
