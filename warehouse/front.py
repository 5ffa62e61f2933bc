"""Connections that would hold the collector's door: those that dribble, those that say too much before they ask, and too many at once.

uvicorn bounds the pause between two requests and nothing else. Here a connection also ends when

- its request line and headers are not whole `HEADER_TIMEOUT_S` after its first byte, or after it was opened without one
  (after a request: after uvicorn's `timeout_keep_alive`), or are larger than `MAX_HEADER_BYTES`;
- it goes on sending the body of a request that was refused, for longer or more than below;
- it does not read its answer: nothing of it could be written for `UNREAD_TIMEOUT_S`;
- there are `max_connections` already: the one that has waited longest without a request, or without reading its answer, makes room,
  else the new one is closed.

How long a body may take is in warehouse/intake.py. A TLS handshake has asyncio's minute.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import h11
from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["HEADER_TIMEOUT_S", "MAX_HEADER_BYTES", "FrontProtocol", "most_connections"]

HEADER_TIMEOUT_S = 10.0
MAX_HEADER_BYTES = 64 << 10
#: Of a body that is no longer read, because its request was refused at its headers.
IGNORED_TIMEOUT_S = 60.0
MAX_IGNORED_BYTES = 64 << 20
#: Of an answer that waits to be read.
UNREAD_TIMEOUT_S = 30.0
#: Files that are no connection: the warehouse's, the log, the sockets that listen.
_OTHER_FILES = 256
_MOST_CONNECTIONS = 4096


def most_connections() -> int:
    """How many connections this process can hold, once it has raised its limit of open files as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + _OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(16, min(_MOST_CONNECTIONS, soft - _OTHER_FILES))


_Base: Any = AutoHTTPProtocol


class FrontProtocol(_Base):  # type: ignore[misc]
    """uvicorn's protocol with a deadline and a bound for what comes before a request."""

    max_connections = _MOST_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Make room, or close it; then give it so long to ask."""
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._waited_since = self.loop.time()
        self._count = 0
        self._is_body_open = self._is_refused = False
        if len(self.connections) >= self.max_connections:
            idle = [other for other in self.connections if other.is_idle() or other._unread is not None]
            if not idle:
                self.transport, self._is_refused = transport, True
                transport.abort()
                return
            longest = min(idle, key=lambda other: other._waited_since)
            self.connections.discard(longest)  # it is lost in a moment, and others may be waiting to be made in this one
            longest.transport.abort()
        super().connection_made(transport)
        self._close_after(HEADER_TIMEOUT_S)

    def is_idle(self) -> bool:
        """Whether no request of it is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Count what comes before a request is whole, and what comes of a body that nobody reads any more."""
        if self.transport.is_closing():
            return
        before, was_body = self.cycle, self._is_body_coming()
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not before:
            self._stop_waiting()
        if self._is_body_coming():
            if self.is_idle():  # answered already: read on for a while, else who is still sending would not see the answer
                self._bound(len(data), MAX_IGNORED_BYTES, IGNORED_TIMEOUT_S)
        elif was_body:
            self._stop_waiting()
        elif self.cycle is before:
            self._bound(len(data), MAX_HEADER_BYTES, HEADER_TIMEOUT_S)

    def on_headers_complete(self) -> None:
        """httptools: a body may follow."""
        self._is_body_open = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """httptools: the request is whole."""
        self._is_body_open = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._stop_waiting()
        self._stop_pressing()
        if not self._is_refused:
            super().connection_lost(exc)

    def pause_writing(self) -> None:
        """What was answered is not read, and no more fits between us: for a while."""
        super().pause_writing()
        self._waited_since = self.loop.time()
        self._unread = self.loop.call_later(UNREAD_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads on."""
        self._stop_pressing()
        super().resume_writing()

    def _stop_pressing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _is_body_coming(self) -> bool:
        conn = getattr(self, "conn", None)
        return self._is_body_open if conn is None else conn.their_state is h11.SEND_BODY

    def _bound(self, count: int, most: int, seconds: float) -> None:
        self._count += count
        if self._count > most:
            self.transport.abort()
        elif self._deadline is None and self.is_idle():
            self._close_after(seconds)

    def _close_after(self, seconds: float) -> None:
        self._waited_since = self.loop.time()
        self._deadline = self.loop.call_later(seconds, self._too_late)

    def _stop_waiting(self) -> None:
        self._count = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.is_idle():
            self.transport.abort()
