"""Benchmark: the ping engine's error, rate, cost, wake-ups and memory, held against what is asked of it, fping, ping and icmplib.

accuracy  200 targets, 3 packets each, by every tool on a veth link of two namespaces: idle, beside 4 busy loops, and with the event
          loop blocked 20 of every 40 ms; and idle over a path of 158 ms in the lab. Truth is a nanosecond capture on the prober's
          own interface: the n-th RTT a tool reports for a target is held against the n-th echo of that target in the capture.
rate      20,000 probes/s from one process, raw and ping socket; then 5,000 targets at one packet per second each.
load      500 targets at one packet per second: share of a core, beside fping's.
idle      ten engines that have nothing to do while an eleventh process sends 40,000 probes: their wake-ups.
memory    a process with only the engine, opened, and after 500 targets.

    python bench/ping.py [--part accuracy|rate|load|idle|memory]... [--json]      (root: it makes namespaces; each part under 3 minutes)

CPU of a process that sends over veth or loopback includes the receiving end's network stack: compare tools, not machines.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ping_parts.link import ROOT, Link, addresses, busy_loops, capture, echoes, environment, veth
from ping_parts.tools import COUNT, HAVE_A_LOOP, PROBER, TOOLS, prober, run

from lab.topology import builtin
from lab.world import start

SRC, DST = "sin", "fra"


@dataclass
class Asked:
    """One figure and its limit. `least`: the limit is a least value, not a most."""

    figure: str
    value: float
    limit: float
    unit: str
    least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit


#: How often each kind of socket is measured at the full rate, by turns.
TURNS = 5


@dataclass
class Part:
    """What a part found: figures by run, and those something is asked of."""

    found: dict[str, Any]
    asked: list[Asked]


def judged(link: Link, name: str, targets: list[str], folder: Path, *, blocked: bool = False) -> dict[str, float]:
    """One tool under a capture: errors in us, and what it lost though the capture has the reply."""
    path = folder / f"{name}.pcap"
    with capture(link, path):
        rtts, cpu_s = TOOLS[name](link, targets, blocked=blocked)
    truth = echoes(path)
    path.unlink()
    pairs = [(ours, true) for target in targets for ours, true in zip(rtts.get(target, []), truth[target], strict=False) if true == true]  # noqa: PLR0124
    errors_us = sorted((ours - true) / 1e3 for ours, true in pairs if ours is not None)
    spread = sorted(abs(error) for error in errors_us)
    answered = sum(true == true for target in targets for true in truth[target])  # noqa: PLR0124
    return {
        "median_us": statistics.median(errors_us),
        "median_abs_us": statistics.median(spread),
        "p99_abs_us": spread[int(0.99 * (len(spread) - 1))],
        "falsely_lost": max(0, answered - len(errors_us)),
        "captured": answered,
        "cpu_us_per_packet": cpu_s * 1e6 / (COUNT * len(targets)),
    }


def accuracy(link: Link, folder: Path, count: int = 200) -> Part:
    """Every tool in every condition it can be in."""
    tools = [name for name in TOOLS if name not in {"fping", "ping"} or shutil.which(name)]
    targets = addresses(count)
    found: dict[str, dict[str, dict[str, float]]] = {}
    found["idle"] = {name: judged(link, name, targets, folder) for name in tools}
    with busy_loops(4):
        found["4 busy loops"] = {name: judged(link, name, targets, folder) for name in tools}
    found["loop blocked"] = {name: judged(link, name, targets, folder, blocked=True) for name in tools if name in HAVE_A_LOOP}
    lab = start(builtin("demo-14"), folder / "lab", mode="namespaces", serving=False)
    try:
        prefix = lab.command(SRC, ["true"])[:-1]
        base = ipaddress.ip_address(lab.address(SRC, DST) or "")
        far = [str(base + number) for number in range(count)]
        found["lab, 158 ms"] = {name: judged(Link(tuple(prefix), "any"), name, far, folder) for name in tools}
    finally:
        lab.stop()
    asked = []
    for where, by_tool in found.items():
        ours = by_tool["isochrone"]
        larger = {name: by_tool[name]["median_abs_us"] / ours["median_abs_us"] for name in by_tool}
        asked += [
            Asked(f"{where}: median error", ours["median_abs_us"], 2, "us"),
            Asked(f"{where}: p99 error", ours["p99_abs_us"], 10, "us"),
            Asked(f"{where}: falsely lost", ours["falsely_lost"], 0, "packets"),
            Asked(
                f"{where}: icmplib's error is larger", by_tool["icmplib"]["median_abs_us"] / ours["median_abs_us"], 20, "times", least=True
            ),
        ]
        if "fping" in by_tool:
            asked.append(Asked(f"{where}: fping's error is larger", larger["fping"], 1, "times", least=True))
    return Part(found, asked)


def rate(link: Link, _folder: Path) -> Part:
    """As fast as is asked, and as many targets as are asked."""
    found, asked = {}, []
    how = {"targets": addresses(1000), "count": 160, "interval_s": 0.05, "packets_per_s": 40_000, "spread": True, "rtts": False}
    turns = [{mode: prober(link, mode=mode, **how) for mode in ("raw", "dgram")} for _ in range(TURNS)]
    for mode in ("raw", "dgram"):
        runs = [turn[mode] for turn in turns]
        per_s = statistics.median(one["probes"] / one["wall_s"] for one in runs)
        cpu_us = [one["cpu_s"] * 1e6 / one["probes"] for one in runs]
        found[f"20,000/s, {mode}"] = {"runs": runs, "probes_per_s": per_s, "cpu_us_per_probe": cpu_us}
        asked += [
            Asked(f"{mode} socket, 20,000/s: rate", per_s, 19_000, "probes/s", least=True),
            Asked(f"{mode} socket, 20,000/s: falsely lost", sum(one["probes"] - one["answered"] for one in runs), 0, "probes"),
            Asked(f"{mode} socket, 20,000/s: CPU, median of {TURNS}", statistics.median(cpu_us), 20, "us a probe"),
        ]
    one = prober(link, targets=addresses(5000), count=5, rounds=3, interval_s=1, spread=True, rtts=False)
    found["5,000 targets at 1/s"] = one | {"core_percent": 100 * one["cpu_s"] / one["wall_s"]}
    asked.append(Asked("5,000 targets at 1/s: falsely lost", one["probes"] - one["answered"], 0, "probes"))
    asked.append(Asked("5,000 targets at 1/s: core", found["5,000 targets at 1/s"]["core_percent"], 100, "%"))
    if shutil.which("fping"):
        _, cpu_s = run(link, ["fping", "-C", "12", "-q", "-i", "0.05", "-p", "100", "-t", "2000", *addresses(1000)])
        found["fping, 10,000/s"] = {"cpu_us_per_probe": cpu_s * 1e6 / 12_000}
    return Part(found, asked)


def load(link: Link, _folder: Path) -> Part:
    """The reference load of an agent's ping."""
    one = prober(link, targets=addresses(500), count=10, rounds=3, interval_s=1, spread=True, rtts=False)
    percent = 100 * one["cpu_s"] / one["wall_s"]
    found = {"500 targets at 1/s": one | {"core_percent": percent, "cpu_us_per_probe": one["cpu_s"] * 1e6 / one["probes"]}}
    if shutil.which("fping"):
        _, cpu_s = run(link, ["fping", "-C", "15", "-q", "-i", "2", "-p", "1000", "-t", "2000", *addresses(500)])
        found["fping"] = {"core_percent": 100 * cpu_s / 15, "cpu_us_per_probe": cpu_s * 1e6 / 7500}
    asked = [
        Asked("500 targets at 1/s: core", percent, 3, "%"),
        Asked("500 targets at 1/s: falsely lost", one["probes"] - one["answered"], 0, "probes"),
    ]
    return Part(found, asked)


def status(pid: int) -> dict[str, int]:
    """Context switches and CPU ticks of a process so far."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return {"wakeups": int(lines["voluntary_ctxt_switches"]), "cpu_ticks": int(ticks[11]) + int(ticks[12])}


def settled(processes: list[subprocess.Popen[str]]) -> list[dict[str, int]]:
    """Their status once they have gone to sleep: the same twice, half a second apart."""
    before = [status(one.pid) for one in processes]
    for _ in range(20):
        time.sleep(0.5)
        now = [status(one.pid) for one in processes]
        if now == before:
            break
        before = now
    return before


def idle(link: Link, _folder: Path, engines: int = 10) -> Part:
    """Engines with nothing to do beside one that sends 40,000 probes."""
    found, asked = {}, []
    for mode in ("raw", "dgram"):
        argv = link.command([sys.executable, PROBER, json.dumps({"idle": True, "mode": mode})])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with contextlib.ExitStack() as stack:
            idlers = [stack.enter_context(subprocess.Popen(argv, cwd=ROOT, env=environment(), text=True, **pipes)) for _ in range(engines)]
            for one in idlers:
                assert one.stdout is not None
                one.stdout.readline()
            before = settled(idlers)
            sender = prober(link, targets=addresses(1000), count=40, interval_s=0.1, mode=mode, spread=True, rtts=False)
            after = [status(one.pid) for one in idlers]
            for one in idlers:
                assert one.stdin is not None
                one.stdin.close()
        wakeups = sum(late["wakeups"] - early["wakeups"] for early, late in zip(before, after, strict=True))
        ticks = sum(late["cpu_ticks"] - early["cpu_ticks"] for early, late in zip(before, after, strict=True))
        found[mode] = {"wakeups": wakeups, "cpu_s": ticks / os.sysconf("SC_CLK_TCK"), "foreign_probes": sender["probes"]}
        asked.append(Asked(f"ten idle engines, {mode} sockets: wake-ups", wakeups, 0, "in all"))
        asked.append(Asked(f"one sender beside them, {mode} sockets: falsely lost", sender["probes"] - sender["answered"], 0, "probes"))
    return Part(found, asked)


def memory(link: Link, _folder: Path) -> Part:
    """Resident memory of a process with only the engine."""
    few = prober(link, targets=addresses(1), count=1, interval_s=0.01, rtts=False)
    many = prober(link, targets=addresses(500), count=5, rounds=2, interval_s=1, spread=True, rtts=False)
    bare = json.loads(run(link, [sys.executable, "-c", _BARE])[0])
    found = {"opened": few["rss_mb"], "after 500 targets": many["rss_mb"], "Python with asyncio alone": bare}
    return Part(found, [Asked("engine opened and used: resident", few["rss_mb"]["end"], 25, "MB")])


_BARE = "import asyncio, json, pathlib; print(int(pathlib.Path('/proc/self/status').read_text().split('VmRSS:')[1].split()[0]) / 1024)"

PARTS: dict[str, Callable[[Link, Path], Part]] = {"accuracy": accuracy, "rate": rate, "load": load, "idle": idle, "memory": memory}


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """How many times larger the others' median error is, on the far path in the lab."""
    if "accuracy" not in found:
        return {}
    by_tool = found["accuracy"]["lab, 158 ms"]
    return {name: one["median_abs_us"] / by_tool["isochrone"]["median_abs_us"] for name, one in by_tool.items() if name != "isochrone"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), action="append", help="only this part; may be given more than once")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    parts: dict[str, Part] = {}
    with tempfile.TemporaryDirectory() as folder, veth() as link:
        Path(folder).chmod(0o777)
        for name in options.part or PARTS:
            parts[name] = PARTS[name](link, Path(folder))
            if not options.json:
                show(name, parts[name])
    found = {name: part.found for name, part in parts.items()}
    lab = found.get("accuracy", {}).get("lab, 158 ms", {})
    document = {
        "claim": "the ping engine is within 2 us of a capture in the median and 10 us at p99 under any load, at 20,000 probes/s on a core",
        "ours": {"accuracy": lab.get("isochrone")} | {name: one for name, one in found.items() if name != "accuracy"},
        "others": {name: one for name, one in lab.items() if name != "isochrone"},
        "ratio": ratios(found),
        "asked": [
            {"part": name, "figure": one.figure, "value": one.value, "limit": one.limit, "unit": one.unit, "pass": one.holds}
            for name, part in parts.items()
            for one in part.asked
        ],
        "parts": found,
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform(), "load": os.getloadavg()},
    }
    if options.json:
        print(json.dumps(document, indent=2))


def show(name: str, part: Part) -> None:
    """Every figure that something is asked of, and the tools beside each other."""
    print(f"{name} (load {os.getloadavg()[0]:.1f})")
    if name == "accuracy":
        for where, by_tool in part.found.items():
            for tool, one in by_tool.items():
                error = f"median {one['median_us']:9.1f} us  |median| {one['median_abs_us']:9.1f}  |p99| {one['p99_abs_us']:9.1f}"
                print(f"  {where:13} {tool:10} {error}  falsely lost {one['falsely_lost']}/{one['captured']}")
    else:
        for what, one in part.found.items():
            told = {key: value for key, value in one.items() if key not in {"rtts", "why", "runs"}} if isinstance(one, dict) else one
            print(f"  {what}: {json.dumps(told)}")
    for one in part.asked:
        relation = "at least" if one.least else "at most"
        print(f"  {'pass' if one.holds else 'MISS'}  {one.figure}: {one.value:.4g} {one.unit} (asked: {relation} {one.limit:g})")


if __name__ == "__main__":
    main()
