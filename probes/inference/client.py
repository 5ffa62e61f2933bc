"""The only I/O of the inference probe: one connection whose phases are timed apart.

Own socket rather than an HTTP client, because each phase needs its own clock reading and the connection its TCP_INFO.
TLS runs in memory (ssl.MemoryBIO), so that the hand-shake is exactly what is timed as the hand-shake. Proxies from
the environment are not used: the network between here and there is what is measured.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import h11

from probes.inference.config import Endpoint
from probes.inference.session import Exchange, StreamedAnswer
from probes.tcp_info import TcpInfo, read_tcp_info

__all__ = ["ConnectFailed", "Connection"]

_READ_BYTES = 65536
#: How long a connection that is to be kept may take to end an answer whose [DONE] has come.
_LINGER_S = 0.5


class ConnectFailed(Exception):
    """DNS, TCP or TLS failed; says which and why."""


class Connection:
    """A TCP (and TLS) connection to one endpoint that carries requests one after the other.

    dns_ns, tcp_ns, tls_ns   what opening it took; None where the phase did not happen. A later address that was tried
                             because an earlier one failed counts into tcp_ns.
    address                  the IP address connected to
    """

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.endpoint = endpoint
        self.http = h11.Connection(h11.CLIENT)
        self.address: str | None = None
        self.dns_ns: int | None = None
        self.tcp_ns: int | None = None
        self.tls_ns: int | None = None
        self._context = tls
        self._clock = clock
        self._socket: socket.socket | None = None
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    async def open(self) -> None:
        """DNS, TCP, TLS. Raises ConnectFailed; the phases that succeeded keep their times."""
        try:
            self._socket = await self._connect(await self._resolve())
        except OSError as error:
            raise ConnectFailed(f"cannot connect to {self.endpoint.authority}: {_reason(error)}") from error
        if self.endpoint.is_tls:
            began_ns = self._clock()
            try:
                await self._shake_hands()
            except (OSError, ssl.SSLError) as error:
                raise ConnectFailed(f"TLS hand-shake with {self.endpoint.authority} failed: {_reason(error)}") from error
            self.tls_ns = self._clock() - began_ns

    async def _resolve(self) -> list[tuple[socket.AddressFamily, Any]]:
        host, port = self.endpoint.host, self.endpoint.port
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (socket.gaierror, UnicodeError):
            began_ns = self._clock()
            try:
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (socket.gaierror, UnicodeError) as error:
                raise ConnectFailed(f"cannot resolve {host!r}: {getattr(error, 'strerror', None) or error}") from error
            self.dns_ns = self._clock() - began_ns
        return [(family, address) for family, _, _, _, address in found]

    async def _connect(self, addresses: list[tuple[socket.AddressFamily, Any]]) -> socket.socket:
        began_ns = self._clock()
        problem: OSError = OSError(errno.EADDRNOTAVAIL, "no address")
        for family, address in addresses:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await asyncio.get_running_loop().sock_connect(sock, address)
            except OSError as error:
                sock.close()
                problem = error
            except BaseException:
                sock.close()
                raise
            else:
                self.tcp_ns = self._clock() - began_ns
                self.address = str(address[0])
                return sock
        raise problem

    async def _shake_hands(self) -> None:
        context = self._context or ssl.create_default_context()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=self.endpoint.host)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise ConnectionResetError(errno.ECONNRESET, "closed by the other end") from None
            except ssl.SSLError:
                await self._flush()  # the alert, so that the server's log says why
                raise
            else:
                await self._flush()
                return

    async def _flush(self) -> None:
        assert self._socket is not None
        if self._outgoing.pending:
            await asyncio.get_running_loop().sock_sendall(self._socket, self._outgoing.read())

    async def _fill(self) -> bytes:
        assert self._socket is not None
        data = await asyncio.get_running_loop().sock_recv(self._socket, _READ_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return data

    async def _send(self, data: bytes) -> None:
        assert self._socket is not None
        if self._tls is None:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
            return
        self._tls.write(data)
        await self._flush()

    async def _receive(self) -> bytes:
        """Plaintext of at least one byte; empty when the other end closed."""
        assert self._socket is not None
        if self._tls is None:
            return await asyncio.get_running_loop().sock_recv(self._socket, _READ_BYTES)
        while True:
            try:
                return self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def run(self, exchange: Exchange, request: bytes, *, keep: bool = False) -> None:
        """Send a request and feed the exchange until it is finished.

        keep   read on after [DONE] for a moment, so that the connection can be used again
        An error of the connection becomes the exchange's failure; a time-out is the caller's.
        """
        try:
            if isinstance(exchange, StreamedAnswer):
                exchange.begin_upload(self._clock())
            await self._send(request)
            if isinstance(exchange, StreamedAnswer):
                exchange.end_upload(self._clock())
            while not exchange.finished:
                answered = isinstance(exchange, StreamedAnswer) and exchange.is_answered
                if answered and not keep:
                    return
                try:
                    async with asyncio.timeout(_LINGER_S if answered else None) as lingering:
                        data = await self._receive()
                except TimeoutError:
                    if lingering.expired():
                        return
                    raise  # the kernel's own: the other end stopped acknowledging
                exchange.receive(data, self._clock())
        except OSError as error:
            exchange.fail("protocol_error", f"the connection broke: {_reason(error)}")

    def tcp_info(self) -> TcpInfo:
        """The kernel's view of this connection; all None when it is not open."""
        return read_tcp_info(self._socket) if self._socket is not None else TcpInfo()

    def renew(self) -> bool:
        """Make ready for a further request; False when the connection cannot carry one (closed, or mid-answer)."""
        if self._socket is None or self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        if not self._is_silent():
            return False
        self.http.start_next_cycle()
        return True

    def _is_silent(self) -> bool:
        """Whether the other end has neither closed nor said anything unasked-for (TLS session tickets aside)."""
        assert self._socket is not None
        try:
            pending = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pending = None
        except OSError:
            return False
        if pending == b"" or (pending and self._tls is None):
            return False
        if self._tls is None:
            return True
        self._incoming.write(pending or b"")
        try:
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:  # a closing alert, or worse
            return False
        return False

    def close(self) -> None:
        """Close the socket; idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _reason(error: OSError) -> str:
    """What went wrong, as the system says it, without its number."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return os.strerror(error.errno) if error.errno else (error.strerror or str(error))
