"""STAMP in the lab, where every delay and every loss by direction is known."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from lab_tools import ROOT, twice

from lab.links import Change
from lab.namespace_lab import NamespaceLab

pytestmark = [pytest.mark.lab, pytest.mark.waits]

MS = 1_000_000
_OURS = (sys.executable, "-m", "app.cli")
#: a - in-ab - b over the internet: what each direction of a's link becomes; in-ab - b stays at 50 ms each way.
THERE = Change(op="degrade", delay_ns=20 * MS, loss_ratio=0.1)
BACK = Change(op="degrade", delay_ns=45 * MS, loss_ratio=0.2)


def _lost(lab: NamespaceLab) -> dict[tuple[str, str], int]:
    """Packets that each directed link of the internet has lost so far, by the fabric's own count."""
    return {(link["src"], link["dst"]): link["lost"] for link in lab.status()["links"] if link["medium"] == "internet"}


def _measure(lab: NamespaceLab) -> tuple[dict[str, Any], dict[str, int]]:
    """A round of 300 packets from a to a reflector at b: what the sender says, and what the reflector counted."""
    address = next(pair.address for pair in lab.truth() if (pair.src, pair.dst, pair.medium) == ("a", "b", "internet"))
    argv = lab.command("b", [*_OURS, "stamp-reflector", "--port", "8620", "--json", "--clock-error-us", "50"])
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reflector:
        assert reflector.stderr is not None
        try:
            assert "ready" in reflector.stderr.readline()
            ask = ["stamp", address, "-p", "8620", "-c", "300", "-i", "4ms", "--timeout", "600ms", "--clock-error-us", "50", "--json"]
            done = subprocess.run(lab.command("a", [*_OURS, *ask]), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
        finally:
            reflector.terminate()
            counted, _ = reflector.communicate(timeout=30)
    (said,) = json.loads(done.stdout)
    return said["summary"], json.loads(counted)["packets"]


def test_delay_and_loss_by_direction_are_the_labs(triangle_lab: NamespaceLab) -> None:
    """20 + 50 ms there and 45 + 50 ms back, 10 % lost there and 20 % back: each told apart, losses to the packet."""
    lab = triangle_lab
    lab.change("a", "in-ab", THERE, medium="internet", both=False)
    lab.change("in-ab", "a", BACK, medium="internet", both=False)

    def measured() -> None:
        before = _lost(lab)
        found, counted = _measure(lab)
        after = _lost(lab)
        lost = {way: after[way] - before.get(way, 0) for way in (("a", "in-ab"), ("in-ab", "a"))}
        assert lost["a", "in-ab"] > 5
        assert lost["in-ab", "a"] > 5
        assert found["reflector"] == "stateful"
        assert counted["answered"] == 300 - lost["a", "in-ab"]
        assert found["sent"] - found["received"] == lost["a", "in-ab"] + lost["in-ab", "a"] + found["late"]
        # What was lost behind the last reply has no direction; a few packets at most.
        assert found["undirected_lost"] <= 5
        assert 0 <= lost["a", "in-ab"] - found["forward_lost"] <= found["undirected_lost"]
        assert 0 <= lost["in-ab", "a"] - found["backward_lost"] <= found["undirected_lost"]
        # One clock in all of the lab: the stated 0.1 ms holds; the fabric adds up to 0.5 ms.
        assert found["clock_error_ms"] == pytest.approx(0.1, rel=0.02)
        assert 70 - 0.1 <= found["forward_ms"]["min"] <= 70.5
        assert 95 - 0.1 <= found["backward_ms"]["min"] <= 95.5
        assert 165 - 0.1 <= found["rtt_ms"]["min"] <= 165.5

    twice(measured)
