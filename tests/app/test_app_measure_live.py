"""One-shot measurements on a terminal: redrawn in place, as wide as it is, coloured unless NO_COLOR, and summed up at Ctrl-C."""

from __future__ import annotations

import fcntl
import http.server as http_server
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probes.capabilities import inspect

ROOT = Path(__file__).parents[2]
WAIT_S = 60

pytestmark = [
    pytest.mark.alone,
    pytest.mark.waits,
    pytest.mark.skipif(
        not any(capability.works for capability in inspect() if capability.name == "ping and traceroute"),
        reason="no ICMP socket may be opened here",
    ),
]


class Terminal:
    """What a person sees: the few control sequences of ECMA-48 that redrawing takes, played on lines of text."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines, self.row, self.column = [""], 0, 0
        self.went_up = 0
        self.colours: set[str] = set()

    def feed(self, text: str) -> None:
        for plain, code, final in re.findall(r"([^\x1b]+)|\x1b\[([0-9;?]*)([A-Za-z])", text):
            for one in plain:
                self._put(one)
            if final == "A":
                self.row -= int(code or 1)
                self.went_up += 1
                assert self.row >= 0, "it went above what it had drawn itself"
            elif final == "K":
                self.lines[self.row] = "" if code == "2" else self.lines[self.row][: self.column]
            elif final == "m":
                self.colours |= {part for part in code.split(";") if part in {"31", "32", "33"}}
            elif final:
                assert (code, final) in {("?25l", "l"), ("?25h", "h"), ("?25", "l"), ("?25", "h")}, f"unknown sequence {code}{final}"

    def _put(self, one: str) -> None:
        if one == "\r":
            self.column = 0
        elif one == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
        else:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + one + line[self.column + 1 :]
            self.column += 1
            assert self.column <= self.columns, f"wider than the terminal: {self.lines[self.row]!r}"

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines)


def on_terminal(
    *argv: str,
    columns: int = 120,
    interrupt_when: Callable[[str], bool] | None = None,
    prefix: tuple[str, ...] = (),
    **environment: str,
) -> tuple[Terminal, str, int]:
    """Run a command in a pseudo-terminal of so many columns; Ctrl-C is typed once `interrupt_when` likes what has been shown.

    Gives what the screen holds at the end, all that was written, and the exit status.
    """
    child, fileno = pty.fork()
    if not child:
        # The width must be there before the command looks; COLUMNS would only hide a program that does not look.
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"}}
        os.chdir(ROOT)
        command = [*prefix, sys.executable, "-m", "app.cli", *argv]
        os.execvpe(command[0], command, {**kept, "TERM": "xterm-256color", **environment})  # noqa: S606
    written, deadline = b"", time.monotonic() + WAIT_S
    try:
        while time.monotonic() < deadline:
            if not select.select([fileno], [], [], 1)[0]:
                continue
            try:
                part = os.read(fileno, 65536)
            except OSError:  # the other end is closed: the command is over
                break
            if not part:
                break
            written += part
            if interrupt_when is not None and interrupt_when(written.decode(errors="ignore")):
                interrupt_when = None
                os.write(fileno, b"\x03")
        else:
            pytest.fail(f"it did not end within {WAIT_S} s: {written[-500:]!r}")
    finally:
        os.close(fileno)
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    terminal, text = Terminal(columns), written.decode()
    terminal.feed(text)
    return terminal, text, status


def rows(terminal: Terminal, name: str) -> list[list[str]]:
    return [line.split() for line in terminal.text.splitlines() if line.startswith(name)]


def test_ping_redraws_one_row_a_target_in_place() -> None:
    """Two targets, six packets each: at the end one header and one row each with all six, after several frames in the same place; no
    loss is green."""
    terminal, text, status = on_terminal("ping", "127.0.0.1", "::1", "-c", "6", "-i", "60ms")
    assert status == 0
    assert terminal.went_up > 2
    assert text.count("target") > 2, "it was drawn once only"
    assert terminal.text.count("target") == 1
    for name in ("127.0.0.1", "::1"):
        ((_, sent, received, loss, *_),) = rows(terminal, name)
        assert (sent, received, loss) == ("6", "6", "0.0%")
    assert "32" in terminal.colours


def test_no_color_and_a_narrow_terminal() -> None:
    """NO_COLOR: no colour. 40 columns: no line is wider, and what is kept is who, loss and the median."""
    terminal, _, status = on_terminal("ping", "127.0.0.1", "-c", "3", "-i", "30ms", columns=40, NO_COLOR="1")
    assert status == 0
    assert terminal.colours == set()
    header = next(line for line in terminal.text.splitlines() if line.startswith("target"))
    assert {"loss", "median ms"} <= set(re.split(r" {2,}", header))
    assert "recent" not in header
    assert len(rows(terminal, "127.0.0.1")) == 1


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {}])
def test_no_terminal_to_redraw_on_means_plain_lines(environment: dict[str, str]) -> None:
    """A dumb terminal, and --json on a good one: not one control sequence."""
    extra = [] if environment else ["--json"]
    terminal, text, status = on_terminal("ping", "127.0.0.1", "-c", "2", "-i", "20ms", *extra, **environment)
    assert status == 0
    assert "\x1b" not in text
    if extra:
        assert json.loads(terminal.text)[0]["summary"]["received"] == 2
    else:
        assert "2 sent, 2 received, loss 0.0%" in terminal.text


def _shown_sent(text: str) -> int:
    return max((int(sent) for sent in re.findall(r"127\.0\.0\.1 +(\d+) ", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))), default=0)


def test_ctrl_c_sums_up_what_came_so_far() -> None:
    """Ctrl-C after the table showed three packets of a thousand: the table stays with what was sent by then, all answered and none taken
    for lost, one line says so, and the status is 130."""
    terminal, _, status = on_terminal("ping", "127.0.0.1", "-c", "1000", "-i", "30ms", interrupt_when=lambda text: _shown_sent(text) >= 3)
    assert status == 130
    ((_, sent, received, loss, *_),) = rows(terminal, "127.0.0.1")
    assert 3 <= int(sent) < 1000
    assert (received, loss) == (sent, "0.0%")
    assert "interrupted" in terminal.text
    assert "Traceback" not in terminal.text


def test_ctrl_c_with_json_is_one_document_of_what_came() -> None:
    """The document is whole: fewer samples, each answered; the status is 130. The command is heard to be at work by our packets on the
    loopback's raw socket, not by waiting."""
    argv = [sys.executable, "-m", "app.cli", "ping", "127.0.0.1", "-c", "1000", "-i", "20ms", "--json"]
    with _echoes() as echoes, subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        for _ in range(5):
            echoes.recv(2000)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=WAIT_S)
    assert (process.returncode, said) == (130, "interrupted\n")
    (entry,) = json.loads(out)
    samples = entry["measurement"]["samples"]
    assert 0 < len(samples) < 1000
    assert {sample["outcome"] for sample in samples} == {"reply"}
    assert entry["summary"]["sent"] == len(samples)


def test_ctrl_c_shows_the_hops_so_far() -> None:
    """A trace of an address that the kernel drops without a word (a black hole in a namespace of our own), stopped after it showed
    the first frames: what was found stands, called interrupted, and the status is 130."""
    name = f"iso{os.getpid()}hole"
    if os.geteuid() != 0 or subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        pytest.skip("needs root to make a network namespace")
    try:
        setup = (
            "ip link add v0 type veth peer name v1; ip addr add 10.9.0.1/24 dev v0; ip link set v0 up; ip link set v1 up; "
            "ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:01 dev v0"
        )
        subprocess.run(["ip", "netns", "exec", name, "sh", "-ec", setup], check=True, capture_output=True)
        terminal, _, status = on_terminal(
            "traceroute",
            "10.9.0.2",
            "--timeout",
            "20s",
            interrupt_when=lambda text: "tracing" in text,
            prefix=("ip", "netns", "exec", name),
        )
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
    assert status == 130
    assert "10.9.0.2: interrupted, the hops so far" in terminal.text
    assert "interrupted; not measured: 10.9.0.2" in terminal.text


def _echoes() -> socket.socket:
    """Hears every echo on this host; skips the test where no raw socket may be opened."""
    try:
        echoes = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        pytest.skip("hearing echoes needs a raw socket")
    echoes.settimeout(WAIT_S)
    return echoes


def test_traceroute_leaves_the_hops_of_every_target() -> None:
    """Two targets with two flows each: live a row each; at the end the hops of each and a table of both."""
    terminal, _, status = on_terminal("traceroute", "127.0.0.1", "::1", "--flows", "2")
    assert status == 0
    for name in ("127.0.0.1", "::1"):
        assert f"{name}: icmp, 2 flows, reached, one path" in terminal.text
        assert len([line for line in rows(terminal, name) if line[-1] == "reached"]) == 1


@pytest.fixture
def web() -> Iterator[int]:
    """A server on loopback that answers 204; its port."""

    class Handler(http_server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http_server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_connections_requests_and_transfers_show_how_each_ended(web: int) -> None:
    """http: the good and the refused one in one table, the latter in red. infer against a server that is none, throughput against nobody:
    failed, and exit status 1; no line wider than the terminal."""
    dead = "tcp://127.0.0.1:1"
    terminal, _, status = on_terminal("http", f"http://127.0.0.1:{web}/", dead, columns=80)
    assert status == 1
    assert "204" in terminal.text
    assert rows(terminal, dead)[0][-2:] == ["refused", "(target)"]
    assert "31" in terminal.colours
    assert f"no answer from {dead}" in terminal.text.replace("\n", "")
    for argv in (["infer", f"http://127.0.0.1:{web}/v1"], ["throughput", "127.0.0.1", "-p", "1", "-t", "200ms", "--tool", "builtin"]):
        terminal, _, status = on_terminal(*argv, columns=90)
        assert status == 1, terminal.text
        assert "failed" in terminal.text
