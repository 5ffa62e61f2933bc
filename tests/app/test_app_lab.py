"""The command line over what agents measured in the lab."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from lab_measured import Measured
from lab_tools import MS, ROOT, allowed_ms

pytestmark = pytest.mark.lab


def isochrone(measured: Measured, *argv: str) -> str:
    """What a command over the measured warehouse prints."""
    whole = [sys.executable, "-m", "app.cli", *argv, "--warehouse", str(measured.warehouse)]
    done = subprocess.run(whole, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_links_and_matrix_say_what_the_lab_is(measured: Measured) -> None:
    """`links --json` has the configured RTT of every pair and medium; `matrix --json` routes the relayed pair over its relay."""
    links = {(link["src"], link["dst"], link["medium"]): link for link in json.loads(isochrone(measured, "links", "--json"))}
    assert links.keys() == measured.truth.keys()
    for key, truth in measured.truth.items():
        link = links[key]
        assert (link["gate"], link["evidence"]) == ("ok", "measured")
        assert truth.rtt_min_ns / MS - 0.001 <= link["rtt_ms"]["min"] <= truth.rtt_max_ns / MS + allowed_ms(truth)
    src, relay, dst = measured.relayed
    rows = {(row["src"], row["dst"]): row for row in json.loads(isochrone(measured, "matrix", "--relay-ms", "0", "--json"))}
    assert rows[src, dst]["relays"] == [relay]
    assert rows[src, dst]["best_ms"] < rows[src, dst]["direct_ms"]
