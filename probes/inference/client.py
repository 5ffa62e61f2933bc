"""The only I/O of the inference probe: one connection whose phases are timed apart.

Own connection (probes.stream) rather than an HTTP client, because each phase needs its own clock reading and the
connection its TCP_INFO.
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
from probes.stream import Stream
from probes.tcp_info import TcpInfo

__all__ = ["ConnectFailed", "Connection"]

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
        self._stream: Stream | None = None

    async def open(self) -> None:
        """DNS, TCP, TLS. Raises ConnectFailed; the phases that succeeded keep their times."""
        try:
            self._stream = await self._connect(await self._resolve())
        except OSError as error:
            raise ConnectFailed(f"cannot connect to {self.endpoint.authority}: {_reason(error)}") from error
        if self.endpoint.is_tls:
            began_ns = self._clock()
            try:
                await self._stream.start_tls(self._context or ssl.create_default_context(), self.endpoint.host)
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

    async def _connect(self, addresses: list[tuple[socket.AddressFamily, Any]]) -> Stream:
        began_ns = self._clock()
        problem: OSError = OSError(errno.EADDRNOTAVAIL, "no address")
        for family, address in addresses:
            try:
                stream = await Stream.connect(family, address)
            except OSError as error:
                problem = error
            else:
                self.tcp_ns = self._clock() - began_ns
                self.address = str(address[0])
                return stream
        raise problem

    async def run(self, exchange: Exchange, request: bytes, *, keep: bool = False) -> None:
        """Send a request and feed the exchange until it is finished.

        keep   read on after [DONE] for a moment, so that the connection can be used again
        An error of the connection becomes the exchange's failure; a time-out is the caller's.
        """
        assert self._stream is not None
        try:
            if isinstance(exchange, StreamedAnswer):
                exchange.begin_upload(self._clock())
            await self._stream.send(request)
            if isinstance(exchange, StreamedAnswer):
                exchange.end_upload(self._clock())
            while not exchange.finished:
                answered = isinstance(exchange, StreamedAnswer) and exchange.is_answered
                if answered and not keep:
                    return
                try:
                    async with asyncio.timeout(_LINGER_S if answered else None) as lingering:
                        data = await self._stream.receive()
                except TimeoutError:
                    if lingering.expired():
                        return
                    raise  # the kernel's own: the other end stopped acknowledging
                exchange.receive(data, self._clock())
        except OSError as error:
            exchange.fail("protocol_error", f"the connection broke: {_reason(error)}")

    def tcp_info(self) -> TcpInfo:
        """The kernel's view of this connection; all None when it is not open."""
        return self._stream.tcp_info() if self._stream is not None else TcpInfo()

    def renew(self) -> bool:
        """Make ready for a further request; False when the connection cannot carry one (closed, or mid-answer)."""
        if self._stream is None or self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        if not self._stream.is_silent():
            return False
        self.http.start_next_cycle()
        return True

    def close(self) -> None:
        """Close the socket; idempotent."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _reason(error: OSError) -> str:
    """What went wrong, as the system says it, without its number."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return os.strerror(error.errno) if error.errno else (error.strerror or str(error))
