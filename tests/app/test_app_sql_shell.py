"""The shell of `isochrone sql`: what it completes, when a statement has ended, and a session on a real terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.sql_examples import SQL_EXAMPLES
from app.sql_shell import complete, is_whole, words_of
from warehouse import open_warehouse


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse without a row."""
    folder = tmp_path_factory.mktemp("shell") / "kept"
    open_warehouse(folder, mode="write").close()
    return folder


def test_tables_columns_and_keywords_are_completed(place: Path) -> None:
    """By what the last word begins with, in any case; each says what it is."""
    with open_warehouse(place) as wh:
        words = words_of(wh)
    assert ("links", "view") in complete(words, "SELECT * FROM lin")
    assert ("ping_sample", "table") in complete(words, "from PING_s")
    assert ("rtt_p50_ms", "column, double") in complete(words, "SELECT a.rtt_p5")
    assert ("SELECT", "keyword") in complete(words, "sel")
    assert complete(words, "FROM ") == []


@pytest.mark.parametrize(
    ("text", "whole"), [("FROM links;", True), ("FROM links", False), ("FROM links\n", True), (".tables", True), ("", True)]
)
def test_when_a_statement_has_ended(text: str, whole: bool) -> None:
    """With a semicolon or an empty line; a command at once."""
    assert is_whole(text) is whole


def _read(master: int, until: bytes, seconds: float = 40) -> bytes:
    seen, deadline = b"", time.monotonic() + seconds
    while until not in seen and time.monotonic() < deadline:
        if select.select([master], [], [], 0.2)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
    return seen


def test_a_session_on_a_terminal(place: Path, tmp_path: Path) -> None:
    """A question, a mistake that ends nothing, a command, and out with Ctrl-D; the history is kept."""
    pytest.importorskip("prompt_toolkit", reason="prompt_toolkit is not installed")
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(tmp_path), "COLUMNS": "200"}
    command = [sys.executable, "-m", "app.cli", "sql", "--warehouse", str(place)]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True) as session:
        os.close(slave)
        try:
            assert b"isochrone>" in _read(master, b"isochrone>")
            os.write(master, b"SELECT 41 + 1 AS answer;\r")
            assert b"42" in _read(master, b"1 row")
            os.write(master, b"FROM nowhere;\r")
            assert b"nowhere does not exist" in _read(master, b"does not exist")
            os.write(master, b".tables\r")
            listing = _read(master, b"ping_sample")  # the tables come after the views
            assert b"valid_traceroute" in listing
            if b"isochrone>" not in listing.rpartition(b"ping_sample")[2]:
                _read(master, b"isochrone>")  # what is typed before it would be lost
            os.write(master, b"\x04")
            _read(master, b"never", 3)
            assert session.wait(20) == 0
        finally:
            session.kill()
            os.close(master)
    assert "41 + 1" in (tmp_path / "isochrone" / "sql_history").read_text()


def test_without_a_query_and_without_a_terminal(place: Path) -> None:
    """One message with what to do, and the catalogue of the dashboard's page on request."""
    command = [sys.executable, "-m", "app.cli", "sql"]
    done = subprocess.run(
        [*command, "--warehouse", str(place)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "there is no query" in done.stderr
    done = subprocess.run([*command, "--examples"], capture_output=True, text=True, timeout=60, check=True)
    for name, text in SQL_EXAMPLES.items():
        assert f"-- {name}\n{text};" in done.stdout
