"""A collector in a process of its own, as agents meet it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]

_CODE = """
import json, sys
from pathlib import Path
from warehouse.collector import serve
options = json.loads(sys.argv[2])
serve(sys.argv[1], host=None, uds=Path(sys.argv[3]), on_ready=lambda: print("ready", flush=True), **options)
"""


@dataclass(slots=True)
class Process:
    """A running collector on a unix socket."""

    process: subprocess.Popen[str]
    socket: Path

    def client(self) -> httpx.Client:
        """A client of it. (Reading the machine's certificates for nothing takes longer than most requests.)"""
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket), verify=False), base_url="http://collector", timeout=60)

    def kill(self) -> None:
        """End it without a word, as a power cut does."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> str:
        """Ask it to end; what it said on standard error."""
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=60)
        return err


def start(place: Path, socket: Path, options: str = "{}", prefix: Sequence[str] = ()) -> Process:
    """Start a collector over the warehouse at `place`, by the command `prefix` if there is one, and wait until it answers."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", _CODE, str(place), options, str(socket)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if not is_ready(process):
        raise AssertionError(process.communicate()[1])
    return Process(process, socket)


def is_ready(process: subprocess.Popen[str]) -> bool:
    """Wait until it says so, or has ended. (Where a query takes long, DuckDB draws a bar before it: for Python's -c is interactive.)"""
    assert process.stdout is not None
    return any(line.endswith("ready\n") for line in iter(process.stdout.readline, ""))


@contextlib.contextmanager
def running(place: Path, socket: Path, options: str = "{}") -> Iterator[Process]:
    """A collector for the length of a test."""
    collector = start(place, socket, options)
    try:
        yield collector
    finally:
        if collector.process.poll() is None:
            collector.kill()
