"""Ctrl-C while the warehouse is busy, or packets are on their way: one word, status 130, nothing lost and nothing that goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from probes.stamp import StampReflector
from warehouse import open_warehouse

pytestmark = [pytest.mark.alone, pytest.mark.waits]

#: Takes hours.
ENDLESS = "SELECT count(*) FROM range(1000000000000)"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("interrupt") / "wh"
    open_warehouse(made, mode="write").close()
    return made


def interrupted(command: Sequence[str], *, after: float) -> tuple[int, str]:
    """Status and standard error of a command that hears Ctrl-C after it has run for so many seconds of its own processor time."""
    with subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as child:
        try:
            deadline = time.monotonic() + 60
            while _processor_s(child.pid) < after and time.monotonic() < deadline:
                time.sleep(0.05)
            child.send_signal(signal.SIGINT)
            _, told = child.communicate(timeout=60)
        finally:
            child.kill()
    return child.returncode, told


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_query_stops(place: Path) -> None:
    """Three seconds of work are more than the start takes: it hears it inside the query, long before its time limit."""
    status, told = interrupted(["-m", "app.cli", "sql", ENDLESS, "--timeout", "600", "--warehouse", str(place)], after=3)
    assert (status, told.strip()) == (130, "isochrone: stopped")


@pytest.mark.parametrize("command", [["sql", "FROM links"], ["warehouse", "verify"], ["collector"]])
def test_a_warehouse_that_is_being_opened_stops(command: list[str], place: Path) -> None:
    """DuckDB takes Ctrl-C for itself while it works for the opening, here for long, and says so in words of its own.

    Its other thread goes on with its part until that is done: not for hours here.
    """
    slow = (
        "import duckdb, sys, warehouse.connect as c; c.attach = lambda *_, **__: duckdb.execute('SELECT count(*) FROM range(20000000000)')"
    )
    run = f"{slow}; from app.cli import main; sys.argv = {['isochrone', *command, '--warehouse', str(place)]!r}; main()"
    status, told = interrupted(["-c", run], after=3)
    assert (status, told.strip()) == (130, "isochrone: stopped")


@pytest.mark.parametrize("form", [["--json"], []])
def test_a_stamp_round_is_summed_up(form: list[str]) -> None:
    """Packets whose fate is known are a round of fewer packets, in JSON and printed; the status is 130."""
    with _reflector() as reflector:
        target = ["localhost", "-p", str(reflector.port), "-c", "10000"]
        with subprocess.Popen(
            [sys.executable, "-m", "app.cli", "stamp", *target, *form], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            try:
                deadline = time.monotonic() + 60
                while sum(dict(reflector.counts.items()).values()) < 5 and time.monotonic() < deadline:
                    time.sleep(0.05)
                child.send_signal(signal.SIGINT)
                written, told = child.communicate(timeout=15)
            finally:
                child.kill()
    assert (child.returncode, told) == (130, "interrupted\n")
    if form:
        (found,) = json.loads(written)
        assert 0 < found["summary"]["received"] == len(found["measurement"]["samples"]) < 10_000
        assert found["measurement"]["target"] == f"localhost:{reflector.port}"
    else:
        assert "loss 0.0%" in written


@contextlib.contextmanager
def _reflector() -> Iterator[StampReflector]:
    """A reflector in this process, which knows how many packets it has answered."""
    loop = asyncio.new_event_loop()
    reflector = StampReflector("127.0.0.1", 0)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(reflector.start(), loop).result(10)
    try:
        yield reflector
    finally:
        asyncio.run_coroutine_threadsafe(reflector.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
