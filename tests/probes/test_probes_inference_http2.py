"""HTTP/2 without a network: h2's own server side at the other end of the bytes, and whatever else a server may send."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, PingAckReceived, RequestReceived, StreamEnded
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st
from inference_script import DONE, ROLE, STOP, USAGE, event, token

from probes.inference.http2 import Http2
from probes.inference.session import Answer, Arrival, StreamedAnswer
from probes.inference.wire import WireError

STREAM = ((":status", "200"), ("content-type", "text/event-stream"))
HEADERS = {"Host": "x", "Connection": "close", "Authorization": "Bearer k", "Content-Type": "application/json"}
BODY = b'{"model":"m"}'


class Far:
    """The other end of one connection: it has the client's bytes so far, and says what it is told to."""

    def __init__(self, body: bytes = BODY, *, wire: Http2 | None = None, window: int | None = None) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        if window is not None:
            self.h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.events: list[Event] = []
        self.wire = wire or Http2("http", "x:8080")
        self.exchange = StreamedAnswer(self.wire, max_response_bytes=5_000_000)
        self.now_ns = 1000
        self.began(body)

    def began(self, body: bytes) -> None:
        self.exchange.begin_upload(self.now_ns)
        self.take(self.exchange.request("POST", "/v1/chat/completions", HEADERS, body))

    def take(self, data: bytes) -> None:
        """Bytes of the client arrive here."""
        if data:
            self.events += self.h2.receive_data(data)
        if self.exchange.is_uploaded:
            self.exchange.end_upload(self.now_ns)

    def say(self, *steps: Callable[[], object] | bytes) -> None:
        """Do these and let what comes of them arrive at the client in one read."""
        raw = b""
        for step in steps:
            if isinstance(step, bytes):
                raw += self.h2.data_to_send() + step
            else:
                step()
        self.now_ns += 1000
        self.exchange.receive(raw + self.h2.data_to_send(), Arrival(at_ns=self.now_ns, read_ns=self.now_ns))
        self.take(self.exchange.to_send())

    def head(self, headers: Iterable[tuple[str, str]] = STREAM, *, end: bool = False) -> Callable[[], object]:
        return lambda: self.h2.send_headers(self.stream, headers, end_stream=end)

    def data(self, data: bytes, *, end: bool = False) -> Callable[[], object]:
        return lambda: self.h2.send_data(self.stream, data, end_stream=end)

    @property
    def stream(self) -> int:
        return max(e.stream_id or 0 for e in self.events if isinstance(e, RequestReceived))

    def report(self) -> Answer:
        return self.exchange.report()


def goaway(last_stream: int, code: int, words: bytes = b"") -> bytes:
    """A GOAWAY frame (RFC 9113 section 6.8) byte by byte."""
    payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + words
    return len(payload).to_bytes(3, "big") + b"\x07\x00" + b"\0\0\0\0" + payload


def test_a_stream_over_http2() -> None:
    """Request and answer whole; the request leaves with the connection's preface, so that it waits for nothing."""
    far = Far()
    (request,) = [e for e in far.events if isinstance(e, RequestReceived)]
    headers = dict(request.headers or ())
    assert (headers[":method"], headers[":path"]) == ("POST", "/v1/chat/completions")
    assert (headers[":authority"], headers[":scheme"], headers["authorization"]) == ("x:8080", "http", "Bearer k")
    assert not {"host", "connection"} & headers.keys()
    assert b"".join(bytes(e.data) for e in far.events if isinstance(e, DataReceived)) == BODY
    far.say(far.head(), far.data(event(ROLE)))
    far.say(far.data(event(token("a"))))
    far.say(far.data(event(token("b"))))
    far.say(far.data(event(STOP) + event(USAGE) + DONE, end=True))
    answer = far.report()
    assert (answer.outcome, answer.error, answer.http_status, answer.output_tokens) == ("ok", None, 200, 2)
    assert (answer.upload_ns, answer.ttfb_ns, answer.ttft_ns, answer.token_gaps_ns) == (0, 1000, 2000, (1000,))
    assert (answer.prompt_tokens, answer.finish_reason) == (35, "stop")


def test_events_and_characters_cut_over_frames_and_reads() -> None:
    """Frames cut events and UTF-8 anywhere, reads cut frames anywhere: only the times change."""
    raw = event(token("你")) + event(token("好")) + event(STOP) + DONE
    far = Far()
    far.head()()
    for start in range(0, len(raw), 5):
        far.data(raw[start : start + 5], end=start + 5 >= len(raw))()
    said = far.h2.data_to_send()
    for start in range(0, len(said), 7):
        far.say(said[start : start + 7])
    assert (far.report().outcome, far.report().output_tokens) == ("ok", 2)


def test_a_long_prompt_waits_for_the_servers_window() -> None:
    """The upload ends when the last byte may leave, not before: flow control is part of the wait."""
    body = b"x" * 250_000
    far = Far(body, window=100_000)
    assert not far.exchange.is_uploaded  # 65,535 octets until the server's settings come
    rounds = 0
    while not far.exchange.is_uploaded:
        for e in [e for e in far.events if isinstance(e, DataReceived)]:
            far.h2.acknowledge_received_data(e.flow_controlled_length or 0, far.stream)
            far.events.remove(e)
        far.say()
        rounds += 1
        assert rounds < 50
    far.say(far.head(), far.data(event(token("a")) + event(STOP) + DONE, end=True))
    answer = far.report()
    assert (answer.outcome, answer.request_bytes is not None and answer.request_bytes > len(body)) == ("ok", True)
    assert answer.upload_ns is not None
    assert answer.upload_ns >= 2000  # at least two of the server's updates
    assert any(isinstance(e, StreamEnded) for e in far.events)


def test_an_answer_larger_than_the_window_is_taken() -> None:
    """What arrives is acknowledged: 3 MB come through a window of 1 MB."""
    far = Far()
    far.say(far.head(), far.data(event(token("a"))))
    comment = b": " + b"x" * 15_000 + b"\n\n"
    for _ in range(200):
        far.say(far.data(comment))
    far.say(far.data(event(STOP) + DONE, end=True))
    assert far.report().outcome == "ok"


def test_trailers_and_informational_answers_are_passed_over() -> None:
    """103 before the answer, trailers after it: neither is the answer."""
    far = Far()
    far.say(far.head([(":status", "103"), ("link", "</x>; rel=preload")]))
    assert far.exchange.status is None
    far.say(far.head(), far.data(event(token("a")) + event(STOP) + DONE))
    far.say(far.head([("grpc-status", "0")], end=True))
    assert (far.report().outcome, far.report().http_status, far.exchange.finished) == ("ok", 200, True)


def test_a_ping_is_answered() -> None:
    """A server that pings a quiet client hears from it."""
    far = Far()
    far.say(lambda: far.h2.ping(b"12345678"))
    assert any(isinstance(e, PingAckReceived) for e in far.events)


@pytest.mark.parametrize(
    ("code", "words", "unheard"),
    [
        (ErrorCodes.CANCEL, "the server reset the stream (CANCEL)", False),
        (ErrorCodes.REFUSED_STREAM, "the server reset the stream (REFUSED_STREAM)", True),
        (ErrorCodes.ENHANCE_YOUR_CALM, "the server reset the stream (ENHANCE_YOUR_CALM)", False),
    ],
)
def test_rst_stream_in_the_middle(code: ErrorCodes, words: str, unheard: bool) -> None:
    """The stream ends with the server's reason; what came before, in the same read too, stays."""
    far = Far()
    far.say(far.head(), far.data(event(token("a"))), lambda: far.h2.reset_stream(far.stream, code))
    answer = far.report()
    assert (answer.outcome, answer.error, answer.ttft_ns, answer.e2e_ns) == ("protocol_error", words, 1000, None)
    assert far.exchange.is_unheard is unheard


def test_goaway_that_lets_the_stream_end() -> None:
    """A server that drains its connections finishes what it took (RFC 9113 section 6.8); the connection is not used again."""
    far = Far()
    far.say(far.head(), far.data(event(token("a"))), goaway(far.stream, 0))
    assert far.exchange.failure is None
    far.say(far.data(event(STOP) + DONE, end=True))
    assert far.report().outcome == "ok"
    assert far.wire.renew(b"") is False


@pytest.mark.parametrize(
    ("last", "code", "words", "unheard"),
    [
        (0, 0, "the server is going away and did not take the request (NO_ERROR: max_age)", True),
        (1, 11, "the server ended the connection (ENHANCE_YOUR_CALM: max_age)", False),
        (1, 9999, "the server ended the connection (error 9999: max_age)", False),
    ],
)
def test_goaway_that_ends_it(last: int, code: int, words: str, unheard: bool) -> None:
    """A request that was not taken may be made again elsewhere; one that was may not."""
    far = Far()
    far.say(goaway(last, code, b"max_age"))
    assert (far.report().outcome, far.report().error, far.exchange.is_unheard) == ("protocol_error", words, unheard)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server answered in HTTP/1, not HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "broken HTTP/2: no HTTP/2"),
        (b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00", "broken HTTP/2"),  # a window update of 0
        (goaway(0, 0)[:3] + goaway(0, 0)[3:9], "the request was given up"),  # half a frame and no more
        (b"\x00\x00\x02\x07\x00\x00\x00\x00\x00\x00\x00", "too short"),
        (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", "broken HTTP/2"),  # larger than any frame may be
        (b"", "the server closed the connection without an answer"),
    ],
)
def test_what_is_no_http2(raw: bytes, words: str) -> None:
    """Each is one sentence."""
    far = Far()
    far.exchange.receive(raw, Arrival(at_ns=2000, read_ns=2000))
    assert words in (far.report().error or "")


def test_the_connection_carries_further_requests() -> None:
    """One after the other over the same connection, with the server's settings and pings between them."""
    far = Far()
    for number in range(3):
        far.say(far.head(), far.data(event(token("a")) + event(STOP) + DONE, end=True))
        assert far.report().outcome == "ok"
        far.h2.ping(b"%08d" % number)
        assert far.wire.renew(far.h2.data_to_send()) is True
        far.exchange = StreamedAnswer(far.wire, max_response_bytes=100_000)
        far.began(BODY)
    assert far.stream == 7


def test_a_request_that_may_not_be_opened_is_unheard() -> None:
    """A server that allows no stream: nothing was asked, so it may be asked elsewhere."""
    wire = Http2("http", "x")
    list(wire.receive(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00"))  # MAX_CONCURRENT_STREAMS 0
    with pytest.raises(WireError) as refused:
        wire.request("GET", "/", {})
    assert refused.value.is_unheard


@given(
    reads=st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(
                lambda kind, flags, stream, payload: (
                    len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
                ),
                st.integers(0, 12),
                st.integers(0, 255),
                st.integers(0, 3),
                st.binary(max_size=40),
            ),
        ),
        max_size=8,
    ),
    has_head=st.booleans(),
)
def test_any_frames_end_in_a_report(reads: list[bytes], has_head: bool) -> None:
    """Frames of any kind, in any order, well-formed or not: a report, and an error unless a token came."""
    far = Far()
    if has_head:
        far.say(far.head(), far.data(event(token("a"))))
    for number, raw in enumerate(reads):
        far.exchange.receive(raw, Arrival(at_ns=9000 + number, read_ns=9000 + number))
        far.exchange.to_send()
    answer = far.report()
    assert (answer.outcome == "ok") == (answer.error is None)
