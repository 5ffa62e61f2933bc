"""Requests and answers without a network: golden transcripts of OpenAI-compatible servers, and any bytes at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_script import DONE, ROLE, STOP, USAGE, event, token

from probes.inference.chunk import Chunk, ChunkError, error_text, read_chunk
from probes.inference.http1 import Http1
from probes.inference.session import Answer, Arrival, StreamedAnswer

NULL_ROLE = {"choices": [{"delta": {"role": "assistant", "content": None}, "finish_reason": None, "index": 0}]}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def play(reads: list[tuple[int, bytes]], *, limit: int = 100_000, secret: str | None = None) -> Answer:
    """Send a request at 100 ns (taken by 110 ns), then feed reads of (time, bytes)."""
    answer = StreamedAnswer(Http1(), max_response_bytes=limit, secret=secret)
    answer.request("POST", "/v1/chat/completions", {"Host": "x"}, b"{}")
    answer.begin_upload(100)
    answer.end_upload(110)
    for now_ns, data in reads:
        answer.receive(data, Arrival(at_ns=now_ns, read_ns=now_ns))
    return answer.report()


def test_role_only_chunk_is_no_token() -> None:
    """TTFT is the first chunk with text; the role-only chunk before it counts for the first byte only."""
    answer = play(
        [
            (200, HEAD + chunked(event(ROLE))),
            (300, chunked(event(NULL_ROLE))),
            (450, chunked(event(token("a")))),
            (500, chunked(event(token("b")))),
            (520, chunked(event(STOP)) + chunked(event(USAGE))),
            (530, chunked(DONE) + END),
        ]
    )
    assert (answer.outcome, answer.error, answer.http_status) == ("ok", None, 200)
    assert (answer.upload_ns, answer.ttfb_ns, answer.ttft_ns, answer.e2e_ns) == (10, 100, 350, 430)
    assert (answer.output_tokens, answer.token_gaps_ns, answer.is_streamed) == (2, (50,), None)
    assert (answer.prompt_tokens, answer.completion_tokens, answer.finish_reason) == (35, 2, "stop")
    assert (answer.head_ns, answer.first_content_ns, answer.first_reasoning_ns, answer.first_tool_call_ns) == (100, 350, None, None)
    assert answer.request_bytes == len(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")


def test_each_kind_of_first_token_has_its_own_time() -> None:
    """Reasoning, then a tool call, then content: TTFT is the first of them, each kind keeps its own."""
    call = {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": ""}}]}}]}
    thinks = (300, chunked(event(token("hm", "reasoning_content"))))
    answer = play([(200, HEAD), thinks, (400, chunked(event(call))), (500, chunked(event(token("a")) + event(STOP) + DONE) + END)])
    assert (answer.outcome, answer.ttft_ns) == ("ok", 200)
    assert (answer.first_reasoning_ns, answer.first_tool_call_ns, answer.first_content_ns) == (200, 300, 400)


def test_a_server_that_speaks_before_it_is_asked() -> None:
    """Nothing is heard before the request: the times are 0, never less."""
    answer = play([(50, HEAD + chunked(event(token("a")) + event(STOP) + DONE) + END)])
    assert (answer.outcome, answer.head_ns, answer.ttft_ns) == ("ok", 0, 0)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        (b"Retry-After: 7\r\n", 7),
        (b"Retry-After: 999999999\r\n", 86_400),
        (b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nRetry-After: Thu, 01 Jan 2026 00:01:30 GMT\r\n", 90),
        (b"Retry-After: Thu, 01 Jan 2026 00:01:30 GMT\r\n", None),  # without the server's own time a date says nothing
        (b"Retry-After: soon\r\n", None),
        (b"", None),
    ],
)
def test_retry_after_of_a_429(headers: bytes, wait_s: int | None) -> None:
    """Seconds, or a date against the server's own clock (RFC 9110 section 10.2.3)."""
    answer = play([(200, b"HTTP/1.1 429 Too Many Requests\r\n" + headers + b"Content-Length: 0\r\n\r\n")])
    assert (answer.outcome, answer.http_status, answer.error) == ("http_error", 429, "HTTP 429")
    assert answer.retry_after_ns == (None if wait_s is None else wait_s * 10**9)


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"200 OK"])
@pytest.mark.parametrize("shape", ['{{"error":{{"message":"{}"}}}}', "{}", "data: {{{}", "data: {}"])
@pytest.mark.parametrize("before", [0, 70, 195])
def test_no_part_of_the_key_is_in_an_error(status: bytes, shape: str, before: int) -> None:
    """Wherever a server puts the key back, and wherever the error is cut, not even its beginning is told."""
    key = "sk-" + "x7" * 20
    body = shape.format("y" * before + key).encode()
    kind = b"text/event-stream" if shape.startswith("data") else b"application/json"
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(body))
    answer = play([(200, head + body)], secret=key)
    assert answer.outcome != "ok"
    assert "sk-x7" not in repr(answer)


def test_single_token_says_nothing_about_streaming() -> None:
    """One token cannot tell whether tokens arrive apart."""
    answer = play([(200, HEAD + chunked(event(token("a")) + event(STOP))), (300, chunked(DONE) + END)])
    assert (answer.outcome, answer.is_streamed, answer.output_tokens) == ("ok", None, 1)


def test_events_and_characters_cut_over_reads() -> None:
    """HTTP chunks that cut events and UTF-8 in the middle change only the times."""
    raw = event(token("你")) + event(token("好")) + event(STOP) + DONE
    pieces = [raw[i : i + 7] for i in range(0, len(raw), 7)]
    reads = [(200, HEAD), *((210 + i, chunked(piece)) for i, piece in enumerate(pieces)), (999, END)]
    answer = play(reads)
    assert (answer.outcome, answer.output_tokens) == ("ok", 2)


@pytest.mark.parametrize(
    "text",
    [
        {"choices": [{"delta": {"reasoning_content": "hm"}}]},
        {"choices": [{"delta": {"reasoning": "hm"}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": ""}}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{"}}]}}]},
        {"choices": [{"delta": {"content": [{"type": "text", "text": "a"}]}}]},
        {"choices": [{"text": "a"}]},
        {"choices": [{"message": {"content": "a"}}]},
    ],
)
def test_reasoning_tools_and_old_completions_are_tokens(text: dict[str, object]) -> None:
    """Any text the model produced is a token, in whichever field."""
    assert read_chunk(json.dumps(text)).has_token


@pytest.mark.parametrize("empty", [ROLE, NULL_ROLE, STOP, USAGE, {"choices": []}, {"choices": [{"delta": {"tool_calls": []}}]}, {}])
def test_chunks_without_text_are_no_tokens(empty: dict[str, object]) -> None:
    """Roles, finish reasons, counts and empty lists are no tokens."""
    assert not read_chunk(json.dumps(empty)).has_token


def test_error_in_the_stream_is_a_protocol_error_with_its_words() -> None:
    """A server that gives up in the middle of its stream is quoted."""
    broken = event({"error": {"code": 500, "message": "slot\nfailed", "type": "server_error"}})
    answer = play([(200, HEAD + chunked(event(token("a")))), (300, chunked(broken))])
    assert answer.outcome == "protocol_error"
    assert answer.error == "the server reported an error in its stream: slot failed"
    assert (answer.ttft_ns, answer.e2e_ns) == (100, None)  # what was measured before stays


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":{"message":"no such model","type":"not_found"}}', "HTTP 404: no such model"),
        (b'{"detail":"Not Found"}', "HTTP 404: Not Found"),
        (b'{"message":"gone"}', "HTTP 404: gone"),
        (b"<html>\n<h1>nginx</h1>", "HTTP 404: <html> <h1>nginx</h1>"),
        (b"", "HTTP 404"),
    ],
)
def test_http_errors_quote_the_server(body: bytes, words: str) -> None:
    """An error status is http_error with the server's own words."""
    answer = play([(200, b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))])
    assert (answer.outcome, answer.error, answer.http_status) == ("http_error", words, 404)


def test_answer_in_one_json_document() -> None:
    """A server that ignores `stream` answers when everything is ready: first token and last byte are one."""
    body = json.dumps(
        {"choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    ).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = play([(200, head + body[:10]), (700, body[10:])])
    assert (answer.outcome, answer.is_streamed, answer.ttft_ns, answer.output_tokens) == ("ok", False, 600, 2)


@pytest.mark.parametrize(
    ("reads", "error"),
    [
        ([(200, b"")], "the server closed the connection without an answer"),
        ([(200, b"SSH-2.0-OpenSSH_9.2\r\n\r\n")], "broken HTTP"),
        ([(200, HEAD + chunked(event(token("a")))), (300, b"")], "broken HTTP"),
        ([(200, HEAD + chunked(event(ROLE) + event(STOP) + DONE) + END)], "the answer has no token"),
        ([(200, HEAD + chunked(event(token("a"))) + END)], "the stream ended without [DONE] and without a finish reason"),
        ([(200, HEAD + chunked(b"data: {oops\n\n") + END)], "the server sent something that is not JSON"),
        ([(200, HEAD + chunked(b"data: 3\n\n") + END)], "the server sent JSON that is no object"),
        ([(200, HEAD + END)], "the answer has no token"),
        ([(200, HEAD + chunked(event(token("a" * 200_000))))], "longer than"),
        ([(200, HEAD + chunked(event(ROLE)))], "the request was given up"),
    ],
)
def test_broken_answers_say_what_is_wrong(reads: list[tuple[int, bytes]], error: str) -> None:
    """Every way to be no answer is a protocol error that says which."""
    answer = play(reads)
    assert answer.outcome == "protocol_error"
    assert error in (answer.error or "")


def test_stream_without_its_content_type() -> None:
    """A stream that is not declared as one is read as one all the same."""
    body = event(token("a")) + event(token("b")) + DONE
    answer = play([(200, b"HTTP/1.1 200 OK\r\n\r\n" + body[:20]), (300, body[20:]), (400, b"")])
    assert (answer.outcome, answer.output_tokens) == ("ok", 2)


def test_token_limits_of_json() -> None:
    """Counts that are no counts are unknown, and unreadable JSON is a ChunkError."""
    assert read_chunk('{"usage":{"prompt_tokens":true,"completion_tokens":-1}}') == Chunk()
    assert error_text({"error": {"message": "x" * 500}}) == "x" * 200
    for bad in ("[" * 100_000, "1" * 5000, "", "nul"):
        with pytest.raises(ChunkError):
            read_chunk(bad)


@given(
    st.lists(st.one_of(st.binary(max_size=200), st.sampled_from([HEAD, DONE, END, chunked(event(token("a"))), chunked(DONE)])), max_size=6)
)
def test_any_bytes_end_in_a_report(reads: list[bytes]) -> None:
    """Whatever a server sends, the session reports; an ok answer has a token, anything else an error."""
    answer = play([(200 + i, data) for i, data in enumerate(reads)], limit=500)
    assert (answer.outcome == "ok") == (answer.error is None)
    assert answer.outcome != "ok" or answer.ttft_ns is not None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "delta", "content", "usage", "prompt_tokens", "tool_calls", "function", "error", "message", "text", "x"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_a_chunk_or_a_chunk_error(body: object) -> None:
    """JSON of any shape is read or refused, never a crash."""
    try:
        chunk = read_chunk(json.dumps(body))
    except ChunkError:
        assert not isinstance(body, dict)
    else:
        assert isinstance(chunk.has_token, bool)
