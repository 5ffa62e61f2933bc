"""The other end of a throughput test, at every site that may be tested: ``iperf3 -s``, or the built-in server.

Both run one test at a time and turn a second client away at once. The built-in one also limits time and bytes,
whatever the client asks for; iperf3's cannot limit bytes, so choose tool "builtin" where strangers reach the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import shutil
import socket
import time
from collections import Counter

from probes.throughput.bulk import TestFailed, choose_congestion_control, make_report, read_exactly, receive_bulk, send_bulk
from probes.throughput.config import TOOLS
from probes.throughput.lease import HOST, Lease, LeaseHeld, new_name
from probes.throughput.sample import send_sample
from probes.throughput.train import plan, rate_bps, tcp_payload_bps
from probes.throughput.train_socket import TrainReceiver, open_train_socket, send_trains
from probes.throughput.wire import HELLO_BYTES, Grant, Hello, Report, WireError
from records.errors import ConfigError, NotPermitted, OutsideError, ToolMissing

__all__ = ["MAX_BYTES", "MAX_DURATION_MS", "BuiltinServer", "Iperf3Server", "ThroughputServer"]

#: The most one built-in test may take.
MAX_DURATION_MS = 15_000
MAX_BYTES = 1_000_000_000
#: The longest that this host's lease is held for an iperf3 test of a client of ours.
MAX_HOLD_MS = 90_000
MAX_TRAIN_BYTES = 2_000_000
#: The most a test by trains may last, and how long the last packets of it are waited for.
_TRAIN_S = 10.0
_TRAIN_STRAGGLERS_S = 0.3
#: How much later than its time a test may end (queues drain, retransmissions).
_GRACE_S = 10.0
_GREETING_TIMEOUT_S = 3.0
#: iperf3 gives up a client that sends nothing for so long, so that a client that died does not block the next.
_IPERF3_IDLE_MS = 5_000
#: A test that iperf3 serves for longer does not keep this host from measuring any more.
_IPERF3_LONGEST_S = 90.0
#: Connections of one built-in test.
MAX_STREAMS = 16

log = logging.getLogger("isochrone.agent")


class ThroughputServer:
    """Serves throughput tests on one port with the tool given, or the best one that is installed.

    tool   auto, iperf3 or builtin; after `start` it says which one runs. Beside iperf3 the built-in server listens on the next
           port, if that is free: estimates speak to it
    lease  of this host, see probes.throughput.lease
    start() raises ConfigError when the port is taken or the address is not ours, ToolMissing for an absent iperf3.
    """

    def __init__(self, host: str, port: int, tool: str = "auto", *, lease: Lease = HOST) -> None:
        if tool not in TOOLS:
            raise ConfigError(f"throughput server tool is {tool!r}; give one of {', '.join(TOOLS)}")
        self.host = host
        self.port = port
        self.tool = tool
        self._lease = lease
        self._server: BuiltinServer | Iperf3Server | None = None
        self._beside: BuiltinServer | None = None

    async def start(self) -> None:
        """Begin to serve; returns when connections are accepted."""
        if self.tool == "auto":
            self.tool = "iperf3" if shutil.which("iperf3") else "builtin"
        kind = Iperf3Server if self.tool == "iperf3" else BuiltinServer
        server = kind(self.host, self.port, lease=self._lease)
        await server.start()
        self.port = server.port
        self._server = server
        if self.tool == "iperf3" and self.port < 65535:
            beside = BuiltinServer(self.host, self.port + 1, lease=self._lease)
            try:
                await beside.start()
            except (ConfigError, NotPermitted, OutsideError) as error:
                log.warning("no estimates are served beside iperf3: %s", error)
            else:
                self._beside = beside

    async def stop(self) -> None:
        """Stop serving and end a test that runs; idempotent."""
        if self._beside is not None:
            await self._beside.stop()
            self._beside = None
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

    def __init__(self, host: str, port: int, *, lease: Lease = HOST) -> None:
        self.host = host
        self.port = port
        self._lease = lease
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._tests: Counter[bytes] = Counter()

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
            # Streams of one test, and its two directions, come under one name.
            if (self._tests and hello.lease not in self._tests) or self._tests[hello.lease] >= MAX_STREAMS:
                await self._busy(sock)
                return
            longest_ms = MAX_HOLD_MS if hello.method == "hold" else MAX_DURATION_MS
            ttl_s = min(hello.duration_ms, longest_ms) / 1000 + _GRACE_S
            try:
                self._lease.take(hello.lease, f"a test from {sock.getpeername()[0]}", ttl_s, sock.getsockname()[0])
            except LeaseHeld:
                await self._busy(sock)
                return
            self._tests[hello.lease] += 1
            try:
                await self._test(sock, hello)
            finally:
                self._lease.release(hello.lease)
                self._tests[hello.lease] -= 1
                self._tests += Counter()  # drops what is at zero

    @staticmethod
    async def _busy(sock: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, Grant(verdict="busy").encode())

    async def _test(self, sock: socket.socket, hello: Hello) -> None:
        loop = asyncio.get_running_loop()
        try:
            if hello.direction == "down":
                choose_congestion_control(sock, hello.congestion_control)
        except TestFailed:
            await loop.sock_sendall(sock, Grant(verdict="refused").encode())
            return
        if hello.method == "train":
            await self._train(sock, hello)
            return
        if hello.method == "hold":
            held_ms = min(hello.duration_ms, MAX_HOLD_MS)
            await loop.sock_sendall(sock, Grant(verdict="go", duration_ms=held_ms).encode())
            async with asyncio.timeout(held_ms / 1000):
                await read_exactly(sock, 1)  # until the client has ended its iperf3 test and closes, or dies
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
            sampled = await send_sample(sock, grant.duration_ms, grant.max_bytes) if hello.method == "sample" else None
            sent = await send_bulk(sock, grant.duration_ms, grant.max_bytes) if sampled is None else sampled.sent_bytes
            report = make_report(sock, "down", sent, time.monotonic_ns() - began_ns, sampled)
            await loop.sock_sendall(sock, report.encode())
            sock.shutdown(socket.SHUT_WR)
            await read_exactly(sock, 1)  # until the client has read everything and closes

    async def _train(self, sock: socket.socket, hello: Hello) -> None:
        """Trains of UDP packets beside the connection; those that go down wait for a packet of the client's own address with its lease."""
        loop = asyncio.get_running_loop()
        max_bytes = min(hello.max_bytes, MAX_TRAIN_BYTES)
        trains = open_train_socket(sock.family, sock.getsockname()[0])
        receiver = TrainReceiver(trains, hello.lease)
        try:
            async with asyncio.timeout(_TRAIN_S):
                port = trains.getsockname()[1]
                await loop.sock_sendall(sock, Grant(verdict="go", max_bytes=max_bytes, udp_port=port).encode())
                if hello.direction == "up":
                    await read_exactly(sock, 1)  # until the client shuts its side: all have been sent
                    await asyncio.sleep(_TRAIN_STRAGGLERS_S)
                    version = 6 if sock.family == socket.AF_INET6 else 4
                    rate = rate_bps(receiver.arrivals, version)
                    estimate = None if rate is None else tcp_payload_bps(rate)
                    report = Report(transferred_bytes=receiver.received_bytes, duration_ns=0, estimate_bps=estimate, method="train")
                else:
                    place = await receiver.greeted
                    if place[0] != sock.getpeername()[0]:
                        return
                    trains.connect(place)
                    sent = await send_trains(trains, plan(max_bytes), hello.lease)
                    await asyncio.sleep(_TRAIN_STRAGGLERS_S)
                    report = Report(transferred_bytes=sent, duration_ns=0, method="train")
                await loop.sock_sendall(sock, report.encode())
        finally:
            receiver.close()


class Iperf3Server:
    """``iperf3 -s`` as a child, started again when it ends by itself.

    It knows nothing of leases: while it serves somebody who does not hold this host's (a stranger's iperf3), that is taken for it.
    """

    def __init__(self, host: str, port: int, *, lease: Lease = HOST) -> None:
        self.host = host
        self.port = port
        self._lease = lease
        self._serving: bytes | None = None
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

    def _heard(self, line: bytes) -> None:
        """Take the lease when a client was accepted, give it back when the next one is waited for."""
        if b"Accepted connection" in line and self._serving is None:
            name = new_name()
            self._serving = name
            who = line.decode(errors="replace").partition("from ")[2].partition(",")[0]
            try:
                self._lease.take(name, f"an iperf3 test from {who}", _IPERF3_LONGEST_S)
            except LeaseHeld:
                self._serving = None
        elif b"Server listening" in line and self._serving is not None:
            name, self._serving = self._serving, None
            self._lease.release(name)

    async def _launch(self) -> None:
        # setpriv (util-linux) lets the kernel end it with this process, however that ends.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
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
        """Read what it prints; start it again when it ends."""
        while True:
            assert self._process is not None
            assert self._process.stdout is not None
            while line := await self._process.stdout.readline():
                self._heard(line)
            await self._process.wait()
            self._heard(b"Server listening")
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
        self._heard(b"Server listening")
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
        await self._end()
        self._process = None
