"""Ctrl-C while the warehouse is busy: one word, status 130, and nothing that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

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
            _, told = child.communicate(timeout=15)
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
    """DuckDB takes Ctrl-C for itself while it works for the opening, here for hours, and says so in words of its own."""
    slow = f"import duckdb, sys, warehouse.connect as c; c.attach = lambda *_, **__: duckdb.execute({ENDLESS!r})"
    run = f"{slow}; from app.cli import main; sys.argv = {['isochrone', *command, '--warehouse', str(place)]!r}; main()"
    status, told = interrupted(["-c", run], after=3)
    assert (status, told.strip()) == (130, "isochrone: stopped")
