"""At the collector's door, each forbidden thing by its name (docs/security.md has the table): refused, and nothing changes by it."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from collector_process import Process
from guarded import EXPIRED, OPEN, SECRETS, USED, GuardedCollector, bearer
from warehouse_builders import NOW, content, ping, post, report

from warehouse import Warehouse, open_warehouse
from warehouse.intake import MAX_COMPRESSED_BYTES
from warehouse.queries import measurement_counts, reject_counts
from warehouse.roster import digest
from warehouse.roster_file import RosterFile

MINE = digest("a secret of the one who tries")


@pytest.fixture(scope="module")
def wh(guarded: GuardedCollector) -> Iterator[Warehouse]:
    """What the collector keeps."""
    with open_warehouse(guarded.folder / "kept") as opened:
        yield opened


@pytest.fixture(scope="module")
def client(guarded: GuardedCollector) -> Iterator[httpx.Client]:
    """Somebody at the door."""
    with guarded.client() as opened:
        yield opened


def enrolment(invitation: str, agent: str = "new-1", site: str = "sin", secret: str = MINE) -> dict[str, str]:
    return {"invitation": invitation, "agent": agent, "site": site, "secret_sha256": secret}


_LINES = [ping(1, [1000])]
_SIN = {**post(_LINES)["headers"], **bearer("sin-1")}

_MALLORY = {**post(_LINES, agent="mallory-1")["headers"], **bearer("mallory-1")}
_FRA_AS_SIN = {**post(_LINES)["headers"], **bearer("fra-1")}
BATCHES, ENROLL, ROTATE, IDENTITY = (f"/api/v1/{name}" for name in ("batches", "enroll", "rotate", "identity"))

#: Who does what: method, path, headers, body -> status, the collector's word for it.
FORBIDDEN: dict[str, tuple[str, str, dict[str, str], Any, int, str]] = {
    "nobody sends a batch": ("POST", BATCHES, post(_LINES)["headers"], b"x", 401, "unauthorised"),
    "nobody asks whose secret it is": ("GET", IDENTITY, {}, b"", 401, "unauthorised"),
    "nobody rotates": ("POST", ROTATE, {}, {"secret_sha256": MINE}, 401, "unauthorised"),
    "nobody reads a configuration": ("GET", "/api/v1/agents/sin-1/config", {}, b"", 401, "unauthorised"),
    "a guessed secret": ("GET", IDENTITY, {"Authorization": "Bearer " + "A" * 43}, b"", 401, "unauthorised"),
    "an empty secret": ("GET", IDENTITY, {"Authorization": "Bearer"}, b"", 401, "unauthorised"),
    "a digest as a secret": ("GET", IDENTITY, {"Authorization": f"Bearer {digest(SECRETS['sin-1'])}"}, b"", 401, "unauthorised"),
    "an invitation as a secret": ("GET", IDENTITY, {"Authorization": f"Bearer {OPEN}"}, b"", 401, "unauthorised"),
    "a secret by another scheme": ("GET", IDENTITY, {"Authorization": f"Basic {SECRETS['sin-1']}"}, b"", 401, "unauthorised"),
    "a secret as an invitation": ("POST", ENROLL, {}, enrolment(SECRETS["sin-1"]), 403, "invitation"),
    "an invitation that is none": ("POST", ENROLL, {}, enrolment("made-up-0123456789"), 403, "invitation"),
    "an expired invitation": ("POST", ENROLL, {}, enrolment(EXPIRED), 403, "invitation"),
    "a used invitation": ("POST", ENROLL, {}, enrolment(USED), 403, "invitation"),
    "a used invitation under its agent's name": ("POST", ENROLL, {}, enrolment(USED, "used-1"), 403, "invitation"),
    "an invitation at another site": ("POST", ENROLL, {}, enrolment(OPEN, site="fra"), 403, "invitation"),
    **{
        f"an enrolment as {name!r}": ("POST", ENROLL, {}, enrolment(OPEN, name), 400, "unreadable")
        for name in ("a/../b", "../b", ".", "A", "a\\b", "a:b:c", "-a", "a%2f", "<a>", "a'b")
    },
    "an enrolment at a site that is none": ("POST", ENROLL, {}, enrolment(OPEN, site="sin/../fra"), 400, "unreadable"),
    "another agent's name": ("POST", ENROLL, {}, enrolment(OPEN, "sin-1"), 409, "taken"),
    "a revoked agent's name": ("POST", ENROLL, {}, enrolment(OPEN, "mallory-1"), 409, "taken"),
    "another agent's secret as one's own": ("POST", ENROLL, {}, enrolment(OPEN, secret=digest(SECRETS["fra-1"])), 409, "taken"),
    "a rotation to another agent's secret": ("POST", ROTATE, bearer("sin-1"), {"secret_sha256": digest(SECRETS["fra-1"])}, 409, "taken"),
    "a rotation for ever": ("POST", ROTATE, bearer("sin-1"), {"secret_sha256": MINE, "grace_s": 1e18}, 400, "unreadable"),
    "a revoked agent sends": ("POST", BATCHES, _MALLORY, b"x", 403, "revoked"),
    "a revoked agent rotates": ("POST", ROTATE, bearer("mallory-1"), {"secret_sha256": MINE}, 403, "revoked"),
    "a revoked agent reads its configuration": ("GET", "/api/v1/agents/mallory-1/config", bearer("mallory-1"), b"", 403, "revoked"),
    "another agent's configuration": ("GET", "/api/v1/agents/sin-1/config", bearer("fra-1"), b"", 403, "forbidden"),
    "a batch under another agent's name": ("POST", BATCHES, _FRA_AS_SIN, post(_LINES)["content"], 403, "forbidden"),
    "a batch from another agent's site": (
        "POST", BATCHES, _SIN, gzip.compress(content([ping(1, [1000], src="fra")])), 403, "forbidden",
    ),
    "a report from another agent's site": (
        "POST", BATCHES, _SIN, gzip.compress(content([report(NOW, site="fra")])), 403, "forbidden",
    ),
    "an oversized body": ("POST", BATCHES, _SIN, b"\0" * (MAX_COMPRESSED_BYTES + 1), 413, "too_large"),
    "an oversized enrolment": ("POST", ENROLL, {}, b"x" * 5000, 413, "too_large"),
    "a gzip bomb": ("POST", BATCHES, _SIN, gzip.compress(b"\n" * (65 << 20), 9), 413, "too_large"),
    "a gzip bomb in many members": ("POST", BATCHES, _SIN, gzip.compress(b"\n" * (10 << 20), 9) * 7, 413, "too_large"),
    "a gzip bomb in a gzip": ("POST", BATCHES, _SIN, gzip.compress(gzip.compress(b"\n" * (65 << 20), 9)), 200, ""),
    "a zlib stream": ("POST", BATCHES, {**_SIN, "Content-Encoding": "deflate"}, zlib.compress(b"\n" * 1000), 400, "unreadable"),
    "a zstd frame that says a terabyte": (
        "POST", BATCHES, {**_SIN, "Content-Encoding": "zstd"}, bytes.fromhex("28b52ffde0000000000001000001000061"), 400, "unreadable",
    ),
    "an encoding upon an encoding": ("POST", BATCHES, {**_SIN, "Content-Encoding": "gzip, gzip"}, gzip.compress(b"x"), 400, "unreadable"),
    "deep nesting in an enrolment": ("POST", ENROLL, {}, b"[" * 4000, 400, "unreadable"),
    "a path as a boot": ("POST", BATCHES, {**_SIN, "Isochrone-Boot": "../../etc"}, b"x", 400, "unreadable"),
    "a path as an agent": ("GET", "/api/v1/agents/..%2f..%2ftokens.json/config", bearer("sin-1"), b"", 404, ""),
    "a file of the folder": ("GET", "/api/v1/agents/sin-1/../../../tokens.json", bearer("sin-1"), b"", 404, ""),
    "another method": ("DELETE", BATCHES, bearer("sin-1"), b"", 405, ""),
    "trace": ("TRACE", IDENTITY, bearer("sin-1"), b"", 405, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FORBIDDEN)
def test_forbidden(guarded: GuardedCollector, wh: Warehouse, client: httpx.Client, name: str) -> None:
    """The status and the word that are due; not a measurement more, the token file as it was, and no secret in the answer."""
    method, path, headers, body, status, code = FORBIDDEN[name]
    tokens = guarded.folder / "tokens.json"
    before, counts = tokens.read_bytes(), measurement_counts(wh)
    sent = {"json": body} if isinstance(body, dict) else {"content": body}
    answer = client.request(method, path, headers=headers, **sent)  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    assert not code or answer.json()["code"] == code
    assert measurement_counts(wh) == counts
    assert tokens.read_bytes() == before
    assert not [secret for secret in (*SECRETS.values(), OPEN, USED, EXPIRED) if secret in answer.text]


def test_a_replayed_batch_is_stored_once_and_its_name_is_not_taken_over(wh: Warehouse, client: httpx.Client) -> None:
    """Sent again word for word: 200, once; other content under its name: 409; another agent under its name: 403."""
    parts = post([ping(7, [1000])], boot="replay")
    parts["headers"] |= bearer("sin-1")
    before = measurement_counts(wh)["ping"]
    assert [client.post(**parts).json()["already"] for _ in range(3)] == [False, True, True]
    assert measurement_counts(wh)["ping"] == before + 1
    other = {**parts, "content": gzip.compress(content([ping(8, [1000])]))}
    assert client.post(**other).status_code == 409
    assert client.post(**{**parts, "headers": parts["headers"] | bearer("fra-1")}).status_code == 403
    assert measurement_counts(wh)["ping"] == before + 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[" * 200_000, "not_json"),
        (b'{"v":1,"type":"ping","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "not_json"),
        (content([ping(1, [1000], agent="fra-1")]).strip(), "wrong_agent"),
        (content([ping(1, [1000], dst="a\0b")]).strip(), "bad_text"),
        (b'{"v":1,"type":"ping","rtt":' + b"9" * 100_000 + b"}", "bad_field"),
        (content([report(NOW)]).strip().replace(b'"uptime_ns"', b'"at_ns":' + b"9" * 400 + b',"uptime_ns"'), "from_the_future"),
        (b'{"v":1,"type":"' + b"x" * (5 << 20) + b'"}', "too_long"),
    ],
)
def test_a_line_that_is_made_to_harm_is_kept_as_a_reject(wh: Warehouse, client: httpx.Client, line: bytes, reason: str) -> None:
    """Deep nesting, endless numbers, NUL, another agent's line, a line without end: each costs itself only."""
    parts = post(_LINES, boot=f"harm{abs(hash(line[:50] + reason.encode()))}")
    parts["headers"] |= bearer("sin-1")
    before = reject_counts(wh).get(reason, 0)
    answer = client.post(**{**parts, "content": gzip.compress(line + b"\n" + content([ping(abs(hash(line)) % 10**6, [1])]))})
    assert (answer.status_code, answer.json()["rejected"]) == (200, 1), answer.text
    assert reject_counts(wh)[reason] == before + 1


def test_headers_cannot_be_injected(guarded: GuardedCollector, client: httpx.Client) -> None:
    """Line ends in what comes back (ETag, site, agent) do not make a header; what is logged of a name is one line without escapes."""
    for site in ("sin%0d%0aX-Evil:%201", "%1b%5b2J", "%00"):
        answer = client.get(f"/api/v1/agents/sin-1/config?site={site}", headers=bearer("sin-1") | {"If-None-Match": '"x"'})
        assert answer.status_code == 200
        assert "x-evil" not in answer.headers
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(guarded.socket))
        raw.sendall(
            b"GET /api/v1/identity HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer \x1b[2Jx\r\n\tfolded: 1\r\nConnection: close\r\n\r\n"
        )
        raw.settimeout(30)
        assert raw.recv(65536).split(b" ")[1] in {b"400", b"401"}
    body = {**enrolment(OPEN), "agent": "evil\n2026-11-26 INFO enrolled\x1b[2J"}
    assert client.post("/api/v1/enroll", json=body).status_code == 400
    assert all(line.isprintable() for line in guarded.log.split("\n"))
    assert "INFO enrolled" not in guarded.log


def test_two_lengths_are_no_request(guarded: GuardedCollector) -> None:
    """Content-Length twice, or beside Transfer-Encoding, is how a request is smuggled past a proxy: 400, and the connection ends."""
    for lengths in (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(guarded.socket))
            raw.settimeout(30)
            raw.sendall(b"POST /api/v1/enroll HTTP/1.1\r\nHost: c\r\n" + lengths + b"\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: c\r\n\r\n")
            said = b""
            while part := raw.recv(65536):
                said += part
            assert said.startswith(b"HTTP/1.1 400"), said
            assert b"isochrone_batches" not in said


def test_without_tokens_only_what_is_a_batch_is_taken(open_collector: Process) -> None:
    """On one's own machine there is nothing to enrol in, and the rest is as strict."""
    with open_collector.client() as client:
        assert client.post("/api/v1/enroll", json=enrolment(OPEN)).status_code == 404
        assert client.get("/api/v1/identity").status_code == 404
        assert client.get("/api/v1/agents/sin-1/config").status_code == 404
        assert client.post(**{**post(_LINES), "content": b"no gzip"}).status_code == 400


def test_the_token_file_is_no_ones_but_its_owners(guarded: GuardedCollector) -> None:
    """No secret is in it, and a copy that others can read is refused."""
    text = (guarded.folder / "tokens.json").read_text()
    assert not [secret for secret in (*SECRETS.values(), OPEN, USED, EXPIRED) if secret in text]
    assert (guarded.folder / "tokens.json").stat().st_mode & 0o777 == 0o600
    copy = guarded.folder / "copy.json"
    copy.write_text(text)
    copy.chmod(0o644)
    with pytest.raises(Exception, match="chmod 600"):
        RosterFile(copy).read()
    assert json.loads(text)["agents"]["mallory-1"]["revoked_at"]
    assert Path(guarded.folder / "signing.key").stat().st_mode & 0o777 == 0o600
