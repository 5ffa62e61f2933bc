"""The only I/O of the http probe: walks one visit through its phases over a Stream and reads the clock between them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from probes.http.config import HttpConfig, WebEndpoint
from probes.http.failure import Failure, broken, not_connected, not_resolved, timed_out
from probes.http.session import Answer, Visit
from probes.model import Header
from probes.resolve import Addresses, ResolveFailed, Resolver
from probes.stream import ConnectFailed, Stream
from probes.tcp_info import TcpInfo
from records.errors import ConfigError
from records.measurement import HttpPhase, HttpResult, TsSource

__all__ = ["ENGINE", "Certificates", "Known", "Visitor"]

ENGINE = "isochrone-http/1"
_FAMILIES = {"ipv4": (socket.AF_INET,), "ipv6": (socket.AF_INET6,)}
#: How long to wait for the ticket of a TLS 1.3 session: it comes one round trip after the hand-shake.
_TICKET_S = 0.5


class Certificates:
    """The two ways to shake hands: with the certificate checked, and, where that failed, without.

    Raises ConfigError when `ca_file` cannot be used.
    """

    def __init__(self, ca_file: str = "") -> None:
        try:
            self.strict = ssl.create_default_context(cafile=ca_file or None)
        except OSError as error:
            raise ConfigError(f"http ca_file {ca_file!r} cannot be used: {error.strerror or error}; give a PEM file") from None
        self.lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.lax.check_hostname = False
        self.lax.verify_mode = ssl.CERT_NONE  # only to time a hand-shake whose certificate was refused; the result says so
        for context in (self.strict, self.lax):
            context.set_alpn_protocols(["http/1.1"])


@dataclass(frozen=True, slots=True)
class Known:
    """What one connection learnt for the next: addresses (not looked up again), session, and why the certificate was refused."""

    addresses: Addresses | None = None
    session: ssl.SSLSession | None = None
    tls_error: str | None = None


@dataclass(slots=True)
class _Seen:
    """What is not a matter of phases: the connection, and what was read off it.

    is_ambiguous  a SYN was sent again: which of them the answer was to is not known, so there is no RTT (Karn's rule,
                  RFC 6298 section 3). The kernel takes one all the same, from the timestamps of whichever SYN is echoed: in
                  whole ms, and a second or more too long when the first answer was what got lost
    """

    stream: Stream | None = None
    address: str | None = None
    tcp: TcpInfo = field(default_factory=TcpInfo)
    min_rtt_ns: int | None = None
    is_ambiguous: bool = False
    tls_version: str | None = None
    tls_cipher: str | None = None
    tls_alpn: str | None = None
    tls_resumed: bool | None = None
    tls_verified: bool | None = None
    ts_source: TsSource | None = None
    asked_ns: int = 0

    @property
    def open(self) -> Stream:
        """The connection, which has been made."""
        assert self.stream is not None
        return self.stream


class _Over(Exception):
    """A phase failed, and with it the visit."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error)
        self.failure = failure


class Visitor:
    """Makes connections with one set of settings; any number at once."""

    def __init__(
        self, config: HttpConfig, certificates: Certificates, resolver: Resolver, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._config = config
        self._certificates = certificates
        self._resolver = resolver
        self._clock = clock

    async def visit(
        self, endpoint: WebEndpoint, header: Header, known: Known | None = None, *, keep_session: bool = False
    ) -> tuple[HttpResult, Known]:
        """One connection, and what it learnt.

        known         what an earlier connection to the same host and port learnt
        keep_session  wait for a session that the next connection can offer (after everything is timed)
        """
        known = known or Known()
        visit, seen = Visit(self._clock()), _Seen()
        try:
            addresses = known.addresses or await self._resolve(visit, endpoint)
            known = replace(known, addresses=replace(addresses, took_ns=None))
            await self._connect(visit, seen, endpoint, addresses)
            if endpoint.has_tls:
                known = await self._secure(visit, seen, endpoint, known)
            if endpoint.has_request:
                await self._ask(visit, seen, endpoint)
        except _Over as over:
            visit.fail(over.failure, self._clock())
        finally:
            if seen.stream is not None:
                seen.min_rtt_ns = seen.stream.tcp_info().min_rtt_ns
                if keep_session and visit.phase is None and visit.failure is None and endpoint.has_tls:
                    known = replace(known, session=await _ticket(seen.stream))
                seen.stream.close()
        return self._result(endpoint, header, visit, seen, known), known

    def _result(self, endpoint: WebEndpoint, header: Header, visit: Visit, seen: _Seen, known: Known) -> HttpResult:
        return HttpResult(
            **header,
            protocol=endpoint.protocol,
            **visit.report(),
            address=seen.address,
            tcp_rtt_ns=None if seen.is_ambiguous else seen.tcp.rtt_ns,
            tcp_min_rtt_ns=None if seen.is_ambiguous else seen.min_rtt_ns,
            tcp_retransmits=seen.tcp.retransmits,
            tls_version=seen.tls_version,
            tls_cipher=seen.tls_cipher,
            tls_alpn=seen.tls_alpn,
            tls_resumed=seen.tls_resumed,
            tls_verified=seen.tls_verified,
            ts_source=seen.ts_source,
            tls_error=known.tls_error if seen.tls_verified is False else None,
        )

    @contextlib.asynccontextmanager
    async def _limited(self, phase: HttpPhase, where: str, stream: Stream | None = None) -> AsyncIterator[None]:
        """A phase with its time-out. Raises _Over for whatever goes wrong, but lets a refused certificate pass."""
        limit_ms = self._config.timeout_ms
        try:
            async with asyncio.timeout(limit_ms / 1000) as limit:
                yield
        except TimeoutError as error:
            if not limit.expired():  # the kernel's own: the other end stopped acknowledging
                raise _Over(broken(phase, where, error.errno or errno.ETIMEDOUT)) from error
            unacked = None if stream is None else stream.tcp_info().unacked_segments
            raise _Over(timed_out(phase, where, limit_ms, is_unacknowledged=None if unacked is None else unacked > 0)) from error
        except ResolveFailed as error:
            raise _Over(not_resolved(where, error.eai)) from error
        except ConnectFailed as error:
            raise _Over(not_connected(where, error.code, is_local=error.is_local)) from error
        except ssl.SSLCertVerificationError:
            raise
        except ssl.SSLError as error:
            reason = (error.reason or str(error)).replace("_", " ").lower()
            raise _Over(Failure(outcome="tls_failed", phase=phase, source="target", error=f"TLS with {where} failed: {reason}")) from error
        except OSError as error:
            raise _Over(broken(phase, where, error.errno or errno.EIO)) from error

    async def _resolve(self, visit: Visit, endpoint: WebEndpoint) -> Addresses:
        began_ns = self._clock()
        async with self._limited("dns", endpoint.host):
            addresses = await self._resolver.resolve(endpoint.host, endpoint.port)
        if addresses.took_ns is not None:
            visit.begin("dns", began_ns)
            visit.end(began_ns + addresses.took_ns)  # as the look-up's own thread timed it
        return addresses

    async def _connect(self, visit: Visit, seen: _Seen, endpoint: WebEndpoint, addresses: Addresses) -> None:
        """To the first address that answers, one of each family; each has the phase's whole time."""
        wanted = _FAMILIES.get(self._config.family)
        tried: dict[socket.AddressFamily, Any] = {}
        for family, address in addresses.found:
            if wanted is None or family in wanted:
                tried.setdefault(family, address)
        if not tried:
            raise _Over(not_resolved(endpoint.host, "EAI_ADDRFAMILY"))
        failures: list[_Over] = []
        for family, address in tried.items():
            seen.address = str(address[0])
            where = endpoint.authority if seen.address == endpoint.host else f"{endpoint.authority} at {seen.address}"
            visit.begin("tcp", self._clock())
            try:
                async with self._limited("tcp", where):
                    seen.stream = await Stream.connect(family, address)
            except _Over as over:
                failures.append(over)
                continue
            visit.end(self._clock())
            # Read before anything is sent: the only sample is the hand-shake's own, however late this line runs.
            seen.tcp = seen.stream.tcp_info()
            seen.stream.stamp()
            seen.is_ambiguous = bool(seen.tcp.retransmits)
            return
        # A family that this host has no route for says nothing of the other one.
        raise next((over for over in failures if over.failure.source != "agent"), failures[0])

    async def _secure(self, visit: Visit, seen: _Seen, endpoint: WebEndpoint, known: Known) -> Known:
        """TLS over the connection; over another one, unchecked, when the certificate is not accepted."""
        if known.tls_error is None:
            try:
                await self._shake_hands(visit, seen.open, endpoint, self._certificates.strict, known.session)
            except ssl.SSLCertVerificationError as error:
                seen.open.close()
                known = Known(addresses=known.addresses, tls_error=error.verify_message or "the certificate is not accepted")
                seen.tls_verified = False
                await self._connect(visit, seen, endpoint, _only(known.addresses, seen.address))
        if known.tls_error is not None:
            await self._shake_hands(visit, seen.open, endpoint, self._certificates.lax, known.session)
        tls = seen.open.tls
        assert tls is not None
        cipher = tls.cipher()
        seen.tls_version, seen.tls_cipher, seen.tls_alpn = tls.version(), cipher[0] if cipher else None, tls.selected_alpn_protocol()
        seen.tls_verified = known.tls_error is None
        seen.tls_resumed = None if known.session is None else bool(tls.session_reused)
        return known

    async def _shake_hands(
        self, visit: Visit, stream: Stream, endpoint: WebEndpoint, context: ssl.SSLContext, session: ssl.SSLSession | None
    ) -> None:
        visit.begin("tls", self._clock())
        async with self._limited("tls", endpoint.authority, stream):
            await stream.start_tls(context, endpoint.host, session)
        visit.end(self._clock())

    async def _ask(self, visit: Visit, seen: _Seen, endpoint: WebEndpoint) -> None:
        stream = seen.open
        contact = f" (+{self._config.contact})" if self._config.contact else ""
        headers = {
            "Host": endpoint.authority,
            "User-Agent": f"{ENGINE} network-latency-measurement{contact}",
            "Accept": "*/*",
            "Connection": "close",
        }
        answer = Answer(method=self._config.method, path=endpoint.path, headers=headers, max_bytes=self._config.max_response_bytes)
        seen.asked_ns = self._clock()
        visit.ask(answer, seen.asked_ns)
        async with self._limited("http", endpoint.authority, stream):
            await stream.send(answer.request)
            visit.uploaded(self._clock())
            while visit.receive(await stream.receive(), self._arrival(seen)):
                pass

    def _arrival(self, seen: _Seen) -> int:
        """When the newest read came: by the kernel's stamp where there is one, however late this process is."""
        now_ns, arrived_ns = self._clock(), seen.open.arrived_ns
        if arrived_ns is None:
            seen.ts_source = "user"
            return now_ns
        seen.ts_source = seen.ts_source or "kernel_rx"
        return max(seen.asked_ns, min(arrived_ns, now_ns))  # what a server says before it is asked is heard at once, not before


def _only(addresses: Addresses | None, address: str | None) -> Addresses:
    """The one address that is connected to already: a certificate is judged where it was shown."""
    assert addresses is not None
    return Addresses(tuple(pair for pair in addresses.found if str(pair[1][0]) == address), None)


async def _ticket(stream: Stream) -> ssl.SSLSession | None:
    """The session to offer next time; None when the server gives none."""
    try:
        async with asyncio.timeout(_TICKET_S):
            return await stream.take_ticket()
    except TimeoutError:
        return stream.session()
