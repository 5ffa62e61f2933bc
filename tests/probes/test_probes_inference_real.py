"""The inference probe against llama.cpp's own server, over loopback, a delaying proxy and TLS."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import h11
import pytest
import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from lab import serving
from lab.loopback_delay import OneWay, PreciseTimer
from lab.loopback_proxy import DelayingProxy
from probes.inference import InferenceConfig, InferenceProbe
from probes.model import Target, Vantage, new_boot_id
from records.errors import ConfigError
from records.measurement import InferenceResult

pytestmark = [pytest.mark.alone, pytest.mark.waits]

MS = 1_000_000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a real model server."""
    pytest.importorskip("xllamacpp", reason="the wheel xllamacpp is not installed")
    model = serving.make_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    port = free_port()
    process = subprocess.Popen(serving.server_argv("127.0.0.1", port, model))
    try:
        serving.wait_ready(f"http://127.0.0.1:{port}/v1", 30, lambda: process.poll() is None)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(10)


def vantage() -> Vantage:
    return Vantage(agent="a", site="sin", boot=new_boot_id())


def target(url: str, **more: str) -> Target:
    return Target(site="fra", address="127.0.0.1", inference_url=url, **more)  # type: ignore[arg-type]


async def ask(config: InferenceConfig, aim: Target, times: int = 1) -> list[InferenceResult]:
    probe = InferenceProbe(config)
    await probe.open()
    try:
        results = [line for _ in range(times) for line in await probe.once(aim, vantage())]
    finally:
        await probe.close()
    assert all(isinstance(result, InferenceResult) for result in results)
    return results  # type: ignore[return-value]


@asynccontextmanager
async def far_away(url: str, there_ms: int, back_ms: int) -> AsyncIterator[str]:
    """The same server behind a proxy that delays each direction."""
    timer = PreciseTimer()
    ways = (OneWay(delay_ns=delay * MS, jitters_ns=(), loss_ratio=0, rate_bps=None) for delay in (there_ms, back_ms))
    port = int(url.rsplit(":", 1)[1].split("/", maxsplit=1)[0])
    proxy = DelayingProxy("127.0.0.1", 0, ("127.0.0.1", port), *ways, timer, random.Random(1))
    await proxy.start()
    try:
        yield f"http://127.0.0.1:{proxy.port}/v1"
    finally:
        await proxy.stop()
        timer.close()


def test_cold_request_is_split_into_its_phases(server: str) -> None:
    """A cold request has every phase in order, as many tokens as asked for, and the kernel's RTT."""
    (result,) = asyncio.run(ask(InferenceConfig(max_tokens=12), target(server)))
    assert (result.outcome, result.error, result.http_status) == ("ok", None, 200)
    assert result.connection == "cold"
    assert result.model == serving.MODEL_NAME
    assert result.dns_ns is None  # an address needs none
    assert result.tls_ns is None
    assert result.tcp_ns is not None
    assert result.tcp_ns > 0
    assert 0 < result.upload_ns <= result.ttfb_ns <= result.ttft_ns <= result.e2e_ns  # type: ignore[operator]
    assert result.output_tokens == 12
    assert len(result.token_gaps_ns) == 11
    assert sum(result.token_gaps_ns) <= result.e2e_ns - result.ttft_ns  # type: ignore[operator]
    # This model answers within milliseconds: where the machine was busy elsewhere just then, no client could tell that it streamed.
    assert result.is_streamed is not False
    assert result.response_segments is not None
    assert 1 <= result.response_segments <= 12 + 8  # a segment for each token at most, head, counts and end
    assert 0 < result.tcp_min_rtt_ns < 100 * MS  # type: ignore[operator]


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_token_count_is_the_servers(server: str, api: str) -> None:
    """The chunks counted are the completion tokens the server itself counts, without a stream, for the same request."""
    (result,) = asyncio.run(ask(InferenceConfig(max_tokens=9, api=api), target(server)))
    path, body = (
        ("/chat/completions", {"messages": [{"role": "user", "content": "x"}]}) if api == "chat" else ("/completions", {"prompt": "x"})
    )
    request = urllib.request.Request(  # noqa: S310  our own http URL
        server + path, json.dumps({"model": result.model, "max_tokens": 9, **body}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        usage = json.load(answer)["usage"]
    assert result.output_tokens == usage["completion_tokens"] == 9
    assert result.prompt_tokens is not None


def test_names_are_resolved_and_timed(server: str) -> None:
    """A host name costs a DNS phase; the address that answered is in the result."""
    (result,) = asyncio.run(ask(InferenceConfig(max_tokens=2), target(server.replace("127.0.0.1", "localhost"))))
    assert (result.outcome, result.address) == ("ok", "127.0.0.1")
    assert result.dns_ns is not None
    assert result.dns_ns > 0


def test_warm_requests_pay_no_hand_shake(server: str) -> None:
    """With warm, every request goes over a connection that was open before it."""
    results = asyncio.run(ask(InferenceConfig(max_tokens=2, warm=True), target(server), times=3))
    assert [(r.outcome, r.connection, r.tcp_ns) for r in results] == [("ok", "warm", None)] * 3
    assert {r.model for r in results} == {serving.MODEL_NAME}


def test_distance_raises_ttft_by_the_way_there_and_back(server: str) -> None:
    """A path 60 ms there and 40 ms back costs TTFT 100 ms; the upload, handed to the kernel, costs nothing."""

    async def run() -> tuple[InferenceResult, InferenceResult]:
        async with far_away(server, 60, 40) as url:
            (near,) = await ask(InferenceConfig(max_tokens=2), target(server))
            (far,) = await ask(InferenceConfig(max_tokens=2), target(url))
        return near, far

    near, far = asyncio.run(run())
    assert (near.outcome, far.outcome) == ("ok", "ok")
    assert far.ttft_ns >= 100 * MS  # type: ignore[operator]
    assert far.ttft_ns < 100 * MS + near.ttft_ns + 400 * MS  # type: ignore[operator]  # a noisy machine's share
    assert far.upload_ns < 60 * MS  # type: ignore[operator]


def test_parallel_requests_queue_for_slots(server: str) -> None:
    """Three times as many requests as slots are all answered, the slowest first token after the queue."""

    async def run() -> list[InferenceResult]:
        probe = InferenceProbe(InferenceConfig(max_tokens=60, prompt_tokens=200))
        await probe.open()
        me = vantage()
        lines = await asyncio.gather(*(probe.once(target(server), me) for _ in range(3 * serving.SLOT_COUNT)))
        await probe.close()
        return [line for one in lines for line in one]  # type: ignore[misc]

    results = asyncio.run(run())
    assert {r.outcome for r in results} == {"ok"}
    assert {r.output_tokens for r in results} == {60}
    first_tokens = sorted(r.ttft_ns for r in results)  # type: ignore[type-var]
    assert first_tokens[-1] > first_tokens[0]  # type: ignore[operator]


def test_absent_server_is_connect_failed() -> None:
    """Nothing listens: connect_failed with the system's reason, model or no model."""
    url = f"http://127.0.0.1:{free_port()}/v1"
    for aim in (target(url), target(url, inference_model="m")):
        (result,) = asyncio.run(ask(InferenceConfig(), aim))
        assert (result.outcome, result.ttft_ns, result.http_status) == ("connect_failed", None, None)
        assert "Connection refused" in (result.error or "")
    (result,) = asyncio.run(ask(InferenceConfig(), target("http://no-such-host.invalid/v1", inference_model="m")))
    assert result.outcome == "connect_failed"
    assert "cannot resolve 'no-such-host.invalid'" in (result.error or "")


def test_wrong_path_is_http_error(server: str) -> None:
    """A server that knows no such path is http_error with its status."""
    (result,) = asyncio.run(ask(InferenceConfig(), target(server.replace("/v1", "/nothing"), inference_model="m")))
    assert (result.outcome, result.http_status) == ("http_error", 404)


@asynccontextmanager
async def scripted(answer: bytes, *, hang: bool) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that reads, says `answer`, and closes or hangs; the list holds what it was sent."""
    seen: list[bytes] = []
    tasks = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        seen.append(await reader.read(65536))
        writer.write(answer)
        if hang:
            await asyncio.sleep(30)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", seen
        for task in tasks:
            task.cancel()


def test_silent_server_is_a_timeout() -> None:
    """A server that begins an answer and stops is a timeout that keeps what was measured."""

    async def run() -> InferenceResult:
        head = b'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {"choices":[{"delta":{"content":"a"}}]}\n\n'
        async with scripted(head, hang=True) as (url, _):
            (result,) = await ask(InferenceConfig(timeout_ms=400), target(url, inference_model="m"))
        return result

    result = asyncio.run(run())
    assert result.outcome == "timeout"
    assert "400 ms" in (result.error or "")
    assert result.ttft_ns is not None
    assert result.e2e_ns is None


def test_endless_answer_is_cut_off() -> None:
    """An answer past the limit is stopped and called broken."""

    async def run() -> InferenceResult:
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + b": x\n\n" * 100_000
        async with scripted(answer, hang=True) as (url, _):
            (result,) = await ask(InferenceConfig(max_response_bytes=10_000), target(url, inference_model="m"))
        return result

    result = asyncio.run(run())
    assert result.outcome == "protocol_error"
    assert "longer than 10000 bytes" in (result.error or "")


def test_api_key_is_sent_and_never_told(tmp_path: Path) -> None:
    """The bearer token goes to the server and into no result, even when the server repeats it."""
    key_file = tmp_path / "key"
    key_file.write_text("sk-very-secret\n")
    key_file.chmod(0o600)
    body = b'{"error":{"message":"Incorrect API key provided: sk-very-secret"}}'

    async def run() -> tuple[InferenceResult, bytes]:
        answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        async with scripted(answer, hang=False) as (url, seen):
            (result,) = await ask(
                InferenceConfig(), target(url.replace("//", "//user:sk-very-secret@"), inference_model="m", api_key_file=str(key_file))
            )
        return result, seen[0]

    result, request = asyncio.run(run())
    assert b"authorization: bearer sk-very-secret\r\n" in request.lower()
    assert (result.outcome, result.http_status) == ("http_error", 401)
    assert result.error == "HTTP 401: Incorrect API key provided: [key]"
    assert "secret" not in repr(result)


def test_unusable_targets_are_config_errors(tmp_path: Path) -> None:
    """No URL, no key file, a key of two lines: the user's mistake, said without the key."""
    bad_key = tmp_path / "key"
    bad_key.write_text("one-secret\ntwo-secret\n")
    bad_key.chmod(0o600)
    good = target("http://127.0.0.1:1/v1", inference_model="m")
    for wrong, words in (
        (replace(good, inference_url=None), "no inference_url"),
        (replace(good, api_key_file=str(tmp_path / "none")), "No such file"),
        (replace(good, api_key_file=str(bad_key)), "one token on one line"),
    ):
        with pytest.raises(ConfigError, match=words) as refused:
            asyncio.run(ask(InferenceConfig(), wrong))
        assert "secret" not in str(refused.value)
    with pytest.raises(ConfigError, match="ca_file"):
        asyncio.run(ask(InferenceConfig(ca_file=str(tmp_path / "none")), good))


def test_tls_is_a_phase_of_its_own(server: str, tmp_path: Path) -> None:
    """Over https the hand-shake is timed apart; a certificate nobody vouches for is connect_failed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate to test TLS with")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", *subject]
    subprocess.run([*argv, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    port = int(server.rsplit(":", 1)[1].split("/", maxsplit=1)[0])

    async def front(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What stands before a model server in the world: it ends TLS and passes the bytes on."""
        from_model, to_model = await asyncio.open_connection("127.0.0.1", port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, to_model), pump(from_model, writer), return_exceptions=True)

    async def run() -> tuple[InferenceResult, list[InferenceResult], InferenceResult]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        async with await asyncio.start_server(front, "127.0.0.1", 0, ssl=context) as listening:
            url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
            (trusted,) = await ask(InferenceConfig(max_tokens=4, ca_file=str(cert)), target(url))
            warm = await ask(InferenceConfig(max_tokens=4, ca_file=str(cert), warm=True), target(url), times=2)
            (unknown,) = await ask(InferenceConfig(), target(url))
        return trusted, warm, unknown

    trusted, warm, unknown = asyncio.run(run())
    assert (trusted.outcome, trusted.error, trusted.output_tokens) == ("ok", None, 4)
    assert trusted.tls_ns is not None
    assert trusted.tls_ns > 0
    assert [(r.outcome, r.error, r.connection, r.tls_ns) for r in warm] == [("ok", None, "warm", None)] * 2
    assert unknown.outcome == "connect_failed"
    assert "certificate not accepted" in (unknown.error or "")


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_real_server_behind_http2(server: str, api: str) -> None:
    """As in the world, where what ends HTTP/2 stands before a model server that speaks HTTP/1.1: the same tokens."""
    ca = trustme.CA()
    port = int(server.rsplit(":", 1)[1].split("/", maxsplit=1)[0])

    async def front(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        near.initiate_connection()
        asked: dict[int, tuple[str, str, bytearray]] = {}

        async def pass_on(stream: int) -> None:
            method, path, body = asked[stream]
            far = h11.Connection(h11.CLIENT)
            from_model, to_model = await asyncio.open_connection("127.0.0.1", port)
            fields = [("Host", "x"), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            parts = [h11.Request(method=method, target=path, headers=fields), h11.Data(data=bytes(body)), h11.EndOfMessage()]
            to_model.write(b"".join(far.send(part) or b"" for part in parts))
            while True:
                said = far.next_event()
                if said is h11.NEED_DATA:
                    far.receive_data(await from_model.read(65536))
                elif isinstance(said, h11.Response):
                    kind = dict(said.headers)[b"content-type"].decode()
                    near.send_headers(stream, [(":status", str(said.status_code)), ("content-type", kind)])
                elif isinstance(said, h11.Data):
                    near.send_data(stream, bytes(said.data))
                else:
                    near.end_stream(stream)
                    break
                writer.write(near.data_to_send())
            writer.write(near.data_to_send())
            to_model.close()

        while data := await reader.read(65536):
            for event in near.receive_data(data):
                if isinstance(event, RequestReceived):
                    named = dict(event.headers or ())
                    asked[event.stream_id or 0] = (named[":method"], named[":path"], bytearray())
                elif isinstance(event, DataReceived):
                    asked[event.stream_id or 0][2].extend(event.data or b"")
                elif isinstance(event, StreamEnded):
                    await pass_on(event.stream_id or 0)
            writer.write(near.data_to_send())
        writer.close()

    async def run() -> list[InferenceResult]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(context)
        context.set_alpn_protocols(["h2"])
        with ca.cert_pem.tempfile() as ca_file:
            async with await asyncio.start_server(front, "127.0.0.1", 0, ssl=context) as listening:
                url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
                return await ask(InferenceConfig(max_tokens=9, warm=True, api=api, ca_file=ca_file), target(url), times=2)

    for result in asyncio.run(run()):
        assert (result.outcome, result.error, result.http_version, result.connection) == ("ok", None, "2", "warm")
        assert (result.output_tokens, result.completion_tokens, result.finish_reason) == (9, 9, "length")
        assert result.first_content_ns == result.ttft_ns
        assert result.is_streamed is not False
