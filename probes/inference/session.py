"""One streaming request and its answer, without a socket or a clock: bytes and times in, a report out.

The caller owns the connection. It hands over the bytes to send, says when it began and ended sending, feeds what
it receives with the time of each read, and asks for the report. The framing is that of a Wire (HTTP/1.1 or HTTP/2).

Times are monotonic nanoseconds. Every duration of the report counts from the *start of the upload*, so that TTFT is
upload + network + queue + prefill and nothing of DNS, TCP or TLS, which the caller times itself.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

from probes.inference.chunk import Chunk, ChunkError, Kind, error_text, hide, read_chunk
from probes.inference.sse import ServerEvent, SseOverflow, SseParser
from probes.inference.streaming import Read, arrivals, is_streamed
from probes.inference.wire import Body, Head, Wire, WireError, WireEvent
from probes.tcp_info import TcpInfo
from records.measurement import TsSource

__all__ = ["Answer", "Arrival", "Exchange", "Fetch", "Outcome", "StreamedAnswer"]

Outcome = Literal["ok", "http_error", "timeout", "connect_failed", "protocol_error"]

_KEPT_ERROR_BYTES = 4096
_EVENT_BEGINS = (b"data:", b"event:", b":")
_LONGEST_WAIT_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """When a read came: `at_ns` as well as it is known, `read_ns` by the process's own clock; is_stamped: at_ns is the kernel's.

    is_drained        the read took all that was there
    segments_before   TCP segments counted before the read, segments_after after it; None: not known
    """

    at_ns: int
    read_ns: int
    is_stamped: bool = False
    is_drained: bool = True
    segments_before: int | None = None
    segments_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one request; the fields are those of records.measurement.InferenceResult."""

    outcome: Outcome
    error: str | None
    http_status: int | None
    upload_ns: int | None
    head_ns: int | None
    ttfb_ns: int | None
    ttft_ns: int | None
    first_content_ns: int | None
    first_reasoning_ns: int | None
    first_tool_call_ns: int | None
    e2e_ns: int | None
    prompt_tokens: int | None
    output_tokens: int | None
    completion_tokens: int | None
    token_gaps_ns: tuple[int, ...]
    token_arrivals: int | None
    is_streamed: bool | None
    finish_reason: str | None
    retry_after_ns: int | None
    ts_source: TsSource | None
    late_ns: int | None
    request_bytes: int | None
    response_bytes: int | None
    response_segments: int | None


class Exchange:
    """One request and response over a wire: counts bytes, enforces the limit, keeps the first failure.

    `finished` becomes true when there is nothing more to wait for. `failure` is (outcome, error) or None; `is_unheard`: the
    server did not act on the request, so that making it again is no second one.
    """

    def __init__(self, wire: Wire, *, max_response_bytes: int, secret: str | None = None) -> None:
        self._wire = wire
        self._max = max_response_bytes
        self._secret = secret
        self.finished = False
        self.failure: tuple[Outcome, str] | None = None
        self.is_unheard = False
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.request_bytes = 0
        self.response_bytes = 0

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        """The bytes to send now; empty and the exchange failed when a header cannot be sent."""
        try:
            out = self._wire.request(method, target, headers, body)
        except WireError as error:
            self._break(error)
            return b""
        self.request_bytes = len(out)
        return out

    def to_send(self) -> bytes:
        """What has to be sent after a read."""
        out = self._wire.to_send()
        self.request_bytes += len(out)
        return out

    @property
    def is_uploaded(self) -> bool:
        """The whole request has been given out."""
        return self._wire.is_uploaded

    def fail(self, outcome: Outcome, error: str) -> None:
        """Note why the exchange ended; what was learnt first stays."""
        self.failure = self.failure or (outcome, hide(error, self._secret))
        self.finished = True

    def _break(self, error: WireError) -> None:
        self.is_unheard = error.is_unheard
        self.fail("protocol_error", str(error))

    def receive(self, data: bytes, arrival: Arrival) -> None:
        """Take one read from the connection; empty means that the other end closed it."""
        if self.finished:
            return
        self.response_bytes += len(data)
        try:
            for event in self._wire.receive(data):
                self._take_event(event, arrival)
                if self.finished:
                    return
        except WireError as error:
            self._break(error)
        if not self.finished and self.response_bytes > self._max:
            self.fail("protocol_error", f"the answer is longer than {self._max} bytes; stopped reading")

    def _take_event(self, event: WireEvent, arrival: Arrival) -> None:
        if isinstance(event, Head):
            self.status, self.headers = event.status, event.headers
        elif self.status is None:
            self.fail("protocol_error", "the server sent a body without a status")
        elif isinstance(event, Body):
            self.on_body(event.data, arrival)
        else:
            self.on_end(arrival)
            self.finished = True

    @property
    def content_type(self) -> str:
        """The answer's media type, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_success(self) -> bool:
        """The status says that the request was answered."""
        return self.status is not None and 200 <= self.status < 300

    def on_body(self, data: bytes, arrival: Arrival) -> None:
        """Part of the response's body arrived."""
        raise NotImplementedError

    def on_end(self, arrival: Arrival) -> None:
        """The response is complete."""
        raise NotImplementedError


class Fetch(Exchange):
    """A plain request whose whole body is wanted: `body` once finished."""

    def __init__(self, wire: Wire, *, max_response_bytes: int, secret: str | None = None) -> None:
        super().__init__(wire, max_response_bytes=max_response_bytes, secret=secret)
        self.body = bytearray()

    def on_body(self, data: bytes, arrival: Arrival) -> None:
        """Keep it."""
        self.body += data

    def on_end(self, arrival: Arrival) -> None:
        """An error status is a failure."""
        if not self.is_success:
            self.fail("http_error", _http_error(self.status, bytes(self.body), self._secret))


class StreamedAnswer(Exchange):
    """The measured request: begin_upload, end_upload, then receive until `finished`, then `report`."""

    def __init__(self, wire: Wire, *, max_response_bytes: int, secret: str | None = None) -> None:
        super().__init__(wire, max_response_bytes=max_response_bytes, secret=secret)
        self._sse = SseParser(max_event_bytes=max_response_bytes)
        self._whole = bytearray()  # a body that is no event stream: an error, or an answer in one piece
        self._began_ns: int | None = None
        self._uploaded_ns: int | None = None
        self._head_ns: int | None = None
        self._first_byte_ns: int | None = None
        self._last_byte_ns: int | None = None
        self._token_times_ns: list[int] = []
        self._first: dict[Kind, int] = {}
        self._reads: list[Read] = []
        self._empty_ns = 0
        self._segments_before: int | None = None  # counted before the newest read
        self._segments_first: int | None = None  # counted before the request
        self._segments_after: int | None = None  # and after the newest read
        self._is_stamped = True
        self._late_ns = 0
        self._prompt_tokens: int | None = None
        self._completion_tokens: int | None = None
        self._decode_ns: int | None = None
        self._finish_reason: str | None = None
        self._is_stream: bool | None = None  # known with the first byte of the body
        self._in_one_piece = False
        self._saw_end = False  # [DONE] or a finish reason
        self.is_answered = False  # [DONE]: nothing of interest follows

    def begin_upload(self, now_ns: int, segments: int | None = None) -> None:
        """The first byte of the request is about to be handed to the kernel: time zero.

        segments  TCP segments with data that have been received by now; None: not known
        """
        self._began_ns = self._empty_ns = now_ns
        self._segments_before = self._segments_first = segments

    def end_upload(self, now_ns: int) -> None:
        """The kernel has taken the last byte of the request; the first time counts."""
        self._uploaded_ns = now_ns if self._uploaded_ns is None else self._uploaded_ns

    def receive(self, data: bytes, arrival: Arrival) -> None:
        """Take one read; note when it came and what it held."""
        before = len(self._token_times_ns)
        if data and not self.finished:
            self._is_stamped = self._is_stamped and arrival.is_stamped
            self._late_ns = max(self._late_ns, arrival.read_ns - arrival.at_ns)
        super().receive(data, arrival)
        if not data:
            return
        # What is counted before a read may still be of the read before; so this is the most that the read can hold.
        since = self._segments_before
        many = None if since is None or arrival.segments_after is None else max(1, arrival.segments_after - since)
        self._segments_before = arrival.segments_before
        self._segments_after = arrival.segments_after
        tokens = len(self._token_times_ns) - before
        self._reads.append(Read(at_ns=arrival.at_ns, empty_ns=self._empty_ns, size_bytes=len(data), tokens=tokens, segments=many))
        if arrival.is_drained:
            self._empty_ns = arrival.read_ns

    def _take_event(self, event: WireEvent, arrival: Arrival) -> None:
        if isinstance(event, Head) and self._head_ns is None:
            self._head_ns = arrival.at_ns
        super()._take_event(event, arrival)

    def on_body(self, data: bytes, arrival: Arrival) -> None:
        """Time it and take the tokens out of it."""
        now_ns = arrival.at_ns
        if self._first_byte_ns is None:
            self._first_byte_ns = now_ns
            # Some servers stream without saying so; a JSON document never begins like an event.
            self._is_stream = self.content_type == "text/event-stream" or data.lstrip().startswith(_EVENT_BEGINS)
        self._last_byte_ns = now_ns
        if not (self._is_stream and self.is_success):
            self._whole += data
            return
        try:
            for event in self._sse.feed(data):
                self._take(event, now_ns)
        except (SseOverflow, ChunkError) as error:
            self.fail("protocol_error", str(error))

    def on_end(self, arrival: Arrival) -> None:
        """Judge the whole: an answer needs a success status, a token and an end."""
        if not self.is_success:
            self.fail("http_error", _http_error(self.status, bytes(self._whole[:_KEPT_ERROR_BYTES]), self._secret))
            return
        try:
            if self._is_stream or self._first_byte_ns is None:
                for event in self._sse.finish():
                    self._take(event, arrival.at_ns)
            else:
                self._take_whole(arrival.at_ns)
        except (SseOverflow, ChunkError) as error:
            self.fail("protocol_error", str(error))
        if self.failure is None and not self._token_times_ns:
            self.fail("protocol_error", "the answer has no token")
        elif self.failure is None and not self._saw_end:
            self.fail("protocol_error", "the stream ended without [DONE] and without a finish reason")

    def _take(self, event: ServerEvent, now_ns: int) -> None:
        if event.data.strip() == "[DONE]":
            self._saw_end = self.is_answered = True
            return
        if event.data.strip():
            self._note(read_chunk(event.data, self._secret), now_ns)

    def _take_whole(self, now_ns: int) -> None:
        """An answer that is one JSON document: its tokens can be read when the last byte is there, no sooner."""
        self._in_one_piece = self._saw_end = True
        self._note(read_chunk(self._whole.decode("utf-8", "replace"), self._secret), now_ns)

    def _note(self, chunk: Chunk, now_ns: int) -> None:
        if chunk.error is not None:
            self.fail("protocol_error", f"the server reported an error in its stream: {chunk.error}")
        if chunk.has_token:
            self._token_times_ns.append(now_ns)
            for kind in chunk.kinds:
                self._first.setdefault(kind, now_ns)
        if chunk.finish_reason is not None:
            self._saw_end = True
            self._finish_reason = self._finish_reason or hide(chunk.finish_reason, self._secret)
        self._decode_ns = chunk.decode_ns if chunk.decode_ns is not None else self._decode_ns
        self._prompt_tokens = chunk.prompt_tokens if chunk.prompt_tokens is not None else self._prompt_tokens
        self._completion_tokens = chunk.completion_tokens if chunk.completion_tokens is not None else self._completion_tokens

    def report(self, tcp: TcpInfo | None = None) -> Answer:
        """What is known now; complete once `finished`. A failure keeps the phases that were measured before it.

        tcp  of the connection, to judge whether the answer was streamed
        """
        if self.failure is None and not (self.finished or self.is_answered):
            self.fail("protocol_error", "the request was given up")
        if self.failure is None and not self._token_times_ns:
            self.fail("protocol_error", "the answer has no token")
        outcome, error = self.failure or ("ok", None)
        tokens = self._token_times_ns
        came = bool(self._reads)
        return Answer(
            outcome=outcome,
            error=error,
            http_status=self.status,
            upload_ns=self._since_began(self._uploaded_ns),
            head_ns=self._since_began(self._head_ns),
            ttfb_ns=self._since_began(self._first_byte_ns),
            ttft_ns=self._since_began(tokens[0] if tokens else None),
            first_content_ns=self._since_began(self._first.get("content")),
            first_reasoning_ns=self._since_began(self._first.get("reasoning")),
            first_tool_call_ns=self._since_began(self._first.get("tool_call")),
            e2e_ns=self._since_began(self._last_byte_ns) if outcome == "ok" else None,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._completion_tokens if self._in_one_piece else (len(tokens) if self.is_success else None),
            completion_tokens=self._completion_tokens,
            token_gaps_ns=tuple(later - earlier for earlier, later in itertools.pairwise(tokens)),
            token_arrivals=self._arrivals(tcp or TcpInfo()) if tokens else None,
            is_streamed=self._streamed(tcp or TcpInfo()),
            finish_reason=self._finish_reason,
            retry_after_ns=_retry_after_ns(self.headers) if self.status in (429, 503) else None,
            ts_source=("kernel_rx" if self._is_stamped else "user") if came else None,
            late_ns=self._late_ns if came and self._is_stamped else None,
            request_bytes=self.request_bytes or None,
            response_bytes=self.response_bytes or None,
            response_segments=self._counted(),
        )

    def _counted(self) -> int | None:
        first, last = self._segments_first, self._segments_after
        return None if first is None or last is None else last - first

    def _since_began(self, at_ns: int | None) -> int | None:
        # A server that speaks before it is asked was heard at once, not before.
        return None if at_ns is None or self._began_ns is None else max(0, at_ns - self._began_ns)

    def _arrivals(self, tcp: TcpInfo) -> int:
        return arrivals(self._reads, rtt_ns=tcp.min_rtt_ns or tcp.rtt_ns, is_stamped=self._is_stamped)

    def _streamed(self, tcp: TcpInfo) -> bool | None:
        """See probes.inference.streaming."""
        if self._in_one_piece:
            return False
        if len(self._token_times_ns) < 2:
            return None
        return is_streamed(
            self._reads,
            rtt_ns=tcp.min_rtt_ns or tcp.rtt_ns,
            mss_bytes=tcp.mss_bytes,
            is_stamped=self._is_stamped,
            decode_ns=self._decode_ns,
        )


def _http_error(status: int | None, body: bytes, secret: str | None) -> str:
    """One sentence for an error status, with the server's own words where it has any."""
    text = body.decode("utf-8", "replace")
    try:
        words = error_text(json.loads(text), secret)
    except (ValueError, RecursionError):
        words = hide(" ".join(text.split()), secret)[:200]
    return f"HTTP {status}: {words}" if words else f"HTTP {status}"


def _retry_after_ns(headers: Mapping[str, str]) -> int | None:
    """Retry-After (RFC 9110 section 10.2.3) in ns, at most a day: seconds, or a date, taken from the answer's own Date."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]), _LONGEST_WAIT_S) * 10**9
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return int(min(max(wait.total_seconds(), 0), _LONGEST_WAIT_S)) * 10**9
