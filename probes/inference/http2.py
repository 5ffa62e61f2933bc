"""HTTP/2 (RFC 9113) for an exchange; framing, HPACK and flow control are h2's.

Frames are handed to h2 one by one, so that what came before a broken one counts. GOAWAY is read here: h2 takes it for the
end of the connection, but it lets the streams it names as taken run to their end (section 6.8), which every server that
drains its connections relies on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from probes.inference.wire import Body, End, Head, WireError, WireEvent

__all__ = ["Http2"]

#: Of the stream and of the connection: an answer is never held up by our own flow control.
_WINDOW_BYTES = 1 << 20
_MAX_FRAME_BYTES = 16_384  # we announce no other (section 4.2)
_FRAME_HEAD_BYTES = 9
_GOAWAY = 7
#: Of HTTP/1.1 only (section 8.2.2).
_NOT_SENT = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "upgrade"})


class Http2:
    """See probes.inference.wire.Wire. The connection's preface goes out with the first request, so it costs no round trip."""

    version = "2"

    def __init__(self, scheme: str, authority: str) -> None:
        self._scheme, self._authority = scheme, authority
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW_BYTES,
                SettingCodes.MAX_FRAME_SIZE: _MAX_FRAME_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: 65_536,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW_BYTES)
        self._stream = 0
        self._body = memoryview(b"")
        self._buffer = bytearray()
        self._is_ended = True
        self._is_going_away = False
        self._is_heard = False  # the stream has had an answer
        self._is_first = True

    @property
    def is_uploaded(self) -> bool:
        """See Wire."""
        return not self._body

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        """As much of the request as the server's flow control allows now."""
        fields = [(":method", method), (":scheme", self._scheme), (":authority", self._authority), (":path", target)]
        fields += [(name.lower(), value) for name, value in headers.items() if name.lower() not in _NOT_SENT]
        if body:
            fields.append(("content-length", str(len(body))))
        self._is_ended = self._is_heard = False
        try:
            self._stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(self._stream, fields, end_stream=not body)
            self._body = memoryview(body)
            return self.to_send()
        except H2Error as error:
            raise WireError(f"the request cannot be sent: {error}", is_unheard=True) from error

    def to_send(self) -> bytes:
        """See Wire. Raises nothing."""
        try:
            while self._body and (room := min(self._h2.local_flow_control_window(self._stream), self._h2.max_outbound_frame_size)) > 0:
                piece, self._body = self._body[:room], self._body[room:]
                self._h2.send_data(self._stream, piece.tobytes(), end_stream=not self._body)
        except H2Error:
            self._body = memoryview(b"")  # the stream has ended under us: what it was is told by `receive`
        return bytes(self._h2.data_to_send())

    def receive(self, data: bytes) -> Iterator[WireEvent]:
        """See Wire."""
        if not data:
            if self._is_heard:
                raise WireError("the server closed the connection in the middle of its answer")
            raise WireError("the server closed the connection without an answer", is_unheard=True)
        self._buffer += data
        if self._is_first and self._buffer.startswith(b"HTTP/1"):
            raise WireError("the server answered in HTTP/1, not HTTP/2")
        while (frame := self._next_frame()) is not None:
            if frame[3] == _GOAWAY:
                self._go_away(frame)
                continue
            try:
                events = self._h2.receive_data(frame)
            except (H2Error, ValueError) as error:
                raise WireError(f"broken HTTP/2: {error}") from error
            for event in events:
                if (said := self._said(event)) is not None:
                    yield said

    def renew(self, pending: bytes) -> bool:
        """See Wire. Settings, pings and window updates may have come; an answer may not."""
        if not self._is_ended or self._is_going_away:
            return False
        try:
            said = list(self.receive(pending)) if pending else []
        except WireError:
            return False
        return not said and not self._is_going_away

    def _next_frame(self) -> bytes | None:
        """The next whole frame of what arrived."""
        if len(self._buffer) < _FRAME_HEAD_BYTES:
            return None
        length = int.from_bytes(self._buffer[:3], "big")
        if length > _MAX_FRAME_BYTES:
            what = "no HTTP/2" if self._is_first else f"a frame of {length} bytes where {_MAX_FRAME_BYTES} are allowed"
            raise WireError(f"broken HTTP/2: {what}")
        size = _FRAME_HEAD_BYTES + length
        if len(self._buffer) < size:
            return None
        self._is_first = False
        frame = bytes(self._buffer[:size])
        del self._buffer[:size]
        return frame

    def _go_away(self, frame: bytes) -> None:
        """Raise WireError unless the stream under way may run to its end."""
        if len(frame) < _FRAME_HEAD_BYTES + 8:
            raise WireError("broken HTTP/2: a GOAWAY frame that is too short")
        self._is_going_away = True
        last = int.from_bytes(frame[9:13], "big") & 0x7FFF_FFFF
        code = int.from_bytes(frame[13:17], "big")
        words = " ".join(frame[17:].decode("utf-8", "replace").split())[:100]
        why = _name(code) + (f": {words}" if words else "")
        if self._is_ended:
            return
        if self._stream > last:
            raise WireError(f"the server is going away and did not take the request ({why})", is_unheard=True)
        if code != ErrorCodes.NO_ERROR:
            raise WireError(f"the server ended the connection ({why})")

    def _said(self, event: Event) -> WireEvent | None:
        """What an event of h2 is to the exchange; None for those of the connection, and for trailers."""
        if isinstance(event, ResponseReceived) and event.stream_id == self._stream:
            self._is_heard = True
            fields = {bytes(name).decode("latin-1"): bytes(value).decode("latin-1") for name, value in event.headers or ()}
            status = fields.pop(":status", "")
            if not (status.isascii() and status.isdigit()):
                raise WireError(f"broken HTTP/2: the status is {status[:20]!r}")
            return Head(int(status), fields)
        if isinstance(event, DataReceived):
            if event.flow_controlled_length and event.stream_id is not None:
                try:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                except H2Error as error:
                    raise WireError(f"broken HTTP/2: {error}") from error
            return Body(bytes(event.data)) if event.data and event.stream_id == self._stream else None
        if isinstance(event, StreamEnded) and event.stream_id == self._stream:
            self._is_ended = True
            return End()
        if isinstance(event, StreamReset) and event.stream_id == self._stream and not self._is_ended:
            self._is_ended = True
            code = int(event.error_code or 0)
            if not event.remote_reset:
                raise WireError(f"broken HTTP/2 on the stream ({_name(code)})")
            raise WireError(f"the server reset the stream ({_name(code)})", is_unheard=code == ErrorCodes.REFUSED_STREAM)
        return None


def _name(code: int) -> str:
    """An error code as RFC 9113 section 7 names it."""
    try:
        return ErrorCodes(code).name
    except ValueError:
        return f"error {code}"
