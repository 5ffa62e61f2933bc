"""Throughput tests against real servers, both tools, over loopback and through a path of known rate."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from lab.loopback_delay import OneWay, PreciseTimer
from lab.loopback_proxy import DelayingProxy
from probes.model import Target, Vantage, new_boot_id
from probes.throughput import ThroughputConfig, ThroughputProbe, ThroughputServer
from probes.throughput.wire import GRANT_BYTES, Grant, Hello
from records.errors import ConfigError, ToolMissing
from records.measurement import ThroughputResult

pytestmark = [pytest.mark.alone, pytest.mark.waits]

needs_iperf3 = pytest.mark.skipif(shutil.which("iperf3") is None, reason="iperf3 is not installed")
BOTH = [pytest.param("iperf3", marks=needs_iperf3), "builtin"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def measure(config: ThroughputConfig, port: int | None, probe: ThroughputProbe | None = None) -> list[ThroughputResult]:
    probe = probe or ThroughputProbe(config)
    await probe.open()
    lines = await probe.once(
        Target(site="fra", address="127.0.0.1", throughput_port=port), Vantage(agent="a", site="sin", boot=new_boot_id())
    )
    await probe.close()
    return list(lines)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(tool: str) -> AsyncIterator[ThroughputServer]:
    server = ThroughputServer("127.0.0.1", 0, tool)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def narrow(port: int, rate_bps: int, delay_ms: int) -> AsyncIterator[int]:
    """The same server behind a path of that rate and one-way delay."""
    timer = PreciseTimer()
    ways = [OneWay(delay_ns=delay_ms * 1_000_000, jitters_ns=(), loss_ratio=0, rate_bps=rate_bps) for _ in range(2)]
    proxy = DelayingProxy("127.0.0.1", 0, ("127.0.0.1", port), *ways, timer, random.Random(1))
    await proxy.start()
    try:
        yield proxy.port
    finally:
        await proxy.stop()
        timer.close()


@pytest.mark.parametrize("tool", BOTH)
def test_both_directions_are_measured(tool: str) -> None:
    """Each tool measures up and down, stays within its budget and says which tool it was."""

    async def run() -> list[ThroughputResult]:
        async with serving(tool) as server:
            return await measure(ThroughputConfig(tool=tool, duration_s=1.0, max_bytes=4_000_000), server.port)

    up, down = asyncio.run(run())
    assert (up.direction, down.direction) == ("up", "down")
    for result in (up, down):
        assert result.error is None
        assert result.tool == tool
        assert result.engine.startswith("iperf3/" if tool == "iperf3" else "isochrone-throughput/")
        assert 0 < result.transferred_bytes <= 4_000_000 * 1.1
        assert result.throughput_bps is not None
        assert result.throughput_bps > 1_000_000
        assert result.congestion_control
    assert up.tcp_rtt_ns is not None


@pytest.mark.parametrize("tool", BOTH)
def test_known_rate_is_read(tool: str) -> None:
    """Through 20 Mbit/s, 10 ms each way, both tools read the payload's share of it (1448 of 1500 bytes), within a loose factor."""

    async def run() -> list[ThroughputResult]:
        async with serving(tool) as server, narrow(server.port, 20_000_000, 10) as port:
            return await measure(ThroughputConfig(tool=tool, duration_s=1.0, max_bytes=20_000_000), port)

    for result in asyncio.run(run()):
        assert result.error is None
        assert result.stop_reason == "time"
        assert result.throughput_bps is not None
        assert 0.6 < result.throughput_bps / (20_000_000 * 1448 / 1500) < 1.3


def test_byte_budget_ends_a_test() -> None:
    """The built-in test moves exactly its byte budget on a fast path, and says so."""

    async def run() -> list[ThroughputResult]:
        async with serving("builtin") as server:
            return await measure(ThroughputConfig(tool="builtin", duration_s=10, max_bytes=3_000_000), server.port)

    for result in asyncio.run(run()):
        assert (result.transferred_bytes, result.stop_reason) == (3_000_000, "bytes")


@pytest.mark.parametrize("tool", BOTH)
def test_busy_server_is_a_clear_error(tool: str) -> None:
    """A second test is turned away while one runs; with patience it is run after it."""

    async def run() -> tuple[list[ThroughputResult], list[ThroughputResult], list[ThroughputResult]]:
        async with serving(tool) as server, narrow(server.port, 20_000_000, 5) as port:
            long = asyncio.create_task(measure(ThroughputConfig(tool=tool, duration_s=3, direction="up"), port))
            await asyncio.sleep(1.0)
            hasty = await measure(ThroughputConfig(tool=tool, duration_s=1, direction="up", busy_wait_s=0), server.port)
            patient = await measure(ThroughputConfig(tool=tool, duration_s=1, direction="up", busy_wait_s=20), server.port)
            return await long, hasty, patient

    (long,), (hasty,), (patient,) = asyncio.run(run())
    assert long.error is None
    assert patient.error is None
    assert (hasty.stop_reason, hasty.throughput_bps) == ("error", None)
    assert "busy" in (hasty.error or "")


@needs_iperf3
def test_auto_finds_out_what_the_other_end_speaks() -> None:
    """auto uses iperf3 with an iperf3 server and the built-in test with a built-in one; a wrong tool says what to do."""

    async def run() -> None:
        for tool in ("iperf3", "builtin"):
            async with serving(tool) as server:
                results = await measure(ThroughputConfig(max_bytes=1_000_000), server.port)
                assert [(r.tool, r.error) for r in results] == [(tool, None)] * 2
        async with serving("iperf3") as server:
            (wrong,) = await measure(ThroughputConfig(tool="builtin", direction="up"), server.port)
            assert "the server is iperf3" in (wrong.error or "")
            # The stranger did not put the server out of order, though iperf3 may need a moment to get over it.
            config = ThroughputConfig(tool="iperf3", direction="up", max_bytes=1_000_000)
            errors = [(await measure(config, server.port))[0].error for _ in range(3)]
            assert None in errors, errors
        async with serving("builtin") as server:
            (wrong,) = await measure(ThroughputConfig(tool="iperf3", direction="up"), server.port)
            assert "no iperf3 server" in (wrong.error or "")

    asyncio.run(run())


@pytest.mark.parametrize("tool", BOTH)
def test_absent_server_is_an_error_result(tool: str) -> None:
    """Nothing listens: an error that says so, at once."""
    for result in asyncio.run(measure(ThroughputConfig(tool=tool), free_port())):
        assert (result.stop_reason, result.throughput_bps, result.transferred_bytes) == ("error", None, 0)
        assert "refused" in (result.error or "")


def test_foreign_server_is_an_error_result() -> None:
    """A server that speaks something else, or hangs up, is an error, not a hang."""

    async def run(answer: bytes) -> list[ThroughputResult]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            return await measure(ThroughputConfig(tool="builtin", direction="up"), listening.sockets[0].getsockname()[1])

    for answer in (b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        (result,) = asyncio.run(run(answer))
        assert result.stop_reason == "error"
    (died,) = asyncio.run(run(Grant(verdict="go", duration_ms=100, max_bytes=1000).encode()))
    assert died.stop_reason == "error"


def test_server_limits_what_a_client_may_do() -> None:
    """The built-in server grants at most its own limits, cuts a client that sends more, and serves the next one."""

    async def run() -> tuple[Grant, list[ThroughputResult]]:
        async with serving("builtin") as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(Hello(direction="up", duration_ms=10**9, max_bytes=20_000).encode())
            grant = Grant.decode(await reader.readexactly(GRANT_BYTES))
            writer.write(b"x" * 200_000)  # ten times what was granted
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            silent = await asyncio.open_connection("127.0.0.1", server.port)  # says nothing, blocks nobody
            results = await measure(ThroughputConfig(tool="builtin", direction="up", max_bytes=100_000), server.port)
            silent[1].close()
            return grant, results

    grant, (result,) = asyncio.run(run())
    assert grant == Grant(verdict="go", duration_ms=15_000, max_bytes=20_000)
    assert result.error is None


def test_mistakes_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Port in use, foreign address, absent iperf3, no port, wrong settings: each says what to do."""

    async def start(host: str, port: int, tool: str = "builtin") -> None:
        await ThroughputServer(host, port, tool).start()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for tool in ("builtin", "iperf3") if shutil.which("iperf3") else ("builtin",):
            with pytest.raises(ConfigError, match="in use"):
                asyncio.run(start("127.0.0.1", taken.getsockname()[1], tool))
    with pytest.raises(ConfigError, match="no address of this machine"):
        asyncio.run(start("192.0.2.1", 0))
    with pytest.raises(ConfigError, match="throughput_port"):
        asyncio.run(measure(ThroughputConfig(), None))
    for wrong in (
        {"duration_s": 0},
        {"duration_s": float("nan")},
        {"max_bytes": 1},
        {"tool": "wget"},
        {"direction": "sideways"},
        {"congestion_control": "x y"},
    ):
        with pytest.raises(ConfigError, match=f"throughput {next(iter(wrong))} is"):
            ThroughputConfig(**wrong)  # type: ignore[arg-type]
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolMissing, match="apt-get install iperf3"):
        asyncio.run(start("127.0.0.1", 0, "iperf3"))
    with pytest.raises(ToolMissing, match="apt-get install iperf3"):
        asyncio.run(measure(ThroughputConfig(tool="iperf3"), 1))


def test_without_iperf3_auto_is_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without iperf3 both ends take the built-in test."""
    monkeypatch.setenv("PATH", "/nonexistent")

    async def run() -> list[ThroughputResult]:
        async with serving("auto") as server:
            assert server.tool == "builtin"
            return await measure(ThroughputConfig(max_bytes=1_000_000), server.port)

    assert [(r.tool, r.error) for r in asyncio.run(run())] == [("builtin", None)] * 2
