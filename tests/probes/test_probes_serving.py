"""The serving probe: texts with the names that servers document, llama.cpp's own metrics under load, and servers that speak nonsense."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_probes_inference_script import http1

from lab import serving as lab_serving
from probes.inference import InferenceConfig, InferenceProbe
from probes.model import Target, Vantage
from probes.serving import ServingConfig, ServingProbe
from probes.serving.metrics import NotMetrics, Reading, read_metrics
from records.claims import ServingResult, disagreements, wait_of
from records.errors import ConfigError
from records.measurement import InferenceResult

TEXTS = Path(__file__).parent / "serving_texts"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
SECOND = 10**9
TOKENS = 60


def golden(name: str) -> str:
    return (TEXTS / f"{name}.txt").read_text()


def test_vllm_by_its_documented_names() -> None:
    """Engines are added up, the fullest KV cache counts, and a metric that only begins like another is not taken for it."""
    assert read_metrics(golden("vllm")) == Reading(
        server="vllm",
        model=LLAMA,
        requests_running=13,
        requests_waiting=3,
        kv_cache_ratio=0.87,
        queue_sum_ns=2_250_000_000,
        queue_count=50,
        prefill_sum_ns=10 * SECOND,
        prefill_count=50,
        ttft_sum_ns=12_500_000_000,
        ttft_count=50,
        prompt_tokens_total=12_000,
        output_tokens_total=3_400,
        server_started_at_ns=1_700_000_000 * SECOND,
    )


def test_older_vllm_calls_its_cache_otherwise() -> None:
    """vllm:gpu_cache_usage_perc, before it was renamed."""
    found = read_metrics(golden("vllm").replace("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"))
    assert found is not None
    assert found.kv_cache_ratio == 0.87


def test_sglang_counts_a_request_once_for_all_ranks_that_serve_it() -> None:
    """Ranks of tensor parallelism see the same requests; those of data parallelism their own."""
    assert read_metrics(golden("sglang")) == Reading(
        server="sglang",
        model=LLAMA,
        requests_running=16,
        requests_waiting=7,
        kv_cache_ratio=0.28,
        queue_sum_ns=33 * SECOND,
        queue_count=11_008,
        ttft_sum_ns=900_500_000_000,
        ttft_count=11_008,
        prompt_tokens_total=8_128_902,
        output_tokens_total=7_557_572,
    )


def test_tensorrt_llm_behind_triton_and_by_itself() -> None:
    """Triton's labels tell the kinds of requests apart; trtllm-serve has names of its own, which a front end may prefix."""
    assert read_metrics(golden("triton")) == Reading(
        server="triton", model="tensorrt_llm", requests_running=4, requests_waiting=2, kv_cache_ratio=0.4875
    )
    own = Reading(
        server="trtllm",
        model="qwen",
        requests_running=5,
        requests_waiting=1,
        kv_cache_ratio=0.2,
        queue_sum_ns=30_000_000,
        queue_count=4,
        ttft_sum_ns=500_000_000,
        ttft_count=4,
    )
    assert read_metrics(golden("trtllm")) == own
    assert read_metrics(golden("trtllm").replace("trtllm_", "trtllm:")) == own


@pytest.mark.parametrize(
    ("text", "running"),
    [
        ("vllm:num_requests_running NaN\nvllm:num_requests_waiting 2\n", None),
        ("vllm:num_requests_running -1\nvllm:num_requests_waiting 2\n", None),
        ("vllm:num_requests_running +Inf\nvllm:num_requests_waiting 2\n", None),
        ("vllm:num_requests_waiting 2\n", None),
        ("vllm:num_requests_running 1\nvllm:num_requests_waiting 2\nvllm:kv_cache_usage_perc 87\n", 1),
    ],
)
def test_what_is_no_number_is_unknown(text: str, running: int | None) -> None:
    """NaN, infinity, less than nothing, and a share above 1: unknown, never 0."""
    found = read_metrics(text)
    assert found is not None
    assert (found.requests_running, found.requests_waiting, found.kv_cache_ratio, found.ttft_sum_ns) == (running, 2, None, None)


def test_metrics_of_something_else() -> None:
    """A node exporter's text is metrics but no inference server's; HTML is no metrics at all."""
    assert read_metrics("# TYPE node_load1 gauge\nnode_load1 0.2\n") is None
    assert read_metrics("") is None
    with pytest.raises(NotMetrics, match="no Prometheus text"):
        read_metrics("<html>\n<body>404</body>\n</html>\n")


@given(st.text(st.characters(codec="utf-8"), max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("utf-8", "replace")))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never another exception, whatever a server says, before or after a good line."""
    for whole in (text, "vllm:num_requests_running 1\n" + text, text + '\nvllm:num_requests_running{a="b"} 1\n'):
        try:
            found = read_metrics(whole)
        except NotMetrics:
            continue
        assert found is None or found.server in {"vllm", "sglang", "triton", "trtllm", "llamacpp"}


# -- over real connections ------------------------------------------------------------------------------------------------


def target(url: str, **more: str) -> Target:
    return Target(site="fra", address="127.0.0.1", metrics_url=url, **more)  # type: ignore[arg-type]


async def read(aim: Target, **config: object) -> ServingResult:
    probe = ServingProbe(ServingConfig(**config))  # type: ignore[arg-type]
    await probe.open()
    (made,) = await probe.once(aim, Vantage(agent="a", site="sin", boot="b"))
    await probe.close()
    assert isinstance(made, ServingResult)
    return made


def answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@pytest.mark.alone
@pytest.mark.waits
@pytest.mark.parametrize(
    ("said", "outcome", "words"),
    [
        ([answer(b"node_load1 0.2\n")], "no_metrics", "no inference server"),
        ([answer(b"<html>")], "protocol_error", "no Prometheus text"),
        ([answer(b"no such path", b"404 Not Found")], "http_error", "HTTP 404: no such path"),
        ([answer(b"x" * 300_000)], "protocol_error", "longer than 2000 bytes"),
        ([5.0], "timeout", "within 300 ms"),
        ([], "protocol_error", "without an answer"),
    ],
    ids=["other", "html", "404", "long", "silent", "closes"],
)
def test_what_servers_do_wrong(said: list[float | bytes], outcome: str, words: str) -> None:
    """Each is a result that says which, without numbers."""

    async def run() -> ServingResult:
        async with http1(said) as port:
            timeout_ms = 300 if outcome == "timeout" else 20_000
            return await read(target(f"http://127.0.0.1:{port}/metrics"), timeout_ms=timeout_ms, max_response_bytes=2000)

    made = asyncio.run(run())
    assert (made.outcome, made.server, made.requests_running) == (outcome, None, None)
    assert words in (made.error or "")


@pytest.mark.alone
@pytest.mark.waits
def test_a_reading_over_the_network(unused_port: int) -> None:
    """The numbers, how long it took, the kernel's RTT; nobody there is connect_failed; no URL is the user's mistake."""

    async def run() -> ServingResult:
        async with http1([answer(golden("vllm").encode())]) as port:
            return await read(target(f"http://127.0.0.1:{port}/metrics"), timeout_ms=20_000)

    made = asyncio.run(run())
    assert (made.outcome, made.server, made.requests_waiting, made.http_status) == ("ok", "vllm", 3, 200)
    assert None not in (made.took_ns, made.tcp_rtt_ns, made.response_bytes)
    gone = asyncio.run(read(target(f"http://127.0.0.1:{unused_port}/metrics")))
    assert gone.outcome == "connect_failed"
    with pytest.raises(ConfigError, match="metrics_url"):
        asyncio.run(read(Target(site="fra", address="127.0.0.1")))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, worker_port: int) -> Iterator[str]:
    """A real model server that publishes its metrics."""
    pytest.importorskip("xllamacpp", reason="the wheel xllamacpp is not installed")
    model = lab_serving.make_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    process = subprocess.Popen(lab_serving.server_argv("127.0.0.1", worker_port, model))
    try:
        lab_serving.wait_ready(f"http://127.0.0.1:{worker_port}", 30, lambda: process.poll() is None)
        yield f"http://127.0.0.1:{worker_port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.alone
@pytest.mark.waits
def test_llama_cpp_idle_and_with_all_slots_busy(llama: str) -> None:
    """Idle it has no request; with three times as many as slots it says that some wait, and no claim of it is wrong."""
    slots = lab_serving.SLOT_COUNT

    async def run() -> tuple[list[ServingResult], list[InferenceResult], int]:
        serving_probe, probe = (
            ServingProbe(ServingConfig(timeout_ms=30_000)),
            InferenceProbe(InferenceConfig(timeout_ms=60_000, max_tokens=TOKENS, prompt_tokens=300)),
        )
        me, aim = Vantage(agent="a", site="sin", boot="b"), target(f"{llama}/metrics")
        asked = Target(site="fra", address="127.0.0.1", inference_url=f"{llama}/v1", inference_model=lab_serving.MODEL_NAME)
        await serving_probe.open()
        await probe.open()
        readings = [line for line in await serving_probe.once(aim, me) if isinstance(line, ServingResult)]
        asking = [asyncio.ensure_future(probe.once(asked, me)) for _ in range(3 * slots)]
        most = 0
        while not all(one.done() for one in asking):
            (made,) = await serving_probe.once(aim, me)
            assert isinstance(made, ServingResult)
            readings.append(made)
            most = max(most, (made.requests_waiting or 0) if made.requests_running == slots else 0)
            await asyncio.sleep(0.02)
        (last,) = await serving_probe.once(aim, me)
        assert isinstance(last, ServingResult)
        results = [line for one in asking for line in one.result() if isinstance(line, InferenceResult)]
        await serving_probe.close()
        await probe.close()
        return [*readings, last], results, most

    readings, results, most_waiting = asyncio.run(run())
    assert {one.outcome for one in readings} == {"ok"}
    first, last = readings[0], readings[-1]
    assert (first.server, first.requests_running, first.requests_waiting) == ("llamacpp", 0, 0)
    assert {r.outcome for r in results} == {"ok"}
    assert 0 < most_waiting <= 2 * slots
    assert (last.requests_running, last.requests_waiting) == (0, 0)
    # llama.cpp publishes no histogram of waits: only its gauges can be held against the clients. On a busy machine its front end may
    # have requests for a while before it counts them, and that is said.
    assert last.ttft_count is None
    assert last.output_tokens_total is not None
    assert first.output_tokens_total is not None
    assert last.output_tokens_total - first.output_tokens_total == 3 * slots * TOKENS
    waits = [wait for result in results if (wait := wait_of(result)) is not None]
    assert len(waits) == 3 * slots
    assert {one.kind for one in disagreements(readings, waits)} <= {"absent"}
    # No more than there are slots had a first token before the first request had ended.
    ended_at_ns = min(wait.sent_at_ns + (result.e2e_ns or 0) for wait, result in zip(waits, results, strict=True))
    assert sum(wait.first_at_ns < ended_at_ns for wait in waits) <= slots
