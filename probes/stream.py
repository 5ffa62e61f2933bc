"""One TCP connection, with TLS over it where asked for, whose phases the caller can time apart.

TLS runs in memory (ssl.MemoryBIO) over a plain non-blocking socket, so that a hand-shake is exactly what is timed as the
hand-shake and TCP_INFO of the socket can be read at any time. Proxies from the environment are not used: the network
between here and there is what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any

from probes.tcp_info import TcpInfo, read_tcp_info

__all__ = ["READ_BYTES", "ConnectFailed", "Stream", "keep_stamping"]

#: The most that one read of a socket brings.
READ_BYTES = 65536
#: Linux' SO_TIMESTAMPING with 64-bit seconds, asked for software stamps of what is received.
_SO_TIMESTAMPING = 65
_RECEIVED_BY_SOFTWARE = 1 << 3 | 1 << 4
_STAMP = struct.Struct("=qq")
_ANCILLARY_BYTES = 256


def keep_stamping() -> socket.socket:
    """A socket that keeps the kernel stamping packets as long as it is open: it begins with the first that asks, a little late."""
    keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    with contextlib.suppress(OSError):
        keeper.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _RECEIVED_BY_SOFTWARE)
    return keeper


class ConnectFailed(OSError):
    """A TCP hand-shake that ended in an error; `is_local`: connect(2) itself refused, before anything could come back."""

    def __init__(self, code: int, *, is_local: bool) -> None:
        super().__init__(code, errno.errorcode.get(code, str(code)))
        self.code = code
        self.is_local = is_local


class Stream:
    """A connected socket; `tls` once the hand-shake has ended.

    Once `stamp` has been asked for (and the kernel can), every receive says when its last packet came.

    arrived_ns   that time, on the monotonic clock; None: not known
    segments_before, segments_after   TCP segments with data that the kernel had counted just before and just after the newest
                 read; None: not known
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls: ssl.SSLObject | None = None
        self.arrived_ns: int | None = None
        self.segments_before: int | None = None
        self.segments_after: int | None = None
        self._is_stamped = False

    def stamp(self) -> None:
        """Ask the kernel to stamp what arrives; where it cannot, arrived_ns stays None."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _RECEIVED_BY_SOFTWARE)
        except OSError:
            return
        self._is_stamped = True

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
                loop = asyncio.get_running_loop()
                await _ready(sock, loop.add_writer, loop.remove_writer)
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
            return await self._read()
        # All records that are there: what one read of the socket brought is one read of the caller.
        said = bytearray()
        while True:
            try:
                piece = self.tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                if said:
                    return bytes(said)
                await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return bytes(said)
            else:
                if not piece:
                    return bytes(said)
                said += piece

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
                if not self.tls.read(READ_BYTES):
                    break
            except ssl.SSLWantReadError:
                # Looking again is right even without a byte: the ticket itself is no data and reads as "want more".
                if (session := self.session()) is not None or not await self._fill():
                    break
            except OSError:
                break
        return session

    def take_pending(self) -> bytes | None:
        """What the other end has said meanwhile (TLS session tickets aside), without waiting; None when it has closed."""
        try:
            pending = self._socket.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pending = None
        except OSError:
            return None
        if pending == b"":
            return None
        if self.tls is None:
            return pending or b""
        self._incoming.write(pending or b"")
        said = bytearray()
        try:
            while piece := self.tls.read(READ_BYTES):
                said += piece
        except ssl.SSLWantReadError:
            return bytes(said)
        except OSError:  # a closing alert, or worse
            return None
        return None

    def tcp_info(self) -> TcpInfo:
        """The kernel's view of the connection."""
        return read_tcp_info(self._socket)

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._socket.close()

    async def _read(self) -> bytes:
        """One read of the socket, with its stamp."""
        loop = asyncio.get_running_loop()
        if not self._is_stamped:
            return await loop.sock_recv(self._socket, READ_BYTES)
        while True:
            # Counted before the read, so that none of what comes during it is among them.
            before = self.tcp_info().data_segments_in
            try:
                data, ancillary, _, _ = self._socket.recvmsg(READ_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                await _ready(self._socket, loop.add_reader, loop.remove_reader)
                continue
            self.segments_before, self.segments_after = before, self.tcp_info().data_segments_in
            self._note_stamp(ancillary)
            return data

    def _note_stamp(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        now_ns = time.monotonic_ns()
        wall_ahead_ns = time.time_ns() - now_ns
        stamp_ns = 0
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPING) and len(value) >= _STAMP.size:
                seconds, nanoseconds = _STAMP.unpack_from(value)
                stamp_ns = seconds * 10**9 + nanoseconds
        if not stamp_ns:
            self.arrived_ns = None
            return
        # The stamp is of the wall clock; where that was set meanwhile, the order of the reads still holds.
        arrived_ns = min(stamp_ns - wall_ahead_ns, now_ns)
        self.arrived_ns = arrived_ns if self.arrived_ns is None else max(arrived_ns, self.arrived_ns)

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await asyncio.get_running_loop().sock_sendall(self._socket, self._outgoing.read())

    async def _fill(self) -> bytes:
        data = await self._read()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return data


async def _ready(sock: socket.socket, add: Callable[..., object], remove: Callable[..., object]) -> None:
    """Wait until the loop's `add` (of a reader or a writer) reports the socket."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note() -> None:
        if not done.done():
            done.set_result(None)

    add(sock, note)
    try:
        await done
    finally:
        remove(sock)
