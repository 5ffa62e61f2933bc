"""The tools the ping benchmark compares: each pings every target COUNT times and says its RTTs in ns."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from ping_parts.link import ROOT, Link, environment

COUNT = 3
PERIOD_MS = 400
PROBER = str(Path(__file__).with_name("prober.py"))

ICMPLIB = """
import asyncio, json, sys, time, icmplib
async def main():
    async def blocker():
        while True:
            time.sleep(0.02)
            await asyncio.sleep(0.02)
    task = asyncio.create_task(blocker()) if sys.argv[3] == "blocked" else None
    how = {"count": int(sys.argv[1]), "interval": int(sys.argv[2]) / 1000, "timeout": 2}
    hosts = await icmplib.async_multiping(sys.argv[4:], **how)
    print(json.dumps([[rtt * 1e6 for rtt in host.rtts] if host.packets_received == host.packets_sent else [] for host in hosts]))
asyncio.run(main())
"""

Rtts = dict[str, list[float | None]]


def run(link: Link, argv: Sequence[str], timeout_s: float = 120) -> tuple[str, float]:
    """Output and CPU seconds of a command at the near end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(link.command(argv), capture_output=True, text=True, check=False, cwd=ROOT, env=environment(), timeout=timeout_s)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout + done.stderr, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prober(link: Link, **asked: object) -> dict:
    """One run of our engine in a process of its own; see prober.py."""
    out, _ = run(link, [sys.executable, PROBER, json.dumps(asked)])
    try:
        return json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        raise SystemExit(f"the prober failed:\n{out}") from None


def isochrone(link: Link, targets: list[str], *, blocked: bool) -> tuple[Rtts, float]:
    found = prober(link, targets=targets, count=COUNT, interval_s=PERIOD_MS / 1000, packets_per_s=1000, blocked=blocked)
    return found["rtts"], found["cpu_s"]


def icmplib(link: Link, targets: list[str], *, blocked: bool) -> tuple[Rtts, float]:
    out, cpu_s = run(link, [sys.executable, "-c", ICMPLIB, str(COUNT), str(PERIOD_MS), "blocked" if blocked else "", *targets])
    return dict(zip(targets, json.loads(out.splitlines()[-1]), strict=True)), cpu_s


def fping(link: Link, targets: list[str], *, blocked: bool) -> tuple[Rtts, float]:
    """fping at 1 ms a packet, with its time-out set: in count mode it would take the period for one."""
    assert not blocked, "it has no event loop"
    out, cpu_s = run(link, ["fping", "-C", str(COUNT), "-q", "-i", "1", "-p", str(PERIOD_MS), "-t", "2000", *targets])
    rows = (line.split(":") for line in out.splitlines() if ":" in line)
    return {name.strip(): [None if field == "-" else float(field) * 1e6 for field in rtts.split()] for name, rtts in rows}, cpu_s


def ping(link: Link, targets: list[str], *, blocked: bool) -> tuple[Rtts, float]:
    """iputils' ping, 50 processes at once."""
    assert not blocked, "it has no event loop"
    each = f"ping -n -c {COUNT} -i {PERIOD_MS / 1000} -W 2 {{}}"
    out, cpu_s = run(link, ["sh", "-c", f"printf '%s\\n' {' '.join(targets)} | xargs -P 50 -I {{}} {each}"])
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for target, sequence, rtt in re.findall(r"from ([0-9.]+): icmp_seq=(\d+) .*time=([0-9.]+) ms", out):
        found[target][int(sequence)] = float(rtt) * 1e6
    return {target: [rtts.get(sequence) for sequence in range(1, COUNT + 1)] for target, rtts in found.items()}, cpu_s


TOOLS: dict[str, Callable[..., tuple[Rtts, float]]] = {"isochrone": isochrone, "fping": fping, "ping": ping, "icmplib": icmplib}
#: Those with an event loop that can be blocked.
HAVE_A_LOOP = ("isochrone", "icmplib")
