"""The sockets of the built-in throughput test: sending and counting a bulk, greeting, reporting."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from probes.tcp_info import TcpInfo, available_congestion_controls, read_tcp_info
from probes.throughput.sample import Sampled, send_sample
from probes.throughput.train import HELLO_TRAIN, packet, plan, rate_bps, tcp_payload_bps
from probes.throughput.train_socket import TrainReceiver, open_train_socket, send_trains
from probes.throughput.wire import GRANT_BYTES, REPORT_BYTES, Direction, Estimated, Grant, Hello, Report, WireError, is_iperf3_answer
from records.measurement import FailureSource

__all__ = [
    "Measured",
    "NotBuiltin",
    "ServerBusy",
    "TestFailed",
    "choose_congestion_control",
    "held_lease",
    "read_exactly",
    "receive_bulk",
    "run_test",
    "send_bulk",
]

_BLOCK = os.urandom(256 * 1024)  # random, so that nothing on the way can compress it
_NOTSENT_LOWAT_BYTES = 128 * 1024
_CONGESTION_BYTES = 16
_CONNECT_TIMEOUT_S = 5.0
_HOLD_TIMEOUT_S = 3.0
#: What a test may take beyond its time: the grant, draining, the report.
_MARGIN_S = 8.0
_LONGEST_MS = 60_000
#: Whose failure an error of a socket is; what is not here is the other end's.
_SOURCES: dict[int, FailureSource] = {
    **dict.fromkeys((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENETDOWN), "path"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS), "agent"),
}
#: How often TCP_INFO is read while a bulk is sent.
_LOOK_EVERY_NS = 20_000_000


class TestFailed(Exception):
    """The test could not be run or did not end; says why in one sentence, and whose failure it was."""

    __test__ = False  # the name is not a test case's

    def __init__(self, why: str, source: FailureSource = "target") -> None:
        super().__init__(why)
        self.source: FailureSource = source


class ServerBusy(TestFailed):
    """The server is running another test."""


class NotBuiltin(TestFailed):
    """Something else answers on that port: iperf3, or a server that is not ours."""

    def __init__(self, why: str, *, is_iperf3: bool = False) -> None:
        super().__init__(why)
        self.is_iperf3 = is_iperf3


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One direction of a built-in test: the receiver's count and time, the sender's TCP counters.

    estimate_bps, method   of a sample or of trains; is_settled False: no more than a lower bound
    rtts_ns                smoothed RTTs that the connection had while we sent (TCP_INFO); empty where the other end sent
    idle_rtt_ns            RTT of the hand-shake
    """

    transferred_bytes: int
    duration_ns: int
    sender: TcpInfo
    congestion_control: str | None
    estimate_bps: int | None = None
    method: Estimated = "transfer"
    is_settled: bool = True
    rtts_ns: tuple[int, ...] = ()
    idle_rtt_ns: int | None = None


def choose_congestion_control(sock: socket.socket, wanted: str | None) -> None:
    """Set the sender's congestion control: the wanted one, or bbr where it may be had; raises TestFailed."""
    option = getattr(socket, "TCP_CONGESTION", None)
    name = wanted or ("bbr" if "bbr" in available_congestion_controls() else None)
    if option is None or name is None:
        return
    try:
        sock.setsockopt(socket.IPPROTO_TCP, option, name.encode())
    except OSError as error:
        if wanted:
            raise TestFailed(f"congestion control {wanted!r} is not available here: {error.strerror}", "agent") from None


def congestion_control(sock: socket.socket) -> str | None:
    """The congestion control of a connection; None where the system does not say."""
    option = getattr(socket, "TCP_CONGESTION", None)
    if option is None:
        return None
    return sock.getsockopt(socket.IPPROTO_TCP, option, _CONGESTION_BYTES).rstrip(b"\0").decode("ascii", "replace") or None


async def read_exactly(sock: socket.socket, count: int) -> bytes:
    """`count` bytes, or fewer when the other end closes first."""
    data = b""
    while len(data) < count and (more := await asyncio.get_running_loop().sock_recv(sock, count - len(data))):
        data += more
    return data


async def send_bulk(
    sock: socket.socket,
    duration_ms: int,
    max_bytes: int,
    rtts_ns: list[int] | None = None,
    spend: Callable[[int], None] | None = None,
) -> int:
    """Send for that long or that many bytes, whichever ends first; returns the bytes handed to the kernel.

    rtts_ns   takes the connection's smoothed RTT (TCP_INFO), every 20 ms
    spend     is told of the bytes as they go

    Little is let wait unsent in the kernel, so that a slow path is not still busy seconds after the time is up.
    """
    loop = asyncio.get_running_loop()
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOTSENT_LOWAT_BYTES)
    sent = 0
    deadline_ns = time.monotonic_ns() + duration_ms * 1_000_000
    look_ns = 0
    block = memoryview(_BLOCK)
    while sent < max_bytes and (left_ns := deadline_ns - time.monotonic_ns()) > 0:
        if rtts_ns is not None and left_ns < deadline_ns - look_ns:
            look_ns = deadline_ns - left_ns + _LOOK_EVERY_NS
            rtt_ns = read_tcp_info(sock).rtt_ns
            rtts_ns.extend([] if rtt_ns is None else [rtt_ns])
        part = block[: min(len(block), max_bytes - sent)]
        while part and left_ns > 0:
            try:
                done = sock.send(part)
            except BlockingIOError:
                try:
                    async with asyncio.timeout(left_ns / 1e9):
                        await _writable(loop, sock)
                except TimeoutError:
                    break
            else:
                sent += done
                if spend is not None:
                    spend(done)
                part = part[done:]
                await asyncio.sleep(0)  # the agent's other work goes on at full rate
            left_ns = deadline_ns - time.monotonic_ns()
    return sent


async def _writable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_writer(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(sock)


async def receive_bulk(sock: socket.socket, max_bytes: int, spend: Callable[[int], None] | None = None) -> tuple[int, int, bytes]:
    """Count what comes until the other end shuts its side: (bytes, ns from the first to the last read, the tail).

    Stops after `max_bytes`. The tail is the last bytes received, at most a report's length. `spend` is told of all as it comes.
    """
    loop = asyncio.get_running_loop()
    buffer = bytearray(len(_BLOCK))
    view = memoryview(buffer)
    total = 0
    first_ns = last_ns = 0
    tail = b""
    while total < max_bytes and (count := await loop.sock_recv_into(sock, view)):
        last_ns = time.monotonic_ns()
        first_ns = first_ns or last_ns
        total += count
        if spend is not None:
            spend(count)
        tail = (tail + bytes(view[max(0, count - REPORT_BYTES) : count]))[-REPORT_BYTES:]
    return total, last_ns - first_ns, tail


async def run_test(address: str, port: int, hello: Hello, spend: Callable[[int], None], min_round_trips: int = 0) -> Measured:
    """The client's side of one test, of at least so many round trips, within a time limit.

    `spend` is told of payload bytes as they go, and at the end of those that may have gone unseen: a test that fails, or is cancelled,
    has cost what it moved by then. Raises TestFailed, ServerBusy or NotBuiltin.
    """
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S) as limit:
            return await _run_test(address, port, hello, spend, min_round_trips, limit)
    except TimeoutError:
        if not limit.expired():
            raise TestFailed(f"{address} port {port}: Connection timed out", "path") from None
        raise TestFailed(f"{address} port {port}: the test did not end in time and was stopped") from None


@contextlib.asynccontextmanager
async def held_lease(address: str, port: int, lease: bytes, longest_s: float) -> AsyncIterator[None]:
    """The other end's lease, for as long as the block runs. Raises TestFailed, ServerBusy or NotBuiltin when it is not to be had."""
    loop = asyncio.get_running_loop()
    with socket.socket(await _family(address, port), socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(_HOLD_TIMEOUT_S):
                await loop.sock_connect(sock, (address, port))
                await loop.sock_sendall(
                    sock, Hello(direction="up", duration_ms=round(longest_s * 1000), max_bytes=0, method="hold", lease=lease).encode()
                )
                await _read_grant(sock)
        except (OSError, TimeoutError) as error:
            raise TestFailed(f"{address} port {port}: {error or 'no answer'}") from None
        yield


async def _family(address: str, port: int) -> int:
    try:
        return (await asyncio.get_running_loop().getaddrinfo(address, port, type=socket.SOCK_STREAM))[0][0]
    except (socket.gaierror, UnicodeError) as error:
        raise TestFailed(f"cannot resolve {address!r}: {getattr(error, 'strerror', None) or error}", "resolver") from error


async def _run_test(
    address: str, port: int, hello: Hello, spend: Callable[[int], None], min_round_trips: int, limit: asyncio.Timeout
) -> Measured:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise TestFailed(f"cannot resolve {address!r}: {getattr(error, 'strerror', None) or error}", "resolver") from error
    family, _, _, _, place = found[0]
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        try:
            if hello.direction == "up":
                choose_congestion_control(sock, hello.congestion_control)
            await loop.sock_connect(sock, place)
            idle_rtt_ns = read_tcp_info(sock).rtt_ns
            round_trips_ms = min_round_trips * (idle_rtt_ns or 0) // 1_000_000
            hello = replace(hello, duration_ms=min(max(hello.duration_ms, round_trips_ms), _LONGEST_MS))
            limit.reschedule(loop.time() + hello.duration_ms / 1000 + _MARGIN_S)
            await loop.sock_sendall(sock, hello.encode())
            grant = await _read_grant(sock)
            # Never more than was asked for, whatever it says: that is what the day's budget was asked for.
            most_ms, most_bytes = min(grant.duration_ms, hello.duration_ms), min(grant.max_bytes, hello.max_bytes)
            grant = replace(grant, duration_ms=most_ms, max_bytes=most_bytes)
            if hello.method == "train":
                limit.reschedule(loop.time() + _MARGIN_S)
                return replace(await _trains(sock, grant, hello, spend), idle_rtt_ns=idle_rtt_ns)
            measured = await (_up(sock, grant, hello, spend) if hello.direction == "up" else _down(sock, grant, spend))
            return replace(measured, idle_rtt_ns=idle_rtt_ns)
        except TimeoutError:
            raise
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise TestFailed(f"{address} port {port}: {why}", _SOURCES.get(error.errno or 0, "target")) from error


async def _read_grant(sock: socket.socket) -> Grant:
    answer = await read_exactly(sock, 1)
    if is_iperf3_answer(answer):
        why = "the server is iperf3, not the built-in one; install iperf3 here, or start the other end with tool = 'builtin'"
        raise NotBuiltin(why, is_iperf3=True)
    answer += await read_exactly(sock, GRANT_BYTES - 1) if answer else b""
    try:
        grant = Grant.decode(answer)
    except WireError:
        raise NotBuiltin("what listens there is no throughput server of Isochrone") from None
    if grant.verdict == "busy":
        raise ServerBusy("the server is busy with another test; try again later")
    if grant.verdict == "refused":
        raise TestFailed("the server refused the test: it cannot run what was asked for")
    return grant


async def _up(sock: socket.socket, grant: Grant, hello: Hello, spend: Callable[[int], None]) -> Measured:
    rtts: list[int] = []
    sampled: Sampled | None = None
    if hello.method == "sample":
        sampled = await send_sample(sock, grant.duration_ms, grant.max_bytes, spend)
        rtts.extend(sampled.rtts_ns)
    else:
        await send_bulk(sock, grant.duration_ms, grant.max_bytes, rtts, spend)
    sender, control = read_tcp_info(sock), congestion_control(sock)
    sock.shutdown(socket.SHUT_WR)
    raw = await read_exactly(sock, REPORT_BYTES)
    try:
        report = Report.decode(raw)
    except WireError:
        raise TestFailed("the server ended the test without a report") from None
    return Measured(
        transferred_bytes=report.transferred_bytes,
        duration_ns=report.duration_ns,
        sender=sender,
        congestion_control=control,
        estimate_bps=None if sampled is None else sampled.rate_bps,
        method="transfer" if sampled is None else sampled.method,
        is_settled=sampled is None or sampled.is_settled,
        rtts_ns=tuple(rtts),
    )


async def _down(sock: socket.socket, grant: Grant, spend: Callable[[int], None]) -> Measured:
    came = 0

    def took(count: int) -> None:
        nonlocal came
        came += count
        spend(count)

    try:
        total, duration_ns, tail = await receive_bulk(sock, grant.max_bytes + REPORT_BYTES + 1, took)
    except BaseException:
        # What the other end had sent beyond that nobody knows: at most what our receive buffer has room for, or the rest of the grant.
        spend(max(0, min(grant.max_bytes - came, sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))))
        raise
    try:
        report = Report.decode(tail)
    except WireError:
        raise TestFailed("the server ended the test without a report") from None
    spend(-REPORT_BYTES)  # it came behind the bulk, and is not of it

    def ns(value_us: int | None) -> int | None:
        return None if value_us is None else value_us * 1000

    sender = TcpInfo(rtt_ns=ns(report.rtt_us), min_rtt_ns=ns(report.min_rtt_us), retransmits=report.retransmits)
    return Measured(
        transferred_bytes=total - REPORT_BYTES,
        duration_ns=duration_ns,
        sender=sender,
        congestion_control=report.congestion_control,
        estimate_bps=report.estimate_bps,
        method=report.method,
        is_settled=report.transferred_bytes < grant.max_bytes,
    )


async def _trains(sock: socket.socket, grant: Grant, hello: Hello, spend: Callable[[int], None]) -> Measured:
    """Trains of UDP packets beside the connection. Of those that come down the report says how many bytes left; without it all may have."""
    host, begun_ns = sock.getpeername()[0], time.monotonic_ns()
    trains = open_train_socket(sock.family, sock.getsockname()[0])
    receiver = TrainReceiver(trains, hello.lease)
    try:
        trains.connect((host, grant.udp_port))
        if hello.direction == "up":
            await send_trains(trains, plan(grant.max_bytes), hello.lease, spend)
            sock.shutdown(socket.SHUT_WR)
        else:
            trains.send(packet(hello.lease, HELLO_TRAIN, 0, 1))
            spend(grant.max_bytes)
        raw = await read_exactly(sock, REPORT_BYTES)
        try:
            report = Report.decode(raw)
        except WireError:
            raise TestFailed("the server ended the test without a report") from None
        if hello.direction == "down":
            spend(max(report.transferred_bytes, receiver.received_bytes) - grant.max_bytes)
        rate = rate_bps(receiver.arrivals, 6 if sock.family == socket.AF_INET6 else 4)
        own_bps = None if rate is None else tcp_payload_bps(rate)
        return Measured(
            transferred_bytes=report.transferred_bytes,
            duration_ns=max(1, time.monotonic_ns() - begun_ns),
            sender=TcpInfo(),
            congestion_control=None,
            estimate_bps=report.estimate_bps if hello.direction == "up" else own_bps,
            method="train",
        )
    finally:
        receiver.close()


def make_report(
    sock: socket.socket, direction: Direction, transferred_bytes: int, duration_ns: int, sampled: Sampled | None = None
) -> Report:
    """The server's report, with its TCP counters when it was the sender, and what it read of the rate."""
    if direction == "up":
        return Report(transferred_bytes=transferred_bytes, duration_ns=duration_ns)
    info = read_tcp_info(sock)
    return Report(
        transferred_bytes=transferred_bytes,
        duration_ns=duration_ns,
        retransmits=info.retransmits,
        rtt_us=None if info.rtt_ns is None else info.rtt_ns // 1000,
        min_rtt_us=None if info.min_rtt_ns is None else info.min_rtt_ns // 1000,
        congestion_control=congestion_control(sock),
        estimate_bps=None if sampled is None else sampled.rate_bps,
        method="transfer" if sampled is None else sampled.method,
    )
