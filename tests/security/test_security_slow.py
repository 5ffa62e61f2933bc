"""Those who hold the door: headers and bodies that dribble, connections without end. Others are served meanwhile, and memory stays."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest
from collector_process import is_ready
from guarded import GuardedCollector, bearer
from warehouse_builders import ping, post

from warehouse import front, intake

pytestmark = [pytest.mark.alone, pytest.mark.waits]

#: What the test's own collector waits instead of the real times, in seconds.
HEADER_S, GRACE_S, UNREAD_S, MOST = 2.0, 3.0, 4.0, 60

_SHORTER = f"""
from warehouse import front, intake, serve as server
front.HEADER_TIMEOUT_S, front.UNREAD_TIMEOUT_S = {HEADER_S}, {UNREAD_S}
intake.BODY_GRACE_S, intake.BODY_LEAST_BYTES_PER_S = {GRACE_S}, 10_000
server.most_connections = lambda: {MOST}
"""


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedCollector]:
    """A collector that is real but for the length of its patience, and may hold 60 connections."""
    made = GuardedCollector(tmp_path_factory.mktemp("impatient"))
    made.fill()
    argv = made.argv()
    argv[2] = argv[2].replace("\nimport json", f"\n{_SHORTER}\nimport json", 1)
    with made.folder.joinpath("log").open("w") as log:
        made.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
        assert is_ready(made.process), made.log
        yield made
        made.process.kill()
        made.process.wait()


def connect(collector: GuardedCollector) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(60)
    made.connect(str(collector.socket))
    return made


def is_ended(connection: socket.socket) -> bool:
    """Whether the collector has ended it; what it said before is read."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def dribble(connection: socket.socket, text: bytes) -> float:
    """Send a byte every tenth of a second until the other side ends; after how many seconds it did."""
    began = time.monotonic()
    for at in range(len(text)):
        try:
            connection.sendall(text[at : at + 1])
        except OSError:
            break
        if is_ended(connection):
            break
        assert time.monotonic() - began < 90, "it is still open"
        time.sleep(0.1)
    return time.monotonic() - began


def served(collector: GuardedCollector) -> None:
    """Somebody else is, a batch and all."""
    with collector.client() as client:
        assert client.get("/healthz").text == "ok\n"
        parts = post([ping(1, [1000])])
        parts["headers"] |= bearer("sin-1")
        assert client.post(**parts).status_code == 200


def test_the_times_that_docs_state() -> None:
    """docs/security.md says them."""
    assert (front.HEADER_TIMEOUT_S, front.MAX_HEADER_BYTES, front.UNREAD_TIMEOUT_S) == (10, 65536, 30)
    assert (intake.BODY_GRACE_S, intake.BODY_LEAST_BYTES_PER_S) == (30, 10_000)


def test_headers_that_dribble_are_ended(impatient: GuardedCollector) -> None:
    """In a first request, in a second one after a good one, and with nothing sent at all; others are served meanwhile."""
    served(impatient)
    silent, second = connect(impatient), connect(impatient)
    second.sendall(b"GET /healthz HTTP/1.1\r\nHost: c\r\n\r\n")
    assert second.recv(65536).startswith(b"HTTP/1.1 200")
    with silent, second, connect(impatient) as first:
        assert dribble(first, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 1000) >= HEADER_S * 0.8
        assert is_ended(silent)
        served(impatient)
        dribble(second, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 1000)
        served(impatient)


def test_a_body_that_dribbles_is_ended(impatient: GuardedCollector) -> None:
    """With 408, of a batch that says its length and of one in chunks; an enrolment has its own ten seconds."""
    for how in (b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1\r\n"):
        headers = post([ping(1, [1])])["headers"] | bearer("sin-1")
        lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
        with connect(impatient) as slow:
            slow.sendall(b"POST /api/v1/batches HTTP/1.1\r\nHost: c\r\n" + lines + how)
            began = time.monotonic()
            served(impatient)
            assert slow.recv(65536).startswith(b"HTTP/1.1 408")
            assert time.monotonic() - began >= GRACE_S * 0.8
            while said := slow.recv(65536):
                assert b"too_slow" in said


@pytest.mark.parametrize("head", [b"X: " + b"x" * 70_000, b"X: y\r\n" * 20_000, b"/" * 70_000])
def test_headers_without_end_are_ended(impatient: GuardedCollector, head: bytes) -> None:
    """One long header, many short ones, a long address: ended at 64 kB."""
    with connect(impatient) as endless, contextlib.suppress(OSError):
        endless.sendall(b"GET /" + (b"" if head[:1] == b"/" else b" HTTP/1.1\r\n") + head)
        while endless.recv(65536):
            pass
    served(impatient)


def test_many_connections_keep_nobody_out(impatient: GuardedCollector) -> None:
    """Five times as many as it holds, all silent: who comes next is served, and the longest silent were ended."""
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(connect(impatient)) for _ in range(5 * MOST)]
        served(impatient)
        assert sum(map(is_ended, crowd[: 2 * MOST])) > MOST
    served(impatient)


def unread(collector: GuardedCollector) -> socket.socket:
    """A connection that asks hundreds of times and reads no answer."""
    made = connect(collector)
    made.settimeout(2)
    with contextlib.suppress(OSError):
        made.sendall(b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: c\r\n\r\n" * 900)
    return made


def test_answers_that_nobody_reads_keep_nobody_out(impatient: GuardedCollector) -> None:
    """As many as it holds and more, each with answers waiting: who comes next is served once those wait, and later all are ended."""
    served(impatient)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(unread(impatient)) for _ in range(MOST + 20)]
        until = time.monotonic() + 30
        while True:
            try:
                served(impatient)
                break
            except httpx.TransportError:  # some of the crowd are still being answered
                assert time.monotonic() < until, "nobody makes room"
                time.sleep(0.2)
        time.sleep(UNREAD_S + 4)  # without a look, which would read
        assert all(map(is_ended, crowd))
    served(impatient)


def test_one_who_reads_slowly_is_served(impatient: GuardedCollector) -> None:
    """A pause shorter than its patience costs nothing, however often."""
    with unread(impatient) as slow:
        slow.settimeout(30)
        got, began = 0, time.monotonic()
        while time.monotonic() - began < UNREAD_S + 2:
            part = slow.recv(100_000)
            assert part, "it was ended"
            got += len(part)
            time.sleep(0.3)
        assert got > 500_000


def test_those_who_hold_it_cost_no_memory(impatient: GuardedCollector) -> None:
    """Forty bodies of 16 MB, of which nothing more comes after the first 8 MB: less than what the collector's own bound says."""
    served(impatient)
    before = impatient.rss_bytes()
    headers = post([ping(1, [1])])["headers"] | bearer("sin-1")
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            made = stack.enter_context(connect(impatient))
            with contextlib.suppress(OSError):
                made.sendall(b"POST /api/v1/batches HTTP/1.1\r\nHost: c\r\n" + lines + b"Content-Length: 16000000\r\n\r\n")
                made.sendall(b"x" * (8 << 20))
        assert impatient.rss_bytes() - before < 2 * intake.MAX_RECEIVED_BYTES
    served(impatient)
    assert "Traceback" not in impatient.log, impatient.log
