"""Benchmark: wall time to trace many targets at once, and how many of the paths found are the lab's true ones.

In a lab of 12 hops, addresses of the far site are traced once each, in four conditions:

clean      every router answers
silent     two routers never answer
far        80 ms more in each direction
limited    every router sends at most 100 ICMP errors a second

Ours keeps to its default of 1,000 packets/s, which routers' limits ask for; `ours_4000` lifts that. Every tool runs at its
fastest that still waits a second for an answer: mtr and traceroute as one process per target, all at once; scamper as one
process at 4,000 packets/s, and under the limit at 1,000, as ours. `seconds` is the whole process; of ours
`engine_seconds` leaves Python's start out.

    apt-get install mtr-tiny scamper traceroute     (tools that are missing are left out)
    python bench/traceroute.py [--targets 100] [--only clean,silent,far,limited] [--json]     (needs the lab's namespaces)
"""

from __future__ import annotations

import argparse
import ipaddress
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.links import Change
from lab.namespace_lab import NamespaceLab
from lab.reading import parse_text
from lab.routers import RouterChange
from lab.topology import Topology
from lab.world import start

SRC, DST = "near", "away"
ROUTERS = 11
SILENT = ("r4", "r8")
ROOT = Path(__file__).parents[1]
Paths = dict[str, list[str | None]]

OURS = """
import asyncio, json, sys, time
from probes.traceroute import TracerouteEngine
async def main():
    engine = TracerouteEngine("icmp", packets_per_s=int(sys.argv[1]))
    await engine.open()
    began = time.monotonic()
    found = await asyncio.gather(*(engine.trace(address) for address in sys.argv[2:]))
    seconds = time.monotonic() - began
    print(json.dumps([seconds, engine.counters.sent, [[hop.address for hop in one.hops] for one in found]]))
asyncio.run(main())
"""


def world() -> Topology:
    """Two sites, eleven routers in a row between them, 2 ms a link."""
    nodes = [SRC, *(f"r{n}" for n in range(1, ROUTERS + 1)), DST]
    sites = "".join(f'{{ id = "{site}", kind = "pop", name = "{site}", lat = 0, lon = 0 }},' for site in (SRC, DST))
    routers = "".join(f'{{ id = "{router}", medium = "internet" }},' for router in nodes[1:-1])
    links = "".join(f'{{ between = ["{a}", "{b}"], delay_ms = 2 }},' for a, b in itertools.pairwise(nodes))
    return parse_text(f'name = "row"\nsites = [{sites}]\nrouters = [{routers}]\nlinks = [{links}]\n', "row.toml")


def run(lab: NamespaceLab, argv: list[str]) -> str:
    """Standard output of a command at the source."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(lab.command(SRC, argv), capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=120)
    return done.stdout


def ours(packets_per_s: int) -> Callable[[NamespaceLab, list[str], dict[str, Any]], Paths]:
    """Our engine at a rate."""

    def trace(lab: NamespaceLab, targets: list[str], told: dict[str, Any]) -> Paths:
        out = run(lab, [sys.executable, "-c", OURS, str(packets_per_s), *targets])
        told["engine_seconds"], told["packets"], found = json.loads(out.splitlines()[-1])
        return dict(zip(targets, found, strict=True))

    return trace


def per_process(command: str) -> Callable[[NamespaceLab, list[str], dict[str, Any]], Paths]:
    """A tool that traces one target per process: all of them at once, each hop line starting with its number."""

    def trace(lab: NamespaceLab, targets: list[str], _told: dict[str, Any]) -> Paths:
        each = f"{command} </dev/null | sed 's/^/{{}} /'"
        out = run(lab, ["sh", "-c", f"printf '%s\\n' {' '.join(targets)} | xargs -P {len(targets)} -I {{}} sh -c \"{each}\""])
        found: Paths = {}
        for target, hop in re.findall(r"^([0-9.]+) +\d+[.| -]+([0-9][0-9.]+|\*|\?\?\?)", out, re.MULTILINE):
            found.setdefault(target, []).append(hop if hop[0].isdigit() else None)
        return found

    return trace


def scamper(packets_per_s: int) -> Callable[[NamespaceLab, list[str], dict[str, Any]], Paths]:
    """One scamper for all targets; two attempts a hop, as ours."""

    def trace(lab: NamespaceLab, targets: list[str], _told: dict[str, Any]) -> Paths:
        command = "trace -P icmp-paris -w 1 -q 2 -g 8"
        out = run(lab, ["scamper", "-p", str(packets_per_s), "-w", str(len(targets)), "-c", command, "-i", *targets])
        found: Paths = {}
        target = ""
        for line in out.splitlines():
            if head := re.match(r"traceroute from \S+ to (\S+)", line):
                target = head[1]
                found[target] = []
            elif hop := re.match(r" *\d+ +(\S+)", line):
                found[target].append(None if hop[1] == "*" else hop[1])
        return found

    return trace


def tools(is_limited: bool) -> dict[str, Callable[[NamespaceLab, list[str], dict[str, Any]], Paths]]:
    """The others, each with its command."""
    return {
        "mtr": per_process("mtr -n -r -c 1 -i 0.1 -G 1 -Z 1 {}"),
        "traceroute": per_process("traceroute -n -I -q 1 -w 1 {}"),
        "scamper": scamper(1000 if is_limited else 4000),
    }


def judged(lab: NamespaceLab, trace: Callable[..., Paths], targets: list[str], hops: list[str | None]) -> dict[str, Any]:
    """Seconds, and how many paths equal the lab's truth, hop by hop."""
    told: dict[str, Any] = {}
    began = time.monotonic()
    found = trace(lab, targets, told)
    seconds = time.monotonic() - began
    whole = sum(found.get(target) == [*hops[:-1], target] for target in targets)
    return {"seconds": round(seconds, 3), **told, "true_paths": whole, "targets": len(targets)}


def condition(lab: NamespaceLab, name: str) -> None:
    """Bring the lab into a condition, from whatever it was in."""
    for n in range(1, ROUTERS + 1):
        lab.change_router(f"r{n}", RouterChange(op="restore"))
    lab.change("r6", "r7", Change(op="restore"))
    if name == "silent":
        for router in SILENT:
            lab.change_router(router, RouterChange(op="set", silent=True))
    elif name == "far":
        lab.change("r6", "r7", Change(op="degrade", delay_ns=82_000_000))
    elif name == "limited":
        for n in range(1, ROUTERS + 1):
            lab.change_router(f"r{n}", RouterChange(op="set", icmp_per_s=100))


def case(lab: NamespaceLab, name: str, count: int) -> dict[str, Any]:
    """One condition: ours at both rates, then the others."""
    condition(lab, name)
    truth = next(pair for pair in lab.truth() if (pair.src, pair.dst) == (SRC, DST))
    base = ipaddress.ip_address(truth.address)
    targets = [str(base + number) for number in range(count)]
    hops = [None if node in truth.silent else hop for node, hop in zip(truth.nodes, truth.hops, strict=True)]
    found: dict[str, Any] = {"ours": judged(lab, ours(1000), targets, hops), "ours_4000": judged(lab, ours(4000), targets, hops)}
    time.sleep(0.2)  # the routers' buckets fill up again
    found["others"] = {
        tool: judged(lab, trace, targets, hops) if shutil.which(tool) else None for tool, trace in tools(name == "limited").items()
    }
    mine = found["ours" if name == "limited" else "ours_4000"]["seconds"]
    found["ratio"] = {tool: round(other["seconds"] / mine, 2) for tool, other in found["others"].items() if other is not None}
    return found


CASES = ("clean", "silent", "far", "limited")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=100, help="addresses traced at once (default 100, at most 250)")
    parser.add_argument("--only", default=",".join(CASES), help="conditions, with commas between them (default: all)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lab = start(world(), Path(folder) / "lab", mode="namespaces", serving=False)
        assert isinstance(lab, NamespaceLab)
        try:
            cases = {name: case(lab, name, options.targets) for name in options.only.split(",")}
        finally:
            lab.stop()
    first = next(iter(cases.values()))
    document = {
        "claim": f"wall time to trace {options.targets} targets of {ROUTERS + 1} hops at once, and true paths",
        "ours": first["ours_4000"],
        "others": first["others"],
        "ratio": first["ratio"],
        "cases": cases,
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    print(document["claim"])
    for name, found in cases.items():
        print(f"{name}:")
        for who, one in {"isochrone": found["ours"], "at 4000/s": found["ours_4000"], **found["others"]}.items():
            engine = f"  engine {one['engine_seconds']:.2f} s, {one['packets']} packets" if one and "engine_seconds" in one else ""
            said = "not installed here"
            if one is not None:
                said = f"{one['seconds']:6.2f} s  true paths {one['true_paths']}/{one['targets']}{engine}"
            print(f"  {who:10} {said}")


if __name__ == "__main__":
    main()
