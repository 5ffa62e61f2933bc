"""Benchmark: what an estimate of throughput costs and how far off it is, beside a full iperf3 test over the same path.

In the lab two hosts 20 ms apart are joined by a link of 10 to 500 Mbit/s. At each rate: a full iperf3 test of 4 s, and both
kinds of estimate (a short BBR transfer, trains of UDP packets), several times, up and down. The truth is the link's set rate
of IP packets times TCP's share of a full one (1448 of 1500 bytes): what iperf3 counts. Errors are the worst of the runs.
Ratio: how many times fewer bytes an estimate takes.

    python bench/throughput.py [--runs 3] [--json]     (needs the lab's namespaces and iperf3; no packet leaves them)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab.reading import parse_text
from lab.world import Lab, start

ROOT = Path(__file__).parents[1]
RATES_MBPS = (10, 50, 100, 250, 500)
PAYLOAD_SHARE = 1448 / 1500
FULL_S = 4

WORLD = """
name = "bench"
sites = [
    { id = "a", kind = "pop", name = "A", lat = 0, lon = 0 },
    { id = "b", kind = "pop", name = "B", lat = 0, lon = 9 },
]
routers = [{ id = "r", medium = "internet" }]
links = [{ between = ["a", "r"], delay_ms = 1 }, { between = ["r", "b"], delay_ms = 9, rate = "RATEMbit/s" }]
"""

#: The serving end of the agent: iperf3, and beside it the server of estimates.
SERVE = """
import asyncio
from probes.throughput import ThroughputServer
async def main():
    server = ThroughputServer("0.0.0.0", 5201)
    await server.start()
    print("ready", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def at(lab: Lab, site: str, argv: list[str]) -> str:
    """Standard output of a command at a site."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(lab.command(site, argv), capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=120)
    return done.stdout


def estimates(lab: Lab, address: str, kind: str, runs: int) -> list[dict[str, Any]]:
    """Summaries of that many estimates up and down."""
    made = []
    for _ in range(runs):
        out = at(lab, "a", [sys.executable, "-m", "app.cli", "throughput", address, "--estimate", kind, "--json"])
        made += [one["summary"] for one in json.loads(out)]
    return made


def full(lab: Lab, address: str, reverse: bool) -> tuple[float, int]:
    """(Mbit/s, bytes) of an iperf3 test, by its receiver."""
    argv = ["iperf3", "-c", address, "-J", "-t", str(FULL_S), "-C", "bbr", *(["-R"] if reverse else [])]
    said: dict[str, Any] = {}
    for _ in range(5):  # iperf3's server needs a moment between two tests
        said = json.loads(at(lab, "a", argv))
        if received := said.get("end", {}).get("sum_received"):
            return received["bits_per_second"] / 1e6, received["bytes"]
        time.sleep(1)
    raise SystemExit(f"iperf3 gave no result: {said.get('error')}")


def measure(rate_mbps: int, runs: int) -> dict[str, Any]:
    """One rate: the full tests and both estimates, errors in percent of the truth."""
    truth_mbps = rate_mbps * PAYLOAD_SHARE
    with tempfile.TemporaryDirectory() as folder:
        lab = start(parse_text(WORLD.replace("RATE", str(rate_mbps)), "bench.toml"), Path(folder), "namespaces", serving=False)
        try:
            address = next(pair.address for pair in lab.truth() if pair.src == "a")
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            argv = lab.command("b", [sys.executable, "-c", SERVE])
            with subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
                assert server.stdout is not None
                try:
                    assert server.stdout.readline().strip() == "ready"
                    rates, sizes = zip(*(full(lab, address, reverse) for reverse in (False, True)), strict=True)
                    found: dict[str, Any] = {
                        "set_mbps": rate_mbps,
                        "iperf3": {
                            "mbps": statistics.mean(rates),
                            "bytes": statistics.mean(sizes),
                            "error_percent": _error(rates, truth_mbps),
                        },
                    }
                    for kind in ("sample", "train"):
                        made = estimates(lab, address, kind, runs)
                        known = [one["throughput_mbps"] for one in made if one["throughput_mbps"] is not None]
                        most = max(one["spent_bytes"] or 0 for one in made)
                        found[kind] = {
                            "mbps": statistics.median(known),
                            "error_percent": _error(known, truth_mbps),
                            "below_set_rate_percent": 100 * max(abs(one / rate_mbps - 1) for one in known),
                            "most_bytes": most,
                            "bytes_ratio": statistics.mean(sizes) / statistics.mean(one["spent_bytes"] for one in made),
                            "failed": len(made) - len(known),
                        }
                finally:
                    server.terminate()
                    server.wait(10)
        finally:
            lab.stop()
    return found


def _error(rates: Any, truth: float) -> float:
    """The worst of them, in percent of the truth."""
    return 100 * max(abs(rate / truth - 1) for rate in rates)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rates", type=int, nargs="*", default=list(RATES_MBPS))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [measure(rate, given.runs) for rate in given.rates]
    document = {
        "claim": "an estimate is within 5 % of the path's rate for at most 12 MB",
        "ours": {
            "worst_error_percent": {kind: max(row[kind]["error_percent"] for row in rows) for kind in ("sample", "train")},
            "most_bytes": {kind: max(row[kind]["most_bytes"] for row in rows) for kind in ("sample", "train")},
            "rates": rows,
        },
        "others": {"iperf3": {"bytes": {row["set_mbps"]: row["iperf3"]["bytes"] for row in rows}}},
        "ratio": {f"iperf3_bytes_{kind}": min(row[kind]["bytes_ratio"] for row in rows) for kind in ("sample", "train")},
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
    }
    if given.json:
        print(json.dumps(document, indent=2))
        return
    print(
        f"{'set':>5}  {'iperf3':>8} {'err %':>6} {'MB':>7}   "
        + "   ".join(f"{kind:>8} {'err %':>6} {'MB':>6} {'fewer':>6}" for kind in ("sample", "train"))
    )
    for row in rows:
        parts = [
            f"{row[k]['mbps']:8.2f} {row[k]['error_percent']:6.2f} {row[k]['most_bytes'] / 1e6:6.2f} {row[k]['bytes_ratio']:6.1f}"
            for k in ("sample", "train")
        ]
        one = row["iperf3"]
        print(f"{row['set_mbps']:>5}  {one['mbps']:8.2f} {one['error_percent']:6.2f} {one['bytes'] / 1e6:7.1f}   " + "   ".join(parts))


if __name__ == "__main__":
    main()
