"""A TCP proxy that keeps every byte as long as the path would: one listener for each pair, medium and port.

What it cannot delay is the kernel's own hand-shake: a connection through it opens at once, and TCP_INFO shows the
loopback's RTT.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

from lab.loopback_delay import DelayLine, OneWay, PreciseTimer

__all__ = ["DelayingProxy"]

#: Large reads go on in pieces, as packets would, not as one lump when the last byte is there.
_PIECE_BYTES = 16 << 10
_RECEIVE_BUFFER_BYTES = 128 << 10


class DelayingProxy:
    """Listens on one address and carries each connection to another one, delayed by direction.

    forward   from the client to the server; back the other way
    start() raises OSError when the address cannot be listened on.
    """

    def __init__(
        self, address: str, port: int, upstream: tuple[str, int], forward: OneWay, back: OneWay, timer: PreciseTimer, chance: random.Random
    ) -> None:
        self.address = address
        self.port = port
        self._upstream = upstream
        self._forward = forward
        self._back = back
        self._timer = timer
        self._random = chance.random
        self._ends: set[_End] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; port 0 takes a free one."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # A large buffer here would be a queue of seconds in front of a slow path.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            sock.bind((self.address, self.port))
            self._server = await asyncio.get_running_loop().create_server(self._accepted, sock=sock, backlog=64)
        except OSError:
            sock.close()
            raise
        self.port = sock.getsockname()[1]

    async def stop(self) -> None:
        """Close the listener and cut every connection; idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for end in list(self._ends):
            end.abort()

    def _accepted(self) -> asyncio.Protocol:
        client = _End(DelayLine(self._forward, self._random), self._forward.window_bytes, self._timer, self._ends, self._dial)
        server = _End(DelayLine(self._back, self._random), self._back.window_bytes, self._timer, self._ends)
        client.peer, server.peer = server, client
        return client

    async def _dial(self, client: _End) -> None:
        """Connect the other side; a server that is not there is an end of the connection one round trip later."""
        server = client.peer
        assert server is not None
        try:
            await asyncio.get_running_loop().create_connection(lambda: server, *self._upstream)
        except OSError:
            client.end_at(time.monotonic_ns() + self._forward.delay_ns + self._back.delay_ns)
        else:
            client.release()


class _End(asyncio.Protocol):
    """One side of a proxied connection; what it reads comes out of its peer later."""

    def __init__(
        self,
        line: DelayLine,
        window_bytes: int,
        timer: PreciseTimer,
        ends: set[_End],
        dial: Callable[[_End], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.peer: _End | None = None
        self._line = line
        self._window = window_bytes
        self._timer = timer
        self._ends = ends
        self._dial = dial
        self._dialling: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._under_way = 0
        self._is_paused = False
        self._is_blocked = dial is not None  # the client's side may not read before there is somewhere to write

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ends.add(self)
        if self._dial is not None:
            self._regulate()
            self._dialling = asyncio.get_running_loop().create_task(self._dial(self))

    def release(self) -> None:
        """The peer can take data now."""
        self._is_blocked = False
        self._regulate()

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        for begin in range(0, len(data), _PIECE_BYTES):
            piece = data[begin : begin + _PIECE_BYTES]
            self._under_way += len(piece)
            self._timer.at(self._line.accept(now_ns, len(piece)), lambda piece=piece: self._deliver(piece))  # type: ignore[misc]
        self._regulate()

    def _deliver(self, piece: bytes) -> None:
        self._under_way -= len(piece)
        if self.peer is not None:
            self.peer.write(piece)
        self._regulate()

    def write(self, data: bytes) -> None:
        """Send towards this side's own end."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _regulate(self) -> None:
        """Read only while there is room on the path and the far side takes what comes out."""
        if self._transport is None or self._transport.is_closing():
            return
        pause = self._is_blocked or self._under_way > self._window
        if pause != self._is_paused:
            self._is_paused = pause
            (self._transport.pause_reading if pause else self._transport.resume_reading)()

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer._is_blocked = True
            self.peer._regulate()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.release()

    def eof_received(self) -> bool:
        self._timer.at(self._line.accept(time.monotonic_ns(), 0), self._deliver_eof)
        return True  # the other direction may go on

    def _deliver_eof(self) -> None:
        transport = self.peer._transport if self.peer is not None else None
        if transport is not None and not transport.is_closing() and transport.can_write_eof():
            with contextlib.suppress(OSError):  # the other end has reset the connection and we have not read that yet
                transport.write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._ends.discard(self)
        self._transport = None
        if self.peer is not None:
            self.peer.end_at(self._line.accept(time.monotonic_ns(), 0))

    def end_at(self, due_ns: int) -> None:
        """Close this side at a time, after what was written to it until then."""
        self._timer.at(due_ns, self._close)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut it now."""
        if self._dialling is not None:
            self._dialling.cancel()
        if self._transport is not None:
            self._transport.abort()
