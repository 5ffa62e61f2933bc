"""Estimates of throughput in the lab, where the rate is set, and a full test beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from lab_tools import ROOT, needs, run_together, truth_of, twice

from lab.links import Change
from lab.namespace_lab import NamespaceLab

pytestmark = pytest.mark.lab

_OURS = (sys.executable, "-m", "app.cli")
_SERVE = """
import asyncio
from probes.throughput import ThroughputServer
async def main():
    server = ThroughputServer("0.0.0.0", 5201)
    await server.start()
    print("ready", flush=True)
    await asyncio.sleep(120)
asyncio.run(main())
"""


def test_estimates_are_the_set_rate(triangle_lab: NamespaceLab) -> None:
    """20 ms away over 50 Mbit/s each way: both kinds, up and down, within 5 % of what TCP carries of it, for less than 12 MB."""
    needs("iperf3")
    lab = triangle_lab
    for ends in (("a", "in-ah"), ("in-ah", "a")):
        lab.change(*ends, Change(op="degrade", rate_bps=50_000_000), medium="internet", both=False)
    address = truth_of(lab, "a", "hub").address
    with subprocess.Popen(lab.command("hub", [sys.executable, "-c", _SERVE]), cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == "ready\n"

            def measured(kind: str) -> None:
                (text,) = run_together([lab.command("a", [*_OURS, "throughput", address, "--estimate", kind, "--json"])])
                made: list[dict[str, Any]] = [one["measurement"] for one in json.loads(text)]
                assert [(one["direction"], one["is_estimate"]) for one in made] == [("up", True), ("down", True)]
                for one in made:
                    assert one["method"] == {"sample": "bbr", "train": "train"}[kind]
                    assert one["spent_bytes"] < 12_000_000
                    assert one["throughput_bps"] == pytest.approx(50e6 * 1448 / 1500, rel=0.05)
                    assert one["idle_rtt_ns"] == pytest.approx(20_000_000, rel=0.1)

            for kind in ("sample", "train"):
                twice(lambda kind=kind: measured(kind))  # type: ignore[misc]
        finally:
            server.terminate()
            server.wait(10)
