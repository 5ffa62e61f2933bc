"""One collector with tokens, a key to sign with and two agents, for the tests that knock at its door."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "warehouse"))

from collector_process import Process, is_ready, running
from guarded import GuardedCollector


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedCollector]:
    """Agents sin-1 at sin and fra-1 at fra; mallory-1 was revoked; one invitation is expired and one was used."""
    made = GuardedCollector(tmp_path_factory.mktemp("guarded"))
    made.fill()
    with made.folder.joinpath("log").open("w") as log:
        process = subprocess.Popen(made.argv(), stdout=subprocess.PIPE, stderr=log, text=True)
        assert is_ready(process), made.folder.joinpath("log").read_text()
        made.process = process
        yield made
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def open_collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A collector that asks for no token, as on one's own machine."""
    folder = tmp_path_factory.mktemp("open")
    with running(folder / "kept", folder / "c.sock", json.dumps({"commit_interval_s": 0.05})) as process:
        yield process
