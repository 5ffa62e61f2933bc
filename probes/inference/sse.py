"""Server-sent events: bytes in, events out (WHATWG HTML, section 9.2.6). No socket, no clock.

Events and UTF-8 sequences may be split over reads at any byte; lines may end in LF, CRLF or CR. Two liberties, both
because real inference servers need them: the last event counts even when its blank line never came, and an event
has a greatest size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["ServerEvent", "SseOverflow", "SseParser"]

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class SseOverflow(ValueError):
    """An event grew past the limit."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One dispatched event: its type (``message`` unless named) and its data lines joined by newlines."""

    type: str
    data: str


class SseParser:
    """Feed it what arrives; it returns the events that became complete.

    max_event_bytes   an event, or a line of any kind, longer than this raises SseOverflow
    """

    def __init__(self, max_event_bytes: int = 1 << 20) -> None:
        self._max = max_event_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._skip_line_feed = False
        self._first_line = True
        self._type = ""
        self._data: list[str] = []
        self._data_bytes = 0

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events completed by `data`, in order. Raises SseOverflow."""
        if self._skip_line_feed and data:
            # The CR that ended the last read already ended its line; this LF belongs to it.
            data = data.removeprefix(b"\n")
            self._skip_line_feed = False
        self._buffer += data
        events: list[ServerEvent] = []
        begin = 0
        for end in _LINE_END.finditer(self._buffer, self._scanned):
            if event := self._line(bytes(self._buffer[begin : end.start()])):
                events.append(event)
            begin = end.end()
        if begin and self._buffer.endswith(b"\r"):
            self._skip_line_feed = True
        del self._buffer[:begin]
        self._scanned = len(self._buffer)
        if len(self._buffer) > self._max:
            raise SseOverflow(f"a line of the event stream is longer than {self._max} bytes")
        return events

    def finish(self) -> list[ServerEvent]:
        """The stream has ended: the event that was still open, if it has data."""
        events = []
        if self._buffer and (event := self._line(bytes(self._buffer))):
            events.append(event)
        self._buffer.clear()
        self._scanned = 0
        if event := self._line(b""):
            events.append(event)
        return events

    def _line(self, line: bytes) -> ServerEvent | None:
        if self._first_line:
            line = line.removeprefix(_BOM)
            self._first_line = False
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")  # a comment has an empty name
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data_bytes += len(value)
            if self._data_bytes > self._max:
                raise SseOverflow(f"an event is longer than {self._max} bytes")
            self._data.append(value.decode("utf-8", "replace"))
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        return None

    def _dispatch(self) -> ServerEvent | None:
        event = ServerEvent(self._type or "message", "\n".join(self._data)) if self._data else None
        self._type = ""
        self._data = []
        self._data_bytes = 0
        return event
