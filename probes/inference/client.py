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

from probes.inference.config import Endpoint
from probes.inference.http1 import Http1
from probes.inference.session import Arrival, Exchange, StreamedAnswer
from probes.inference.wire import Wire
from probes.resolve import ResolveFailed, Resolver
from probes.stream import READ_BYTES, Stream
from probes.tcp_info import TcpInfo

__all__ = ["ConnectFailed", "Connection", "tls_context"]

#: How long a connection that is to be kept may take to end an answer whose [DONE] has come.
_LINGER_S = 0.5
_PROTOCOLS = {"auto": ["h2", "http/1.1"], "1.1": ["http/1.1"], "2": ["h2"]}


class ConnectFailed(Exception):
    """DNS, TCP or TLS failed, or there was no agreement on a protocol; says which and why."""


def tls_context(ca_file: str = "", http: str = "1.1") -> ssl.SSLContext:
    """The context of connections that offer these HTTP versions (ALPN). Raises OSError when `ca_file` cannot be used."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(_PROTOCOLS[http])
    return context


class Connection:
    """A TCP (and TLS) connection to one endpoint that carries requests one after the other.

    resolver                 shared by connections; None: one of its own
    http                     auto (what TLS agrees on, HTTP/1.1 without TLS), 1.1, or 2 (without TLS by prior knowledge)
    dns_ns, tcp_ns, tls_ns   what opening it took; None where the phase did not happen. A later address that was tried
                             because an earlier one failed counts into tcp_ns.
    address                  the IP address connected to
    wire                     the protocol spoken; None before it is open
    """

    def __init__(
        self,
        endpoint: Endpoint,
        tls: ssl.SSLContext | None,
        clock: Callable[[], int] = time.monotonic_ns,
        *,
        http: str = "1.1",
        resolver: Resolver | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.wire: Wire | None = None
        self.address: str | None = None
        self.dns_ns: int | None = None
        self.tcp_ns: int | None = None
        self.tls_ns: int | None = None
        self.tls_version: str | None = None
        self._http = http
        self._resolver = resolver
        self._context = tls
        self._clock = clock
        self._stream: Stream | None = None

    async def open(self) -> None:
        """DNS, TCP, TLS. Raises ConnectFailed; the phases that succeeded keep their times."""
        try:
            self._stream = await self._connect(await self._resolve())
        except OSError as error:
            raise ConnectFailed(f"cannot connect to {self.endpoint.authority}: {_reason(error)}") from error
        self._stream.stamp()
        is_http2 = self._http == "2"
        if self.endpoint.is_tls:
            began_ns = self._clock()
            try:
                await self._stream.start_tls(self._context or tls_context(http=self._http), self.endpoint.host)
            except (OSError, ssl.SSLError) as error:
                why = _reason(error)
                if is_http2 and "no application protocol" in why:
                    why = "the server offers no HTTP/2"
                raise ConnectFailed(f"TLS hand-shake with {self.endpoint.authority} failed: {why}") from error
            self.tls_ns = self._clock() - began_ns
            tls = self._stream.tls
            assert tls is not None
            self.tls_version = tls.version()
            agreed = tls.selected_alpn_protocol()
            if is_http2 and agreed != "h2":
                raise ConnectFailed(f"{self.endpoint.authority} offers no HTTP/2 (ALPN agreed on {agreed or 'nothing'})")
            is_http2 = agreed == "h2"
        if is_http2:
            from probes.inference.http2 import Http2

            self.wire = Http2(self.endpoint.scheme, self.endpoint.authority)
        else:
            self.wire = Http1()

    async def _resolve(self) -> list[tuple[socket.AddressFamily, Any]]:
        resolver = self._resolver or Resolver(threads=1)
        try:
            addresses = await resolver.resolve(self.endpoint.host, self.endpoint.port)
        except ResolveFailed as error:
            raise ConnectFailed(f"cannot resolve {self.endpoint.host!r} ({error.eai})") from error
        finally:
            if self._resolver is None:
                resolver.close()
        self.dns_ns = addresses.took_ns  # as the look-up's own thread timed it
        return list(addresses.found)

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
        measured = exchange if isinstance(exchange, StreamedAnswer) else None
        try:
            if measured is not None:
                measured.begin_upload(self._clock(), self._stream.tcp_info().data_segments_in)
            await self._send(request, measured)
            while not exchange.finished:
                answered = measured is not None and measured.is_answered
                if answered and not keep:
                    return
                try:
                    async with asyncio.timeout(_LINGER_S if answered else None) as lingering:
                        data = await self._stream.receive()
                except TimeoutError:
                    if lingering.expired():
                        return
                    raise  # the kernel's own: the other end stopped acknowledging
                exchange.receive(data, self._arrival(is_drained=len(data) < READ_BYTES))
                await self._send(exchange.to_send(), measured)
        except OSError as error:
            exchange.is_unheard |= exchange.response_bytes == 0
            exchange.fail("protocol_error", f"the connection broke: {_reason(error)}")

    async def _send(self, data: bytes, measured: StreamedAnswer | None) -> None:
        assert self._stream is not None
        if data:
            await self._stream.send(data)
        if measured is not None and measured.is_uploaded:
            measured.end_upload(self._clock())

    def _arrival(self, *, is_drained: bool) -> Arrival:
        stream, now_ns = self._stream, self._clock()
        assert stream is not None
        stamp_ns = stream.arrived_ns
        return Arrival(
            at_ns=now_ns if stamp_ns is None else min(stamp_ns, now_ns),
            read_ns=now_ns,
            is_stamped=stamp_ns is not None,
            is_drained=is_drained,
            segments_before=stream.segments_before,
            segments_after=stream.segments_after,
        )

    def tcp_info(self) -> TcpInfo:
        """The kernel's view of this connection; all None when it is not open."""
        return self._stream.tcp_info() if self._stream is not None else TcpInfo()

    def renew(self) -> bool:
        """Make ready for a further request; False when the connection cannot carry one (closed, or mid-answer)."""
        if self._stream is None or self.wire is None:
            return False
        pending = self._stream.take_pending()
        return pending is not None and self.wire.renew(pending)

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
