"""Flows of ping in the lab's world of two diamonds: one flow, one path and one RTT; other flows show the other paths."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from probes_ping_lab import ROOT

from lab import namespaces
from lab.namespace_lab import NamespaceLab
from lab.topology import builtin
from lab.world import start
from probes.ping.wire import FLOWS, checksum_of
from probes.traceroute.wire import icmp_flow

MS = 1_000_000
#: The ways of ecmp.toml take 20, 24, 30 or 34 ms; there and back may differ.
WAYS_MS = (20, 24, 30, 34)
ROUND_TRIPS_MS = sorted({there + back for there in WAYS_MS for back in WAYS_MS})


@pytest.fixture(scope="module")
def ecmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamespaceLab]:
    support = namespaces.support()
    if support.how is None:
        pytest.skip(f"no network namespaces here: {support.reason}")
    lab = start(builtin("ecmp"), tmp_path_factory.mktemp("ecmp") / "lab", "namespaces", serving=False)
    assert isinstance(lab, NamespaceLab)
    yield lab
    lab.stop()


def test_a_flow_of_ping_is_that_flow_of_traceroute() -> None:
    """The same checksum, so the same path: what ping measures, traceroute shows. And no two flows share one."""
    checksums = [checksum_of(flow) for flow in range(FLOWS)]
    assert checksums == [icmp_flow(flow) for flow in range(FLOWS)]
    assert len(set(checksums)) == FLOWS
    assert all(0 < one < 0xFFFF for one in checksums), "0 and ffff are the same number in ones' complement"


def nearest(rtts_ns: list[int]) -> int:
    """The configured round trip that a flow's packets took: the longest below its least RTT, give or take. A busy lab only adds."""
    return max(ms for ms in ROUND_TRIPS_MS if ms * MS <= min(rtts_ns) + MS // 2)


@pytest.mark.lab
@pytest.mark.waits
@pytest.mark.parametrize("version", [4, 6])
def test_a_sweep_of_flows_shows_the_paths_and_each_flow_keeps_to_one(ecmp: NamespaceLab, version: int) -> None:
    """24 flows from a to b, 4 packets each: more than two round trips of the sixteen there are; asked again, every flow has the same."""
    truth = next(pair for pair in ecmp.truth() if (pair.src, pair.dst) == ("a", "b"))
    address = truth.address if version == 4 else truth.address_v6
    assert address is not None
    argv = [sys.executable, "-m", "app.cli", "ping", address, "--flows", "24", "-c", "4", "-i", "20ms", "--json"]
    sweeps = []
    for _ in range(2):
        done = subprocess.run(ecmp.command("a", argv), capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        found = [one["measurement"] for one in json.loads(done.stdout)]
        assert sorted(one["flow"] for one in found) == list(range(24))
        sweeps.append({one["flow"]: nearest([s["rtt_ns"] for s in one["samples"] if "rtt_ns" in s]) for one in found})
    assert len(set(sweeps[0].values())) > 2
    assert sum(sweeps[0][flow] == sweeps[1][flow] for flow in range(24)) >= 22, "but for a flow or two that a busy machine delayed"
