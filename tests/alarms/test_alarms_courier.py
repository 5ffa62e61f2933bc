"""Webhooks that answer slowly, without end or hugely: a status counts, one deadline holds, and nobody waits for another one's."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from webhook_receiver import answering, receiving

from alarms.courier import Answer, Courier, post
from alarms.settings import Webhook
from warehouse import Warehouse, alarms, open_warehouse

ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC)
#: What an attempt may take on a machine that does much else, beyond what it is given; what waits for ever takes longer.
SLACK_S = 20.0


def _drops(text: bytes, drop: bytes, every_s: float) -> Callable[[socket.socket, threading.Event], None]:
    """Answers a text and then, for ever, one drop after the other."""

    def answer(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(text)
        while not ended.wait(every_s):
            connection.sendall(drop)

    return answer


@pytest.mark.parametrize(
    ("begins", "drop", "every_s", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.2, None),
        (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.2, "it answered 500 Internal Server Error"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"fff0\r\n" + bytes(0xFFF0) + b"\r\n", 0.0, None),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.2, "no answer within 1 s (timeout_s)"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.2, "no answer within 1 s (timeout_s)"),
        (b"", b"", 0.2, "no answer within 1 s (timeout_s)"),
    ],
    ids=["body-drips", "refusal-drips", "body-without-end", "headers-drip", "continue-for-ever", "silent"],
)
def test_an_answer_without_end_ends(begins: bytes, drop: bytes, every_s: float, error: str | None) -> None:
    """The status is taken as soon as it is there; where none comes, the time of an attempt is that of all its reads together."""
    found: list[Answer] = []
    with answering(_drops(begins, drop, every_s)) as url:
        hook = Webhook(name="slow", url=url, timeout_s=1)
        thread = threading.Thread(target=lambda: found.append(post(hook, b"{}", "n-1", NOW)), daemon=True)
        thread.start()
        thread.join(1 + SLACK_S)
    assert [answer.error for answer in found] == [error]


def test_a_packed_answer_is_not_unpacked() -> None:
    """A quarter of a megabyte of gzip that holds 256: the process that sends stays as small as it was."""
    packed = gzip.compress(bytes(1 << 28), 9)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    script = """
import sys
from pathlib import Path
from datetime import UTC, datetime
from alarms.courier import post
from alarms.settings import Webhook
def most_kb():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = most_kb()
answer = post(Webhook(name="packed", url=sys.argv[1], timeout_s=60), b"{}", "n-1", datetime.now(UTC))
print(answer.error, (most_kb() - before) // 1024)
"""
    with answering(lambda connection, _: connection.sendall(head + packed)) as url:
        done = subprocess.run([sys.executable, "-c", script, url], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    error, grown_mb = done.stdout.rsplit(maxsplit=1)
    assert error == "None"
    assert int(grown_mb) < 100


@pytest.mark.parametrize("token", ["q7x\nret", "q7x ret", "q7x\x01ret", "q7x\x7fret", "q7xr\u00e9t", "q7x\x00ret"])
def test_a_token_that_no_header_carries_is_named_and_not_shown(tmp_path: Path, token: str) -> None:
    """Two lines, a blank, a control character, an accent: refused by file, in words that hold nothing of it."""
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(token)
    with receiving() as server:
        answer = post(Webhook(name="ops", url=server.url, token_file=file), b"{}", "n-1", NOW)
        assert server.posted == []
        assert answer.error is not None
        assert f"webhook ops: token_file {file} must hold one token and nothing else" in answer.error
        assert "q7x" not in answer.error.replace(str(file), "")
        file.write_text("s3cret-\u007e!\n")
        assert post(Webhook(name="ops", url=server.url, token_file=file), b"{}", "n-1", NOW) == Answer(None)
        assert server.posted[0][0]["Authorization"] == "Bearer s3cret-~!"


@pytest.mark.parametrize("echo", [b"Bearer s3cret!\r\n\r\n", b"HTTP/1.1 400 s3cret!\r\n\r\n", b"HTTP/1.1 200 OK\r\ns3cret!\r\n\r\n"])
def test_a_webhook_that_repeats_the_token_is_not_repeated(tmp_path: Path, echo: bytes) -> None:
    """In a line that is no HTTP, in the words beside a status: neither gets into log and warehouse."""
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text("s3cret!")
    with answering(lambda connection, _: connection.sendall(echo)) as url:
        answer = post(Webhook(name="ops", url=url, token_file=file), b"{}", "n-1", NOW)
    assert answer.error in {"it answered nothing, or what is no HTTP", "it answered 400 Bad Request"}


def _notice(name: str, receiver: str) -> dict[str, object]:
    texts = {"id": name, "receiver": receiver, "group_key": "site:sin", "status": "firing", "payload": "{}", "error": None}
    return texts | {"alarm_ids": [], "created_at": NOW, "attempt_count": 0, "next_at": NOW, "sent_at": None, "failed_at": None}


def _put(wh: Warehouse, *notices: dict[str, object]) -> None:
    with alarms.changing(wh) as cursor:
        alarms.put_notices(cursor, notices)


def test_a_slow_webhook_keeps_no_other_waiting(tmp_path: Path) -> None:
    """While one does not answer the other one gets what there was and what comes meanwhile; what waits is counted all the time."""
    answers = threading.Event()

    def answer(connection: socket.socket, _: threading.Event) -> None:
        answers.wait(100)
        connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")

    with receiving() as quick, answering(answer) as slow_url, open_warehouse(tmp_path / "kept", mode="write") as wh:
        courier = Courier(wh, [Webhook(name="slow", url=slow_url, timeout_s=100), Webhook(name="quick", url=quick.url)])
        _put(wh, _notice("a-1", "slow"), _notice("a-2", "slow"), _notice("b-1", "quick"))
        began = time.monotonic()
        thread = threading.Thread(target=courier.round, daemon=True)
        thread.start()

        def await_quick(count: int) -> None:
            while len(quick.posted) < count or courier.waiting != 2:
                assert time.monotonic() < began + 50, "the other one waited for the slow one"
                assert thread.is_alive()
                time.sleep(0.02)

        await_quick(1)
        _put(wh, _notice("b-2", "quick"), _notice("b-3", "quick"))
        await_quick(3)
        assert [headers["Isochrone-Notice"] for headers, _ in quick.posted] == ["b-1", "b-2", "b-3"]
        answers.set()
        thread.join(SLACK_S)
        assert (courier.outcomes["sent"], courier.outcomes["retried"], courier.waiting) == (3, 1, 2)
        waits = {row["id"]: (row["attempt_count"], row["error"]) for row in alarms.due_notices(wh)}
        assert waits == {"a-1": (1, "it answered 503 Service Unavailable"), "a-2": (0, None)}
