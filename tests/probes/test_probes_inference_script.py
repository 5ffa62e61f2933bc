"""The inference probe over real connections against servers that do what a script says, over HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded
from inference_script import DONE, ROLE, STOP, USAGE, event, token

from probes.inference import InferenceConfig, InferenceProbe
from probes.inference.budget import Budget
from probes.inference.keys import read_key
from probes.model import Target, Vantage, Withheld
from records.errors import ConfigError
from records.measurement import InferenceResult

pytestmark = [pytest.mark.alone, pytest.mark.waits]

MS = 1_000_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#: Seconds to wait, or bytes to send at once.
Script = Sequence[float | bytes]


async def play(script: Script, write: Callable[[bytes], Awaitable[None]]) -> None:
    for step in script:
        if isinstance(step, bytes):
            await write(step)
        else:
            await asyncio.sleep(step)


@contextlib.asynccontextmanager
async def http1(*scripts: Script, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that plays the n-th script, head and all, to the n-th request, the last one to all further ones; then it closes."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
        await reader.readexactly(length)
        script = scripts[min(count, len(scripts) - 1)]
        count += 1

        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        with contextlib.suppress(OSError):
            await play(script, write)
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as listening:
        yield listening.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def http2(script: Script, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[int]]]:
    """A server that plays a body to every request; the list holds the streams it had, by connection."""
    streams: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        h2.initiate_connection()
        writer.write(h2.data_to_send())

        async def answer(stream: int) -> None:
            async def write(data: bytes) -> None:
                h2.send_data(stream, data)
                writer.write(h2.data_to_send())
                await writer.drain()

            h2.send_headers(stream, [(":status", "200"), ("content-type", "text/event-stream")])
            await play(script, write)
            h2.send_headers(stream, [("x-served-by", "script")], end_stream=True)  # trailers
            writer.write(h2.data_to_send())

        tasks = []
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for what in h2.receive_data(data):
                    if isinstance(what, RequestReceived) and what.stream_id:
                        streams.append(what.stream_id)
                    if isinstance(what, StreamEnded) and what.stream_id:
                        tasks.append(asyncio.create_task(answer(what.stream_id)))
                writer.write(h2.data_to_send())
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as listening:
        yield listening.sockets[0].getsockname()[1], streams


def target(port: int, scheme: str = "http", **more: str) -> Target:
    return Target(site="fra", address="127.0.0.1", inference_url=f"{scheme}://localhost:{port}/v1", inference_model="m", **more)  # type: ignore[arg-type]


async def ask(config: InferenceConfig, aim: Target, times: int = 1) -> list[InferenceResult]:
    probe = InferenceProbe(config)
    await probe.open()
    try:
        made = [line for _ in range(times) for line in await probe.once(aim, Vantage(agent="a", site="sin", boot="b"))]
    finally:
        await probe.close()
    return made  # type: ignore[return-value]


def one(script: Script, **config: object) -> InferenceResult:
    """The result of one request over HTTP/1.1."""

    async def run() -> InferenceResult:
        async with http1(script) as port:
            (made,) = await ask(InferenceConfig(**config), target(port))  # type: ignore[arg-type]
        return made

    return asyncio.run(run())


def streamed(count: int, gap_s: float) -> list[float | bytes]:
    return [part for number in range(count) for part in (gap_s, event(token(f"t{number}")))]


@pytest.mark.parametrize("field", ["content", "reasoning_content"])
def test_late_role_only_first_then_apart(field: str) -> None:
    """A head at once, a role-only chunk 60 ms on, tokens 30 ms apart: every phase where the script has it, and truly streamed."""
    script = [HEAD, 0.06, event(ROLE), 0.06]
    tokens = [part for number in range(6) for part in (event(token(f"t{number}", field)), 0.03)]
    for _ in range(4):  # a client that is kept from the processor for so long reads two of them as one
        made = one([*script, *tokens, event(STOP) + event(USAGE) + DONE])
        if made.head_ns != made.ttfb_ns != made.ttft_ns and min(made.token_gaps_ns, default=0) > 0:
            break
    assert (made.outcome, made.error, made.http_version, made.finish_reason) == ("ok", None, "1.1", "stop")
    assert made.head_ns is not None
    assert made.ttfb_ns is not None
    assert made.ttft_ns is not None
    assert made.ttfb_ns >= made.head_ns + 55 * MS
    assert made.ttft_ns >= made.ttfb_ns + 55 * MS
    assert min(made.token_gaps_ns) >= 1
    assert sum(made.token_gaps_ns) >= 140 * MS
    first = {"content": made.first_content_ns, "reasoning_content": made.first_reasoning_ns}
    assert first == dict.fromkeys(first) | {field: made.ttft_ns}
    assert made.is_streamed is not False
    assert (made.output_tokens, made.completion_tokens, made.prompt_tokens) == (6, 2, 35)


def test_tokens_apart_are_streamed_and_an_answer_held_back_is_not() -> None:
    """The same answer as a server makes it and as a buffering proxy passes it on, with the time its tokens took."""
    timings = event({"choices": [], "timings": {"predicted_ms": 200.0}})
    end = event(STOP) + timings + DONE
    for _ in range(3):  # a machine that is busy elsewhere may see neither; never the wrong one
        apart = one([HEAD, *streamed(8, 0.025), end])
        assert apart.is_streamed is not False
        if apart.is_streamed:
            break
    assert apart.is_streamed is True
    assert apart.token_arrivals is not None
    assert apart.token_arrivals > 2
    for _ in range(3):
        held = one([0.2, HEAD + b"".join(part for part in streamed(8, 0) if isinstance(part, bytes)) + end])
        assert held.is_streamed is not True
        if held.is_streamed is False:
            break
    assert (held.is_streamed, held.token_arrivals) == (False, 1)


def test_pieces_that_cut_characters_and_events() -> None:
    """A server that writes seven bytes at a time cuts UTF-8 and events: the tokens are the same."""
    body = event(token("你好")) + event(token("🚀")) + event(STOP) + DONE
    pieces = [body[start : start + 7] for start in range(0, len(body), 7)]
    made = one([HEAD, *(part for piece in pieces for part in (piece, 0.001))])
    assert (made.outcome, made.output_tokens) == ("ok", 2)


@pytest.mark.parametrize(
    ("script", "outcome", "words"),
    [
        ([HEAD, event(token("a")), 0.01, event({"error": {"message": "out of memory", "code": 500}})], "protocol_error", "out of memory"),
        ([HEAD.replace(b"Connection: close", b"Content-Length: 9999"), event(token("a"))], "protocol_error", "broken HTTP"),
        ([HEAD, event(token("a"))], "protocol_error", "without [DONE] and without a finish reason"),
        ([b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"], "http_error", "HTTP 503: busy"),
        ([], "protocol_error", "closed the connection without an answer"),
    ],
    ids=["error-in-stream", "cut-off", "no-end", "503", "closes"],
)
def test_what_servers_do_wrong(script: Script, outcome: str, words: str) -> None:
    """Each is a result that says which; what was measured before stays."""
    made = one(script)
    assert made.outcome == outcome
    assert words in (made.error or "")
    assert (made.ttft_ns is not None) == any(b'"a"' in part for part in script if isinstance(part, bytes))


def test_retry_after_is_heeded() -> None:
    """A 429 is a result; until its time is over the target is left alone, and then asked again."""
    limited = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"

    async def run() -> None:
        async with http1([limited], [HEAD, event(token("a")), event(STOP) + DONE]) as port:
            probe, me, aim = InferenceProbe(InferenceConfig()), Vantage(agent="a", site="sin", boot="b"), target(port)
            await probe.open()
            (first,) = await probe.once(aim, me)
            assert isinstance(first, InferenceResult)
            assert (first.outcome, first.http_status, first.retry_after_ns) == ("http_error", 429, 2 * 10**9)
            with pytest.raises(Withheld, match=r"asked to be left alone until .* UTC"):
                await probe.once(aim, me)
            await asyncio.sleep(2.05)
            (second,) = await probe.once(aim, me)
            assert isinstance(second, InferenceResult)
            assert second.outcome == "ok"
            await probe.close()

    asyncio.run(run())


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    return made, str(path)


def tls_of(ca: trustme.CA, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def test_http2_by_alpn_and_by_prior_knowledge(ca: tuple[trustme.CA, str]) -> None:
    """Over TLS what the server offers is spoken; without TLS HTTP/2 is spoken where it is asked for; warm keeps the connection."""
    body = [*streamed(6, 0.01), event(STOP) + DONE]

    async def run() -> None:
        async with http2(body, tls_of(ca[0], "h2", "http/1.1")) as (port, streams):
            auto, again = await ask(InferenceConfig(ca_file=ca[1], warm=True), target(port, "https"), times=2)
            assert [(r.outcome, r.error, r.http_version, r.tls_version, r.connection) for r in (auto, again)] == [
                ("ok", None, "2", "TLSv1.3", "warm")
            ] * 2
            assert streams == [1, 3, 5]  # the list of models, then the two
            (cold,) = await ask(InferenceConfig(ca_file=ca[1], http="2"), target(port, "https"))
            assert (cold.connection, cold.http_version, cold.output_tokens) == ("cold", "2", 6)
            assert None not in (cold.dns_ns, cold.tcp_ns, cold.tls_ns, cold.tcp_rtt_ns)
        async with http2(body) as (port, _):
            (plain,) = await ask(InferenceConfig(http="2", api="completions"), target(port))
            assert (plain.outcome, plain.error, plain.http_version, plain.tls_ns) == ("ok", None, "2", None)
        async with http1([HEAD, *body], context=tls_of(ca[0], "http/1.1")) as port:
            (older,) = await ask(InferenceConfig(ca_file=ca[1]), target(port, "https"))
            assert (older.outcome, older.http_version) == ("ok", "1.1")
            (refused,) = await ask(InferenceConfig(ca_file=ca[1], http="2"), target(port, "https"))
            assert refused.outcome == "connect_failed"
            assert "HTTP/2" in (refused.error or "")
        async with http1([HEAD, *body], context=tls_of(ca[0])) as port:
            (silent,) = await ask(InferenceConfig(ca_file=ca[1], http="2"), target(port, "https"))
            assert "offers no HTTP/2 (ALPN agreed on nothing)" in (silent.error or "")
        async with http1([b"HTTP/1.1 400 Bad Request\r\n\r\n"]) as port:
            (told,) = await ask(InferenceConfig(http="2", timeout_ms=3000), target(port))
            assert told.outcome in {"protocol_error", "timeout"}

    asyncio.run(run())


def test_the_day_has_a_budget_that_outlives_the_process(tmp_path: Path) -> None:
    """Requests and tokens are counted in a file; a new process goes on where the last one stopped; at midnight UTC it begins anew."""
    now = [datetime(2026, 3, 1, 23, 59, tzinfo=UTC).timestamp()]
    file = tmp_path / "budget.json"

    def budget() -> Budget:
        return Budget(file, requests=3, tokens=250, clock=lambda: now[0])

    budget().take(80)
    budget().take(80)
    with pytest.raises(Withheld, match=r"90 of 250 tokens a day are left, and a request may take 100"):
        budget().take(100)
    kept = budget()
    kept.take(80)
    kept.give_back(30)  # it took 50
    assert json.loads(file.read_text()) == {"day": "2026-03-01", "requests": 3, "tokens": 210}
    with pytest.raises(Withheld, match=r"the budget of 3 requests a day is used up until 00:00 UTC"):
        budget().take(1)
    now[0] += 60
    budget().take(80)
    assert json.loads(file.read_text()) == {"day": "2026-03-02", "requests": 1, "tokens": 80}
    kept.give_back(50)  # of yesterday: nothing
    now[0] -= 3600  # a clock that is set back does not give the day again
    budget().take(80)
    assert json.loads(file.read_text())["requests"] == 2
    file.write_text('{"day": "2026-03-02"')
    with pytest.raises(ConfigError, match="damaged"):
        budget().take(1)


def test_the_probe_keeps_its_budget_by_what_was_really_taken(tmp_path: Path) -> None:
    """Tokens as the server counts them; a request that never left is given back; what is withheld is not sent."""
    file = tmp_path / "budget.json"
    config = InferenceConfig(daily_requests=2, daily_tokens=1000, prompt_tokens=50, max_tokens=50, budget_file=str(file))

    def spent() -> tuple[int, int]:
        body = json.loads(file.read_text())
        return body["requests"], body["tokens"]

    async def run() -> None:
        async with http1([HEAD, event(token("a")), event(STOP) + event(USAGE) + DONE]) as port:
            await ask(config, target(port))
            assert spent() == (1, 37)
        await ask(config, target(port))  # nobody listens any more
        assert spent() == (1, 37)
        async with http1([HEAD, event(token("a"))]) as port:
            await ask(config, target(port))  # cut off: as much as it may have taken
            assert spent() == (2, 137)
            with pytest.raises(Withheld, match="2 requests a day"):
                await ask(config, target(port))

    asyncio.run(run())


def test_keys_come_from_a_private_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that others can read is refused, and so is a variable that is not there; no refusal repeats any of the key."""
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    aim = Target(site="fra", address="127.0.0.1", api_key_file=str(file))
    for mode in (0o644, 0o640, 0o604, 0o666):
        file.chmod(mode)
        with pytest.raises(ConfigError, match=rf"can be read by others \(mode {mode:04o}\); chmod 600") as refused:
            read_key(aim)
        assert "sk-" not in str(refused.value)
    file.chmod(0o600)
    assert read_key(aim) == "sk-file"
    there = replace(aim, api_key_file=None, api_key_env="ISOCHRONE_TEST_KEY")
    with pytest.raises(ConfigError, match="the environment has no variable 'ISOCHRONE_TEST_KEY'"):
        read_key(there)
    monkeypatch.setenv("ISOCHRONE_TEST_KEY", "sk-env")
    assert read_key(there) == "sk-env"
    with pytest.raises(ConfigError, match="give one of them"):
        read_key(replace(there, api_key_file=str(file)))
    monkeypatch.setenv("ISOCHRONE_TEST_KEY", "sk env")
    with pytest.raises(ConfigError, match="one token on one line") as refused:
        read_key(there)
    assert "sk" not in str(refused.value)


def what_ps_reads() -> bytes:
    """The arguments of every process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return b"".join(found)


def test_the_command_shows_no_key(tmp_path: Path) -> None:
    """`isochrone infer` with a key from the environment: sent to the server, and in no output, nor among its arguments."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        body = b'{"error":{"message":"Incorrect API key provided: sk-hidden"}}'
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        arguments.append(what_ps_reads())
        writer.close()

    arguments: list[bytes] = []

    async def run() -> tuple[bytes, bytes]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
            argv = [sys.executable, "-m", "app.cli", "infer", url, "--model", "m", "--api-key-env", "A_KEY", "--json"]
            process = await asyncio.create_subprocess_exec(
                *argv, env={**os.environ, "A_KEY": "sk-hidden"}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            return await process.communicate()

    said, noted = asyncio.run(run())
    assert b"authorization: bearer sk-hidden" in seen[0].lower()
    assert b"Incorrect API key provided: [key]" in said
    assert b"--api-key-env" in arguments[0]
    assert b"sk-hidden" not in said + noted + arguments[0]
