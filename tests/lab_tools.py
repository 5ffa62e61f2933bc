"""What tests of several packages need of a lab: running commands at its sites, and choosing pairs by their truth."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from lab.namespace_lab import NamespaceLab
from lab.topology import Topology
from lab.truth import PairTruth

ROOT = Path(__file__).parents[1]
MS = 1_000_000
FIBRE_KM_PER_S = 299_792.458 * 2 / 3


def needs(tool: str) -> None:
    """Skip the test where a tool is missing."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed here")


def run_at(lab: NamespaceLab, site: str, *argv: str, timeout_s: float = 60.0) -> str:
    """What a command at a site prints, on either stream."""
    done = subprocess.run(lab.command(site, argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False)
    return done.stdout + done.stderr


def run_together(commands: Iterable[list[str]], timeout_s: float = 60.0) -> list[str]:
    """What several commands print, run side by side: standard output, or standard error of those that use only that."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for argv in commands
    ]
    try:
        spoken = [process.communicate(timeout=timeout_s) for process in running]
        return [out or err for out, err in spoken]
    finally:
        for process in running:
            process.kill()
            process.communicate()


def least_rtt_ms(lab: NamespaceLab, src: str, address: str, count: int = 8) -> float:
    """The least RTT of several pings."""
    text = run_at(lab, src, "ping", "-n", "-q", "-c", str(count), "-i", "0.05", "-W", "2", address)
    found = re.search(r"= ([0-9.]+)/", text)
    assert found, text
    return float(found[1])


def truth_of(lab: NamespaceLab, src: str, dst: str, medium: str = "internet") -> PairTruth:
    """The truth of one pair."""
    return next(pair for pair in lab.truth() if (pair.src, pair.dst, pair.medium) == (src, dst, medium))


def address_of(truth: PairTruth, version: int = 4) -> str:
    """Where src reaches dst over that version of IP."""
    address = truth.address if version == 4 else truth.address_v6
    if address is None:
        pytest.skip("this lab has no IPv6")
    return address


def visible_paths(truth: PairTruth, version: int = 4) -> list[tuple[str | None, ...]]:
    """What a traceroute may see of the ways there: the hops of each, None where a router is silent."""
    return [
        tuple(
            None if node in path.silent else address
            for node, address in zip(path.nodes, path.hops if version == 4 else path.hops_v6, strict=True)
        )
        for path in truth.paths
    ]


def allowed_ms(truth: PairTruth) -> float:
    """How far above the truth the least of several RTTs may lie: 0.5 ms or 2 %."""
    return max(0.5, 0.02 * truth.rtt_ns / MS)


def twice(measure: Callable[[], None]) -> None:
    """Once more when the machine was busy just then; up to four times when it has more to do than twice its processors."""
    tries = 1
    while True:
        try:
            return measure()
        except AssertionError:
            if tries >= (4 if os.getloadavg()[0] > 2 * (os.cpu_count() or 1) else 2):
                raise
        tries += 1
        time.sleep(0.5)


def floor_ms(world: Topology, a: str, b: str) -> float:
    """Least RTT in fibre by the angle between two unit vectors (the records package uses the haversine)."""

    def unit(site: str) -> tuple[float, float, float]:
        place = world.site(site).place
        lat, lon = math.radians(place.lat), math.radians(place.lon)
        return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)

    cosine = sum(x * y for x, y in zip(unit(a), unit(b), strict=True))
    return 2 * 6371.0088 * math.acos(max(-1.0, min(1.0, cosine))) / FIBRE_KM_PER_S * 1000
