"""Ten thousand cases for each parser of the inference and serving probes: any bytes end in a result, split anywhere in the same one."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inference_script import DONE, ROLE, STOP, USAGE, event, token

from probes.inference.chunk import ChunkError, error_text, read_chunk
from probes.inference.http1 import Http1
from probes.inference.http2 import Http2
from probes.inference.session import Answer, Arrival, StreamedAnswer
from probes.inference.sse import SseOverflow, SseParser
from probes.inference.wire import Wire
from probes.serving.metrics import NotMetrics, read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
many = settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PARTS = [event(ROLE), event(token("a")), event(token("你🚀")), event(STOP), event(USAGE), DONE, b": ping\n\n", b"event: x\ndata: {}\n\n"]


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


CHUNKS = [HEAD, chunked(event(token("a"))), chunked(event(STOP)), chunked(DONE), b"0\r\n\r\n"]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def play(wire: Wire, reads: list[bytes]) -> Answer:
    answer = StreamedAnswer(wire, max_response_bytes=5_000, secret="sk-hidden")
    answer.request("POST", "/v1/chat/completions", {"Host": "x"}, b"{}")
    answer.begin_upload(0)
    answer.end_upload(1)
    for number, data in enumerate(reads):
        answer.receive(data, Arrival(at_ns=10 + number, read_ns=10 + number))
        answer.to_send()
    return answer.report()


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(at) if end > start]


def is_sound(answer: Answer) -> bool:
    return (answer.outcome == "ok") == (answer.error is None) and (answer.outcome != "ok" or answer.ttft_ns is not None)


stream_bytes = st.lists(st.sampled_from(PARTS) | st.binary(max_size=40), max_size=8).map(b"".join)
cuts = st.lists(st.integers(0, 5000), max_size=12)


@many
@given(stream_bytes, cuts)
def test_server_sent_events_split_anywhere(data: bytes, where: list[int]) -> None:
    """The events of a stream do not depend on how it was cut; against a reading of the whole by the standard's rules."""
    whole = SseParser()
    once = [*whole.feed(data), *whole.finish()]
    parser = SseParser()
    apart = [one for piece in pieces(data, where) for one in parser.feed(piece)]
    assert [*apart, *parser.finish()] == once
    # Lines end in LF, CRLF or CR; a blank one dispatches what has data (WHATWG HTML, 9.2.6).
    texts, gathered = [], []
    for line in [*re.split(rb"\r\n|\r|\n", data.removeprefix(b"\xef\xbb\xbf")), b""]:
        if not line:
            texts += ["\n".join(gathered)] if gathered else []
            gathered = []
        name, _, value = line.partition(b":")
        if name == b"data":
            gathered.append(value.removeprefix(b" ").decode("utf-8", "replace"))
    assert [one.data for one in once] == texts


@many
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_an_event_has_a_greatest_size(reads: list[bytes]) -> None:
    """Nothing but SseOverflow, and never more than the limit is kept."""
    parser = SseParser(max_event_bytes=100)
    try:
        for data in reads:
            assert all(len(one.data) <= 2 * 100 + 100 for one in parser.feed(data))
    except SseOverflow:
        return


FIELDS = [
    *("choices", "delta", "message", "content", "reasoning", "reasoning_content", "usage", "prompt_tokens", "completion_tokens"),
    *("tool_calls", "function", "name", "arguments", "function_call", "error", "detail", "text", "type", "finish_reason", "timings"),
    *("predicted_ms", "x_groq", "time_info", "completion_time", "index"),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@many
@given(json_values | st.dictionaries(st.sampled_from(["choices", "usage", "error", "timings"]), json_values, max_size=4))
def test_json_of_any_shape(body: object) -> None:
    """A chunk or a ChunkError; an error's text is short and has one line."""
    try:
        chunk = read_chunk(json.dumps(body))
    except ChunkError:
        assert not isinstance(body, dict)
    else:
        assert chunk.kinds <= {"content", "reasoning", "tool_call"}
        assert chunk.decode_ns is None or chunk.decode_ns >= 0
    text = error_text(body)
    assert len(text) <= 200
    assert "\n" not in text


@many
@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_text_that_is_no_json(text: str) -> None:
    """Read, or refused by ChunkError and nothing else."""
    try:
        read_chunk(text)
    except ChunkError as error:
        assert len(str(error)) < 400  # noqa: PT017


@many
@given(
    st.lists(
        st.sampled_from([HEAD, chunked(event(token("a"))), chunked(event(STOP)), chunked(DONE), b"0\r\n\r\n"]) | st.binary(max_size=80),
        max_size=8,
    ),
    cuts,
)
def test_http1_of_any_bytes(parts: list[bytes], where: list[int]) -> None:
    """A sound report, whatever comes and wherever it is cut; the verdict on the whole does not depend on the cuts."""
    data = b"".join(parts)
    apart, whole = play(Http1(), pieces(data, where)), play(Http1(), [data] if data else [])
    assert is_sound(apart)
    assert is_sound(whole)
    assert (apart.outcome == "ok") == (whole.outcome == "ok")


frames = st.builds(frame, st.integers(0, 12), st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 1 << 31]), st.binary(max_size=60))


@many
@given(st.lists(frames | st.binary(max_size=60), max_size=8), cuts)
def test_http2_of_any_frames(parts: list[bytes], where: list[int]) -> None:
    """Frames of every kind and none, cut anywhere: a sound report, and the same one."""
    data = b"".join(parts)
    apart, whole = play(Http2("http", "x"), pieces(data, where)), play(Http2("http", "x"), [data] if data else [])
    assert is_sound(apart)
    assert (apart.outcome, apart.http_status) == (whole.outcome, whole.http_status)


lines = st.builds(
    lambda name, labels, value: f"{name}{labels} {value}\n",
    st.sampled_from(["vllm:num_requests_running", "sglang:token_usage", "llamacpp:requests_deferred", "nv_trt_llm_request_metrics", "x"]),
    st.sampled_from(["", "{}", '{a="b"}', '{request_type="waiting"}', '{a="\\""}', "{a=b}", '{a="', '{tp_rank="1"}', '{"quoted name"}']),
    st.floats() | st.integers() | st.text(max_size=5),
)


@many
@given(st.lists(lines | st.text(max_size=40), max_size=6).map("".join))
def test_metrics_of_any_text(text: str) -> None:
    """Read or refused; what is read is a count or a share, or unknown."""
    try:
        found = read_metrics(text)
    except NotMetrics:
        return
    if found is not None:
        assert all(count is None or count >= 0 for count in (found.requests_running, found.requests_waiting, found.ttft_count))
        assert found.kv_cache_ratio is None or 0 <= found.kv_cache_ratio <= 1
