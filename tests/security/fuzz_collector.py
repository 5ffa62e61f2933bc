"""What is given to a collector: requests by its description, broken requests as bytes, batches of lines that are broken or only strange."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import requests
import schemathesis
from fuzz_inputs import Part, any_line, broken
from guarded import OPEN, SECRETS, GuardedCollector, bearer
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import content_type_conformance, not_a_server_error, response_schema_conformance, status_code_conformance
from warehouse_builders import ping, post

__all__ = ["api", "batches", "wire"]

#: A batch is sent again for so long while the collector says that it is busy or says nothing.
GIVE_UP_S = 180.0


@schemathesis.serializer("application/x-ndjson")
def _lines(_context: object, value: object) -> bytes:
    """A body of lines as it is: text, or whatever stands in its place."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def api(part: Part, count: int, url: str, rng: random.Random) -> None:
    """Requests by the description, to every operation, as nobody and as an agent."""
    schema = schemathesis.openapi.from_dict(json.loads((Path(__file__).parents[2] / "warehouse" / "openapi.json").read_text()))
    operations = [result.ok() for result in schema.get_all_operations()]
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    asked = [(operation, mode) for operation in operations for mode in GenerationMode if mode.is_positive or len(operation.label) > 14]
    each = max(1, count // len(asked))
    with httpx.Client(timeout=60) as client:
        for operation, mode in asked:

            @seed(rng.randrange(1 << 32))
            @settings(max_examples=each, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode), who=st.sampled_from([None, "sin-1", "fra-1"]))
            def ask(case: Any, who: str | None) -> None:
                part.inputs += 1
                headers = None if who is None else bearer(who)
                try:
                    answer = case.call(base_url=url, headers=headers, timeout=60)
                except requests.Timeout:
                    part.is_late(f"{case.method} {case.path} as {who}", lambda: case.call(base_url=url, headers=headers, timeout=60))
                    return
                except (ValueError, OSError) as error:  # what the client itself will not send
                    part.outcomes[f"not sent: {type(error).__name__}"] += 1
                    return
                part.outcomes[str(answer.status_code)] += 1
                if answer.status_code == 405 or (answer.status_code == 400 and answer.text.startswith("Invalid HTTP")):
                    return  # a method or bytes that are no request: nothing the description is about
                if answer.status_code == 404 and answer.text == "Not Found":
                    return  # a path that is none of it
                try:
                    case.validate_response(answer, checks=checks)
                except AssertionError as error:
                    part.fault(f"{case.method} {case.path} as {who}: {error}")
                except BaseExceptionGroup as group:
                    part.fault(f"{case.method} {case.path} as {who}: {[str(error) for error in group.exceptions]}")

            with contextlib.suppress(Exception) if not mode.is_positive else contextlib.nullcontext():  # nothing wrong can be made of some
                ask()
        assert client.get(f"{url}/healthz").status_code == 200


def wire(part: Part, count: int, collector: GuardedCollector, rng: random.Random) -> None:
    """Broken requests as bytes."""
    parts = post([ping(1, [1])])
    lines = [f"{name}: {value}" for name, value in {"Host": "c", **parts["headers"], **bearer("sin-1")}.items()]
    body = parts["content"]
    enrolment = json.dumps({"invitation": OPEN + "x", "agent": "a", "site": "sin", "secret_sha256": "0" * 64}).encode()
    whole = [
        ("\r\n".join(["POST /api/v1/batches HTTP/1.1", *lines, f"Content-Length: {len(body)}", "", ""])).encode() + body,
        f"POST /api/v1/enroll HTTP/1.1\r\nHost: c\r\nContent-Length: {len(enrolment)}\r\n\r\n".encode() + enrolment,
        b'POST /api/v1/enroll HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n1\r\n1\r\n0\r\n\r\n',
        b"GET /api/v1/agents/sin-1/config?site=sin HTTP/1.1\r\nHost: c\r\n" + f"Authorization: Bearer {SECRETS['sin-1']}\r\n\r\n".encode(),
        b"GET /metrics HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: c\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    ]

    def give(sent: bytes) -> bytes:
        said = b""
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(60)
            raw.connect(str(collector.socket))
            try:
                raw.sendall(sent)
                raw.shutdown(socket.SHUT_WR)
                while len(said) <= 200_000 and (piece := raw.recv(65536)):
                    said += piece
            except TimeoutError:
                raise
            except OSError:  # it may close the connection at any moment
                pass
        return said

    for _ in range(count):
        part.inputs += 1
        sent = broken(rng, rng.choice(whole))
        try:
            said = give(sent)
        except TimeoutError:
            part.is_late(repr(sent), functools.partial(give, sent))
            continue
        status = said.split(b" ", 2)[1][:3].decode("ascii", "replace") if said.startswith(b"HTTP/1.") else "nothing"
        part.outcomes[status] += 1
        if status.startswith("5"):
            part.fault(f"{status} for {sent!r}: {said[:300]!r}")


def batches(part: Part, count: int, collector: GuardedCollector, rng: random.Random) -> None:
    """Batches of ten lines each, many at a time, for an answer waits for its commit."""
    lock, local = threading.Lock(), threading.local()

    def post_it(client: httpx.Client, packed: bytes, boot: str, number: int) -> httpx.Response:
        parts = post([ping(1, [1])], boot=boot, sequence=number)
        parts["headers"] |= bearer("sin-1")
        return client.post(**{**parts, "content": packed})

    def again(packed: bytes, number: int) -> None:
        with collector.client() as client:  # by another name: one that was stored meanwhile would be answered at once
            post_it(client, packed, "again", number)

    def send(number: int) -> None:
        own = random.Random(number)
        body = b"\n".join(any_line(own) for _ in range(10))
        packed = gzip.compress(body, 1)
        if own.random() < 0.05:  # a batch that is none costs the collector a transaction of its own
            packed = broken(own, packed)
        client = getattr(local, "client", None)
        if client is None:
            client = local.client = collector.client()
        until = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until:
            try:
                answer = post_it(client, packed, f"fuzz{number % 97}", number)
            except httpx.ReadTimeout:  # sent again it is the same batch
                with lock:
                    part.is_late(repr(body), functools.partial(again, packed, number))
                continue
            except httpx.HTTPError as error:
                with lock:
                    part.inputs += 1
                    part.fault(f"{type(error).__name__}: {error} for {body!r}")
                return
            if answer.status_code != 429:
                break
            with lock:
                part.outcomes["429, sent again"] += 1
            time.sleep(0.5)  # half of what Retry-After says
        else:
            with lock:
                part.inputs += 1
                part.fault(f"no answer but 429 and timeouts for {body!r}")
            return
        with lock:
            part.inputs += 1
            part.outcomes[str(answer.status_code)] += 1
            if answer.status_code >= 500:
                part.fault(f"{answer.status_code} {answer.text} for {body!r}")

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(send, [rng.randrange(10**9) for _ in range(count)]))
