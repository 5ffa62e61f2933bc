"""Benchmark: seconds to bring a lab of 40 hosts up and down, and what is left of it afterwards.

From the start of `isochrone lab up` until it returns, and of `lab down`; the same after kill -9 of the lab's process, when
the next `lab down` or the next `lab up` clears away. Beside it: 40 namespaces on a bridge by hand, as few iproute2 calls
as that takes.

    python bench/lab_hosts.py [--hosts 40] [--runs 5] [--json]        (needs the lab's namespaces; no packet leaves them)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lab import namespaces
from lab.state import LabState, process_start, runtime_dir

ROOT = Path(__file__).parents[1]


def median(rows: list[dict[str, float]]) -> dict[str, float]:
    """Key by key."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def world_of(hosts: int) -> str:
    """A world of that many hosts, each behind a router of its own, and eight core routers that all join."""
    sites = [f'    {{ id = "s{n}", kind = "pop", name = "S{n}", lat = {n}, lon = {n} }},' for n in range(hosts)]
    routers = [f'    {{ id = "{r}", medium = "internet" }},' for r in (*(f"e{n}" for n in range(hosts)), *(f"c{n}" for n in range(8)))]
    links = [
        f'    {{ between = ["s{n}", "e{n}"], delay_ms = 0.1 }}, {{ between = ["e{n}", "c{n % 8}"], delay_ms = 1 }},' for n in range(hosts)
    ]
    links += [f'    {{ between = ["c{a}", "c{b}"], delay_ms = {5 + a + b} }},' for a in range(8) for b in range(a)]
    return "\n".join(['name = "many"', "sites = [", *sites, "]", "routers = [", *routers, "]", "links = [", *links, "]"])


def isochrone(*argv: str) -> float:
    """Run the command; how long it took."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "app.cli", *argv], cwd=ROOT, check=False, capture_output=True, text=True, timeout=200)
    if done.returncode:
        raise SystemExit(f"isochrone {' '.join(argv)}: {done.stderr.strip()}")
    return time.monotonic() - began


def remains(state: LabState) -> int:
    """How many namespaces, processes, sockets and registrations of a lab are there."""
    left: list[object] = list(namespaces.existing(state.prefix))
    left += [pid for pid in (state.pid, *state.servers.values()) if process_start(pid) is not None]
    left += namespaces.processes_in(state.inodes) if left else []
    left += [path for path in (state.control, runtime_dir() / "labs" / state.id, Path(state.state_dir) / "lab.json") if path.exists()]
    return len(left)


def kill(state: LabState) -> None:
    """kill -9 the lab's process and see it gone."""
    os.kill(state.pid, signal.SIGKILL)
    while state.alive:
        time.sleep(0.01)


def by_hand(hosts: int) -> dict[str, float]:
    """Namespaces on a bridge, without routers, delays or addresses of more than one kind."""
    tag = f"isohand{os.getpid()}"
    hub, names = f"{tag}hub", [f"{tag}n{n}" for n in range(hosts)]
    up = [f"netns add {name}" for name in (hub, *names)]
    more = ["link add br0 type bridge", "link set br0 up"]
    for n, name in enumerate(names):
        more += [f"link add p{n} type veth peer name wan0 netns {name}", f"link set p{n} master br0 up"]
    began = time.monotonic()
    subprocess.run(["ip", "-batch", "-"], input="\n".join(up), text=True, check=True)
    subprocess.run(["ip", "-n", hub, "-batch", "-"], input="\n".join(more), text=True, check=True)
    for n, name in enumerate(names):
        inside = f"link set lo up\naddress add 10.0.{n}.1/16 dev wan0\nlink set wan0 up"
        subprocess.run(["ip", "-n", name, "-batch", "-"], input=inside, text=True, check=True)
    made = time.monotonic()
    namespaces.delete([hub, *names])
    return {"up_s": made - began, "down_s": time.monotonic() - made}


def up(world: Path, place: Path) -> tuple[float, LabState]:
    """Bring a lab up: how long it took, and its state."""
    took_s = isochrone("lab", "up", str(world), "--no-serving", "--state-dir", str(place))
    state = LabState.read(place)
    assert state is not None
    return took_s, state


def life(hosts: int, folder: Path) -> dict[str, float]:
    """One run: up and down, up and killed and down, up and killed and up elsewhere."""
    world, place, elsewhere = folder / "many.toml", folder / "state", folder / "elsewhere"
    world.write_text(world_of(hosts))
    row = {}
    row["up_s"], state = up(world, place)
    row["made"] = float(len(namespaces.existing(state.prefix)))
    row["down_s"] = isochrone("lab", "down", "--state-dir", str(place))
    row["left"] = remains(state)
    _, state = up(world, place)
    kill(state)
    row["down_after_kill_s"] = isochrone("lab", "down", "--state-dir", str(place))
    row["left_after_kill_and_down"] = remains(state)
    _, state = up(world, place)
    kill(state)
    row["up_after_kill_s"], _ = up(world, elsewhere)
    row["left_after_kill_and_up"] = remains(state)
    isochrone("lab", "down", "--state-dir", str(elsewhere))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=40, help="how many (default 40, at most 200)")
    parser.add_argument("--runs", type=int, default=5, help="of which the median counts (default 5)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows, others = [], []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(life(options.hosts, Path(folder)))
        others.append(by_hand(options.hosts))
    ours, other = median(rows), median(others)
    document = {
        "claim": f"{options.hosts} hosts up and down, and nothing left, also after kill -9",
        "ours": ours,
        "others": {"ip_batch_and_bridge": other},
        "ratio": {"ip_batch_and_bridge": (other["up_s"] + other["down_s"]) / (ours["up_s"] + ours["down_s"])},
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    print(document["claim"])
    for name, figures in {"isochrone": ours, "ip_batch_and_bridge": other}.items():
        print(f"  {name:20}" + "  ".join(f"{key} {value:.3g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
