"""One TCP connection, with TLS over it where asked for, whose phases the caller can time apart.

TLS runs in memory (ssl.MemoryBIO) over a plain non-blocking socket, so that a hand-shake is exactly what is timed as the
hand-shake and TCP_INFO of the socket can be read at any time. Proxies from the environment are not used: the network
between here and there is what is measured.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from typing import Any

from probes.tcp_info import TcpInfo, read_tcp_info

__all__ = ["ConnectFailed", "Stream"]

_READ_BYTES = 65536


class ConnectFailed(OSError):
    """A TCP hand-shake that ended in an error; `is_local`: connect(2) itself refused, before anything could come back."""

    def __init__(self, code: int, *, is_local: bool) -> None:
        super().__init__(code, errno.errorcode.get(code, str(code)))
        self.code = code
        self.is_local = is_local


class Stream:
    """A connected socket; `tls` once the hand-shake has ended."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls: ssl.SSLObject | None = None

    @classmethod
    async def connect(cls, family: socket.AddressFamily, address: Any) -> Stream:
        """Raises ConnectFailed."""
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise ConnectFailed(error.errno or errno.EIO, is_local=True) from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex(address)
            is_local = code != errno.EINPROGRESS
            if not is_local:
                await _writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except BaseException:
            sock.close()
            raise
        if code:
            sock.close()
            raise ConnectFailed(code, is_local=is_local)
        return cls(sock)

    async def start_tls(self, context: ssl.SSLContext, host: str, session: ssl.SSLSession | None = None) -> None:
        """The hand-shake, with `host` as SNI and, where the context checks it, as the certificate's name.

        Raises ssl.SSLError (SSLCertVerificationError among them), ConnectionResetError when the other end closes,
        another OSError when the connection breaks. A failed hand-shake leaves the stream good for close only.
        """
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host, session=session)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise ConnectionResetError(errno.ECONNRESET, "closed by the other end") from None
            except ssl.SSLError:
                await self._flush()  # the alert, so that the server's log says why
                raise
            else:
                await self._flush()
                self.tls = tls
                return

    async def send(self, data: bytes) -> None:
        """Hand bytes to the kernel, all of them. Raises OSError."""
        if self.tls is None:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
            return
        self.tls.write(data)
        await self._flush()

    async def receive(self) -> bytes:
        """At least one byte of plaintext; empty when the other end closed. Raises OSError."""
        if self.tls is None:
            return await asyncio.get_running_loop().sock_recv(self._socket, _READ_BYTES)
        while True:
            try:
                return self.tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def session(self) -> ssl.SSLSession | None:
        """A session that a later connection may offer; with TLS 1.3 there is none before its ticket was received."""
        if self.tls is None or self.tls.session is None:
            return None
        session = self.tls.session
        is_resumable = session.has_ticket or (self.tls.version() != "TLSv1.3" and bool(session.id))
        return session if is_resumable else None

    async def take_ticket(self) -> ssl.SSLSession | None:
        """Read until a session may be kept, or the other end closes; give it a time-out. What else comes is dropped."""
        while (session := self.session()) is None and self.tls is not None:
            try:
                if not self.tls.read(_READ_BYTES):
                    break
            except ssl.SSLWantReadError:
                # Looking again is right even without a byte: the ticket itself is no data and reads as "want more".
                if (session := self.session()) is not None or not await self._fill():
                    break
            except OSError:
                break
        return session

    def is_silent(self) -> bool:
        """Whether the other end has neither closed nor said anything unasked-for (TLS session tickets aside)."""
        try:
            pending = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pending = None
        except OSError:
            return False
        if pending == b"" or (pending and self.tls is None):
            return False
        if self.tls is None:
            return True
        self._incoming.write(pending or b"")
        try:
            self.tls.read(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:  # a closing alert, or worse
            return False
        return False

    def tcp_info(self) -> TcpInfo:
        """The kernel's view of the connection."""
        return read_tcp_info(self._socket)

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._socket.close()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await asyncio.get_running_loop().sock_sendall(self._socket, self._outgoing.read())

    async def _fill(self) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self._socket, _READ_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return data


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not done.done():
            done.set_result(None)

    loop.add_writer(sock, note)
    try:
        await done
    finally:
        loop.remove_writer(sock)
