"""One streaming request and its answer, without a socket or a clock: bytes and times in, a report out.

The caller owns the connection. It hands over the bytes to send, says when it began and ended sending, feeds what
it receives with the time of each read, and asks for the report. HTTP/1.1 framing is h11's.

Times are monotonic nanoseconds. Every duration of the report counts from the *start of the upload*, so that TTFT is
upload + network + queue + prefill and nothing of DNS, TCP or TLS, which the caller times itself.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import h11

from probes.inference.chunk import Chunk, ChunkError, error_text, read_chunk
from probes.inference.sse import ServerEvent, SseOverflow, SseParser

__all__ = ["Answer", "Exchange", "Fetch", "Outcome", "StreamedAnswer"]

Outcome = Literal["ok", "http_error", "timeout", "connect_failed", "protocol_error"]

_KEPT_ERROR_BYTES = 4096
_EVENT_BEGINS = (b"data:", b"event:", b":")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one request; the fields are those of records.measurement.InferenceResult."""

    outcome: Outcome
    error: str | None
    http_status: int | None
    upload_ns: int | None
    ttfb_ns: int | None
    ttft_ns: int | None
    e2e_ns: int | None
    prompt_tokens: int | None
    output_tokens: int | None
    token_gaps_ns: tuple[int, ...]
    is_streamed: bool | None
    request_bytes: int | None
    response_bytes: int | None


class Exchange:
    """One request and response over an h11 connection: counts bytes, enforces the limit, keeps the first failure.

    `finished` becomes true when there is nothing more to wait for. `failure` is (outcome, error) or None.
    """

    def __init__(self, http: h11.Connection, *, max_response_bytes: int) -> None:
        self._http = http
        self._max = max_response_bytes
        self.finished = False
        self.failure: tuple[Outcome, str] | None = None
        self.status: int | None = None
        self.content_type = ""
        self.request_bytes = 0
        self.response_bytes = 0

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        """The bytes of the request. Raises h11.LocalProtocolError when a header cannot be sent."""
        fields = [(name, value) for name, value in headers.items()]
        if body:
            fields.append(("Content-Length", str(len(body))))
        out = self._http.send(h11.Request(method=method, target=target, headers=fields)) or b""
        if body:
            out += self._http.send(h11.Data(data=body)) or b""
        out += self._http.send(h11.EndOfMessage()) or b""
        self.request_bytes = len(out)
        return out

    def fail(self, outcome: Outcome, error: str) -> None:
        """Note why the exchange ended; what was learnt first stays."""
        self.failure = self.failure or (outcome, error)
        self.finished = True

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take one read from the connection; empty means that the other end closed it."""
        if self.finished:
            return
        self.response_bytes += len(data)
        try:
            self._http.receive_data(data)
            while not self.finished and self._step(self._http.next_event(), now_ns):
                pass
        except h11.RemoteProtocolError as error:
            early = not data and self.response_bytes == 0
            self.fail("protocol_error", "the server closed the connection without an answer" if early else f"broken HTTP: {error}")
        if not self.finished and self.response_bytes > self._max:
            self.fail("protocol_error", f"the answer is longer than {self._max} bytes; stopped reading")

    def _step(self, event: object, now_ns: int) -> bool:
        """Act on one h11 event; whether there may be another one."""
        if isinstance(event, h11.InformationalResponse):
            return True
        if isinstance(event, h11.Response):
            self.status = event.status_code
            names = {name.lower(): value for name, value in event.headers}
            self.content_type = names.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
            return True
        if isinstance(event, h11.Data):
            if event.data:
                self.on_body(bytes(event.data), now_ns)
            return True
        if isinstance(event, h11.EndOfMessage):
            self.on_end(now_ns)
            self.finished = True
        elif isinstance(event, h11.ConnectionClosed):
            self.fail("protocol_error", "the server closed the connection without an answer")
        elif event is h11.PAUSED:
            self.fail("protocol_error", "the server sent more than one answer")
        return False

    def on_body(self, data: bytes, now_ns: int) -> None:
        """Part of the response's body arrived."""
        raise NotImplementedError

    def on_end(self, now_ns: int) -> None:
        """The response is complete."""
        raise NotImplementedError


class Fetch(Exchange):
    """A plain request whose whole body is wanted: `body` once finished."""

    def __init__(self, http: h11.Connection, *, max_response_bytes: int) -> None:
        super().__init__(http, max_response_bytes=max_response_bytes)
        self.body = bytearray()

    def on_body(self, data: bytes, now_ns: int) -> None:
        """Keep it."""
        self.body += data

    def on_end(self, now_ns: int) -> None:
        """An error status is a failure."""
        assert self.status is not None
        if not 200 <= self.status < 300:
            self.fail("http_error", _http_error(self.status, bytes(self.body)))


class StreamedAnswer(Exchange):
    """The measured request: begin_upload, end_upload, then receive until `finished`, then `report`."""

    def __init__(self, http: h11.Connection, *, max_response_bytes: int) -> None:
        super().__init__(http, max_response_bytes=max_response_bytes)
        self._sse = SseParser(max_event_bytes=max_response_bytes)
        self._whole = bytearray()  # a body that is no event stream: an error, or an answer in one piece
        self._began_ns: int | None = None
        self._uploaded_ns: int | None = None
        self._first_byte_ns: int | None = None
        self._last_byte_ns: int | None = None
        self._token_times_ns: list[int] = []
        self._prompt_tokens: int | None = None
        self._completion_tokens: int | None = None
        self._is_stream: bool | None = None  # known with the first byte of the body
        self._in_one_piece = False
        self._saw_end = False  # [DONE] or a finish reason
        self.is_answered = False  # [DONE]: nothing of interest follows

    def begin_upload(self, now_ns: int) -> None:
        """The first byte of the request is about to be handed to the kernel: time zero."""
        self._began_ns = now_ns

    def end_upload(self, now_ns: int) -> None:
        """The kernel has taken the last byte of the request."""
        self._uploaded_ns = now_ns

    def on_body(self, data: bytes, now_ns: int) -> None:
        """Time it and take the tokens out of it."""
        if self._first_byte_ns is None:
            self._first_byte_ns = now_ns
            # Some servers stream without saying so; a JSON document never begins like an event.
            self._is_stream = self.content_type == "text/event-stream" or data.lstrip().startswith(_EVENT_BEGINS)
        self._last_byte_ns = now_ns
        if not (self._is_stream and self._is_success):
            self._whole += data
            return
        try:
            for event in self._sse.feed(data):
                self._take(event, now_ns)
        except (SseOverflow, ChunkError) as error:
            self.fail("protocol_error", str(error))

    def on_end(self, now_ns: int) -> None:
        """Judge the whole: an answer needs a success status, a token and an end."""
        assert self.status is not None
        if not self._is_success:
            self.fail("http_error", _http_error(self.status, bytes(self._whole[:_KEPT_ERROR_BYTES])))
            return
        try:
            if self._is_stream or self._first_byte_ns is None:
                for event in self._sse.finish():
                    self._take(event, now_ns)
            else:
                self._take_whole(now_ns)
        except (SseOverflow, ChunkError) as error:
            self.fail("protocol_error", str(error))
        if self.failure is None and not self._token_times_ns:
            self.fail("protocol_error", "the answer has no token")
        elif self.failure is None and not self._saw_end:
            self.fail("protocol_error", "the stream ended without [DONE] and without a finish reason")

    @property
    def _is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def _take(self, event: ServerEvent, now_ns: int) -> None:
        if event.data.strip() == "[DONE]":
            self._saw_end = self.is_answered = True
            return
        if event.data.strip():
            self._note(read_chunk(event.data), now_ns)

    def _take_whole(self, now_ns: int) -> None:
        """An answer that is one JSON document: its tokens can be read when the last byte is there, no sooner."""
        self._in_one_piece = self._saw_end = True
        self._note(read_chunk(self._whole.decode("utf-8", "replace")), now_ns)

    def _note(self, chunk: Chunk, now_ns: int) -> None:
        if chunk.error is not None:
            self.fail("protocol_error", f"the server reported an error in its stream: {chunk.error}")
        if chunk.has_token:
            self._token_times_ns.append(now_ns)
        self._saw_end |= chunk.finished
        self._prompt_tokens = chunk.prompt_tokens if chunk.prompt_tokens is not None else self._prompt_tokens
        self._completion_tokens = chunk.completion_tokens if chunk.completion_tokens is not None else self._completion_tokens

    def report(self) -> Answer:
        """What is known now; complete once `finished`. A failure keeps the phases that were measured before it."""
        if self.failure is None and not (self.finished or self.is_answered):
            self.fail("protocol_error", "the request was given up")
        if self.failure is None and not self._token_times_ns:
            self.fail("protocol_error", "the answer has no token")
        outcome, error = self.failure or ("ok", None)
        tokens = self._token_times_ns
        return Answer(
            outcome=outcome,
            error=error,
            http_status=self.status,
            upload_ns=self._since_began(self._uploaded_ns),
            ttfb_ns=self._since_began(self._first_byte_ns),
            ttft_ns=self._since_began(tokens[0] if tokens else None),
            e2e_ns=self._since_began(self._last_byte_ns) if outcome == "ok" else None,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._completion_tokens if self._in_one_piece else (len(tokens) if self._is_success else None),
            token_gaps_ns=tuple(later - earlier for earlier, later in itertools.pairwise(tokens)),
            is_streamed=self._streamed(),
            request_bytes=self.request_bytes or None,
            response_bytes=self.response_bytes or None,
        )

    def _since_began(self, at_ns: int | None) -> int | None:
        return None if at_ns is None or self._began_ns is None else at_ns - self._began_ns

    def _streamed(self) -> bool | None:
        """Whether tokens arrived in more than one read; unknown for a single token."""
        if self._in_one_piece:
            return False
        if len(self._token_times_ns) < 2:
            return None
        return self._token_times_ns[0] != self._token_times_ns[-1]


def _http_error(status: int, body: bytes) -> str:
    """One sentence for an error status, with the server's own words where it has any."""
    text = body.decode("utf-8", "replace")
    try:
        words = error_text(json.loads(text))
    except (ValueError, RecursionError):
        words = " ".join(text.split())[:200]
    return f"HTTP {status}: {words}" if words else f"HTTP {status}"
