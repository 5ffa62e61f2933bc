"""The other end of a throughput test, at every site that may be tested: ``iperf3 -s``, or the built-in server.

Both run one test at a time and turn a second client away at once. The built-in one also limits time and bytes,
whatever the client asks for; iperf3's cannot limit bytes, so choose tool "builtin" where strangers reach the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import socket
import time

from probes.throughput.bulk import TestFailed, choose_congestion_control, make_report, read_exactly, receive_bulk, send_bulk
from probes.throughput.config import TOOLS
from probes.throughput.wire import HELLO_BYTES, Grant, Hello, WireError
from records.errors import ConfigError, NotPermitted, OutsideError, ToolMissing

__all__ = ["MAX_BYTES", "MAX_DURATION_MS", "BuiltinServer", "Iperf3Server", "ThroughputServer"]

#: The most one built-in test may take.
MAX_DURATION_MS = 15_000
MAX_BYTES = 1_000_000_000
#: How much later than its time a test may end (queues drain, retransmissions).
_GRACE_S = 10.0
_GREETING_TIMEOUT_S = 3.0
#: iperf3 gives up a client that sends nothing for so long, so that a client that died does not block the next.
_IPERF3_IDLE_MS = 5_000


class ThroughputServer:
    """Serves throughput tests on one port with the tool given, or the best one that is installed.

    tool   auto, iperf3 or builtin; after `start` it says which one runs
    start() raises ConfigError when the port is taken or the address is not ours, ToolMissing for an absent iperf3.
    """

    def __init__(self, host: str, port: int, tool: str = "auto") -> None:
        if tool not in TOOLS:
            raise ConfigError(f"throughput server tool is {tool!r}; give one of {', '.join(TOOLS)}")
        self.host = host
        self.port = port
        self.tool = tool
        self._server: BuiltinServer | Iperf3Server | None = None

    async def start(self) -> None:
        """Begin to serve; returns when connections are accepted."""
        if self.tool == "auto":
            self.tool = "iperf3" if shutil.which("iperf3") else "builtin"
        server = Iperf3Server(self.host, self.port) if self.tool == "iperf3" else BuiltinServer(self.host, self.port)
        await server.start()
        self.port = server.port
        self._server = server

    async def stop(self) -> None:
        """Stop serving and end a test that runs; idempotent."""
        if self._server is not None:
            await self._server.stop()
            self._server = None


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; the errors say what to change."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, proto)
    except socket.gaierror as error:
        raise ConfigError(f"throughput server: {host!r} is no address: {error.strerror}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(16)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        where = f"{host} port {port}"
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"throughput server: {where} is in use by another program; choose another port") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"throughput server: {host} is no address of this machine; use 0.0.0.0 or :: for all") from None
        if error.errno == errno.EACCES:
            raise NotPermitted(f"throughput server: {where} is closed to this user; choose a port above 1023") from None
        raise OutsideError(f"throughput server: cannot listen on {where}: {error.strerror}") from None
    return sock


class BuiltinServer:
    """The built-in server; see probes.throughput.wire for what it speaks. Port 0 takes a free one."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._is_testing = False

    async def start(self) -> None:
        """Listen and accept."""
        self._listener = _listen(self.host, self.port)
        self.port = self._listener.getsockname()[1]
        self._accepting = asyncio.create_task(self._accept(self._listener))

    async def stop(self) -> None:
        """Close everything; idempotent."""
        tasks = [*self._clients, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:
                await asyncio.sleep(0.1)  # out of descriptors, or the client is gone already
                continue
            task = asyncio.create_task(self._serve(sock))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

    async def _serve(self, sock: socket.socket) -> None:
        """One client, from greeting to report; whatever it does, it cannot hold the server for long."""
        with sock, contextlib.suppress(OSError, WireError, TimeoutError):  # a client that fails learns it from the close
            sock.setblocking(False)
            async with asyncio.timeout(_GREETING_TIMEOUT_S):
                hello = Hello.decode(await read_exactly(sock, HELLO_BYTES))
            if self._is_testing:
                await asyncio.get_running_loop().sock_sendall(sock, Grant(verdict="busy").encode())
                return
            self._is_testing = True
            try:
                await self._test(sock, hello)
            finally:
                self._is_testing = False

    async def _test(self, sock: socket.socket, hello: Hello) -> None:
        loop = asyncio.get_running_loop()
        try:
            if hello.direction == "down":
                choose_congestion_control(sock, hello.congestion_control)
        except TestFailed:
            await loop.sock_sendall(sock, Grant(verdict="refused").encode())
            return
        grant = Grant(verdict="go", duration_ms=min(hello.duration_ms, MAX_DURATION_MS), max_bytes=min(hello.max_bytes, MAX_BYTES))
        async with asyncio.timeout(grant.duration_ms / 1000 + _GRACE_S):
            await loop.sock_sendall(sock, grant.encode())
            if hello.direction == "up":
                total, duration_ns, _ = await receive_bulk(sock, grant.max_bytes + 1)
                if total <= grant.max_bytes:
                    await loop.sock_sendall(sock, make_report(sock, "up", total, duration_ns).encode())
                return
            began_ns = time.monotonic_ns()
            sent = await send_bulk(sock, grant.duration_ms, grant.max_bytes)
            report = make_report(sock, "down", sent, time.monotonic_ns() - began_ns)
            await loop.sock_sendall(sock, report.encode())
            sock.shutdown(socket.SHUT_WR)
            await read_exactly(sock, 1)  # until the client has read everything and closes


class Iperf3Server:
    """``iperf3 -s`` as a child, started again when it ends by itself."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it and wait until it listens."""
        if shutil.which("iperf3") is None:
            raise ToolMissing("iperf3 is not installed; install it with: apt-get install iperf3, or set tool = 'builtin'")
        probe = _listen(self.host, self.port)  # iperf3's own complaint about a taken port comes late and names nothing
        self.port = probe.getsockname()[1]
        probe.close()
        await self._launch()
        self._keeping = asyncio.create_task(self._keep())

    async def _launch(self) -> None:
        # setpriv (util-linux) lets the kernel end it with this process, however that ends.
        guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        argv = [*guard, "iperf3", "-s", "-B", self.host, "-p", str(self.port), "--forceflush", "--rcv-timeout", str(_IPERF3_IDLE_MS)]
        self._process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        assert self._process.stdout is not None
        said = b""
        try:
            async with asyncio.timeout(5):
                while line := await self._process.stdout.readline():
                    if b"listening" in line:
                        return
                    said += line
        except TimeoutError:
            said = said or b"it does not listen"
        await self._end()
        raise OutsideError(f"iperf3 -s on {self.host} port {self.port} did not start: {said.decode(errors='replace').strip()}")

    async def _keep(self) -> None:
        """Read away what it prints; start it again when it ends."""
        while True:
            assert self._process is not None
            assert self._process.stdout is not None
            while await self._process.stdout.read(65536):
                pass
            await self._process.wait()
            await asyncio.sleep(0.5)
            with contextlib.suppress(OutsideError, OSError):
                await self._launch()

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(2):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def stop(self) -> None:
        """End it; idempotent."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
        await self._end()
        self._process = None
