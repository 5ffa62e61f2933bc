"""Benchmark: wall time to trace many targets at once, and how many of the paths found are the lab's true ones.

In the lab, addresses of one far site (nine hops, about 158 ms) are traced once each. Every tool runs at its fastest
that still waits for a far target: mtr and traceroute as one process per target, all at once. Ours keeps to its
default of 1,000 packets/s, which routers' ICMP limits ask for; `ours_4000` lifts that.

    python bench/traceroute.py [--targets 50] [--json]     (needs the lab's namespaces; tools that are missing are left out)
"""

from __future__ import annotations

import argparse
import ipaddress
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

from lab.topology import builtin
from lab.world import Lab, start

SRC, DST = "sin", "fra"
ROOT = Path(__file__).parents[1]
Paths = dict[str, list[str | None]]

OURS = """
import asyncio, json, sys
from probes.traceroute import TracerouteEngine
async def main():
    engine = TracerouteEngine("icmp", packets_per_s=int(sys.argv[1]))
    await engine.open()
    found = await asyncio.gather(*(engine.trace(address) for address in sys.argv[2:]))
    print(json.dumps([[hop.address for hop in one.hops] for one in found]))
asyncio.run(main())
"""


def run(lab: Lab, argv: list[str]) -> str:
    """Standard output of a command at the source."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(lab.command(SRC, argv), capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=300)
    return done.stdout


def ours(packets_per_s: int) -> Callable[[Lab, list[str]], Paths]:
    """Our engine at a rate."""

    def trace(lab: Lab, targets: list[str]) -> Paths:
        out = run(lab, [sys.executable, "-c", OURS, str(packets_per_s), *targets])
        return dict(zip(targets, json.loads(out.splitlines()[-1]), strict=True))

    return trace


def per_process(command: str) -> Callable[[Lab, list[str]], Paths]:
    """A tool that traces one target per process: all of them at once, each hop line starting with its number."""

    def trace(lab: Lab, targets: list[str]) -> Paths:
        each = f"{command} </dev/null | sed 's/^/{{}} /'"
        out = run(lab, ["sh", "-c", f"printf '%s\\n' {' '.join(targets)} | xargs -P {len(targets)} -I {{}} sh -c \"{each}\""])
        found: Paths = {}
        for target, hop in re.findall(r"^([0-9.]+) +\d+[.| -]+([0-9][0-9.]+|\*|\?\?\?)", out, re.MULTILINE):
            found.setdefault(target, []).append(hop if hop[0].isdigit() else None)
        return found

    return trace


TOOLS: dict[str, tuple[str, Callable[[Lab, list[str]], Paths]]] = {
    "mtr": ("mtr", per_process("mtr -n -r -c 1 -i 0.1 -G 1 -Z 1 {}")),
    "traceroute": ("traceroute", per_process("traceroute -n -I -q 1 -w 1 {}")),
    "scamper": ("scamper", per_process("scamper -I 'trace -P icmp-paris -w 1 -q 1 {}'")),
}


def judged(lab: Lab, trace: Callable[[Lab, list[str]], Paths], targets: list[str], hops: tuple[str, ...]) -> dict[str, Any]:
    """Seconds and the share of paths equal to the lab's truth, hop by hop."""
    began = time.monotonic()
    found = trace(lab, targets)
    seconds = time.monotonic() - began
    whole = sum(found.get(target) == [*hops[:-1], target] for target in targets)
    return {"seconds": seconds, "true_paths": whole, "targets": len(targets)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=50, help="addresses traced at once (default 50, at most 250)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lab = start(builtin("demo-14"), Path(folder) / "lab", mode="namespaces", serving=False)
        try:
            truth = next(pair for pair in lab.truth() if (pair.src, pair.dst, pair.medium) == (SRC, DST, "internet"))
            base = ipaddress.ip_address(truth.address)
            targets = [str(base + number) for number in range(options.targets)]
            mine = judged(lab, ours(1000), targets, truth.hops)
            fast = judged(lab, ours(4000), targets, truth.hops)
            others = {
                name: judged(lab, trace, targets, truth.hops) if shutil.which(tool) else None for name, (tool, trace) in TOOLS.items()
            }
        finally:
            lab.stop()
    document = {
        "claim": f"wall time to trace {options.targets} targets of {len(truth.hops)} hops at once",
        "ours": mine,
        "ours_4000": fast,
        "others": others,
        "ratio": {name: other["seconds"] / mine["seconds"] for name, other in others.items() if other is not None},
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    print(document["claim"])
    for name, one in {"isochrone": mine, "at 4000/s": fast, **others}.items():
        print(
            f"  {name:10} "
            + ("not installed here" if one is None else f"{one['seconds']:6.2f} s  true paths {one['true_paths']}/{one['targets']}")
        )


if __name__ == "__main__":
    main()
