"""Benchmark: how far each tool's TCP round-trip times are from a nanosecond capture on the prober's own interface.

In the lab, a port at 200 addresses of one far site (about 158 ms) is connected to three times each by every tool, all
addresses at once. The capture tells each hand-shake's true RTT, from SYN to SYN-ACK; the n-th RTT a tool reports for a
target is held against the n-th hand-shake of that target. Ours reads the kernel's sample (TCP_INFO); `connect` is the
same connections by the clock of our process, as most probers time them; curl reports its time_connect.

    python bench/connect.py [--targets 200] [--json]        (needs the lab's namespaces; curl is left out where it is missing)
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from capture import capture, packets

from lab.topology import builtin
from lab.world import Lab, start

COUNT = 3
PORT = 8444
SRC, DST = "sin", "fra"
ROOT = Path(__file__).parents[1]

SERVER = """
import socket, sys
server = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=4096)
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""

OURS = """
import asyncio, json, sys
from probes.http import HttpConfig, HttpProbe
from probes.model import Target, Vantage
async def main():
    probe, vantage = HttpProbe(HttpConfig()), Vantage(agent="bench", site="sin", boot="b")
    await probe.open()
    whom = [Target(site="fra", address=a, http_url=f"tcp://{a}:{sys.argv[2]}") for a in sys.argv[3:]]
    rounds = []
    for _ in range(int(sys.argv[1])):
        rounds.append([lines[0] for lines in await asyncio.gather(*(probe.once(target, vantage) for target in whom))])
        await asyncio.sleep(0.2)
    await probe.close()
    print(json.dumps({"isochrone": [[r.tcp_rtt_ns for r in some] for some in zip(*rounds)],
                      "connect": [[r.tcp_ns for r in some] for some in zip(*rounds)]}))
asyncio.run(main())
"""

Rtts = dict[str, list[float | None]]


def hand_shakes(path: Path) -> dict[str, list[float]]:
    """True RTTs in ns by target, in the order of the SYNs, from a nanosecond capture of Ethernet or raw IPv4 frames."""
    sent: dict[tuple[str, int], tuple[int, int]] = {}
    found: dict[str, list[float]] = defaultdict(list)
    for at_ns, packet in packets(path):
        if len(packet) < 40 or packet[9] != 6:
            continue
        source, destination, flags = *struct.unpack_from("!HH", packet, 20), packet[33]
        if flags & 0x12 == 0x02 and destination == PORT:
            target = str(ipaddress.ip_address(packet[16:20]))
            if (target, source) not in sent:
                sent[target, source] = at_ns, len(found[target])
                found[target].append(float("nan"))
        elif flags & 0x12 == 0x12 and source == PORT:
            target = str(ipaddress.ip_address(packet[12:16]))
            if (target, destination) in sent:
                began_ns, number = sent[target, destination]
                found[target][number] = at_ns - began_ns
    return found


def run(lab: Lab, argv: list[str]) -> str:
    """Output of a command at the source."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(lab.command(SRC, argv), capture_output=True, text=True, check=False, cwd=ROOT, env=environment).stdout


def ours(lab: Lab, targets: list[str]) -> dict[str, Rtts]:
    """The kernel's RTT, and the clock of our process, of the same connections."""
    said = json.loads(run(lab, [sys.executable, "-c", OURS, str(COUNT), str(PORT), *targets]).splitlines()[-1])
    return {name: dict(zip(targets, rtts, strict=True)) for name, rtts in said.items()}


def curl(lab: Lab, targets: list[str]) -> dict[str, Rtts]:
    """curl, 50 processes at once; the server's closing is its failure and does not touch time_connect."""
    each = f"curl -s -o /dev/null -w '%{{remote_ip}} %{{time_connect}}\\n' --connect-timeout 5 http://{{}}:{PORT}/"
    again = " ".join(target for _ in range(COUNT) for target in targets)
    found: Rtts = defaultdict(list)
    for line in run(lab, ["sh", "-c", f"printf '%s\\n' {again} | xargs -P 50 -I {{}} {each}"]).splitlines():
        target, seconds = line.split()
        found[target].append(float(seconds) * 1e9 if float(seconds) > 0 else None)
    return {"curl": found}


def judged(lab: Lab, targets: list[str], folder: Path, *, tool: str) -> dict[str, Any]:
    """One tool under a capture: by name of what it reports, errors in us and how many were timed."""
    path = folder / f"{tool}.pcap"
    with capture(lambda argv: lab.command(SRC, argv), path, interface="any", keep=f"tcp port {PORT}"):
        reported = {"ours": ours, "curl": curl}[tool](lab, targets)
    truth = hand_shakes(path)
    return {name: _errors(rtts, truth, targets) for name, rtts in reported.items()}


def _errors(rtts: Rtts, truth: dict[str, list[float]], targets: list[str]) -> dict[str, Any]:
    pairs = [(rtt, true) for target in targets for rtt, true in zip(rtts.get(target, []), truth[target], strict=False) if true == true]  # noqa: PLR0124
    errors_us = sorted((rtt - true) / 1e3 for rtt, true in pairs if rtt is not None)
    spread = sorted(abs(error) for error in errors_us)
    return {
        "median_us": statistics.median(errors_us),
        "median_abs_us": statistics.median(spread),
        "p99_abs_us": spread[int(0.99 * (len(spread) - 1))],
        "timed": len(errors_us),
        "connections": sum(map(len, truth.values())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=200, help="addresses connected to at once (default 200, at most 250)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        lab = start(builtin("demo-14"), Path(folder) / "lab", mode="namespaces", serving=False)
        server = subprocess.Popen(lab.command(DST, [sys.executable, "-c", SERVER, str(PORT)]), stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            server.stdout.readline()
            base = ipaddress.ip_address(lab.address(SRC, DST) or "")
            targets = [str(base + number) for number in range(options.targets)]
            found = judged(lab, targets, Path(folder), tool="ours")
            if shutil.which("curl"):
                found |= judged(lab, targets, Path(folder), tool="curl")
        finally:
            server.kill()
            server.communicate()
            lab.stop()
    mine = found.pop("isochrone")
    document = {
        "claim": f"median distance of reported TCP RTTs from a capture, {options.targets} targets at once, {COUNT} connections each",
        "ours": mine,
        "others": found,
        "ratio": {name: other["median_abs_us"] / mine["median_abs_us"] for name, other in found.items()},
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    print(document["claim"])
    for name, one in {"isochrone": mine, **found}.items():
        error = f"median {one['median_us']:10.1f} us  |median| {one['median_abs_us']:10.1f}  |p99| {one['p99_abs_us']:10.1f}"
        print(f"  {name:10} {error}  timed {one['timed']}/{one['connections']}")


if __name__ == "__main__":
    main()
