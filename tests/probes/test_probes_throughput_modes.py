"""Throughput tests of every mode against real servers, and every way in which one can fail, as the result it becomes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from probes.model import Target, Vantage, new_boot_id
from probes.throughput import ThroughputConfig, ThroughputProbe, ThroughputServer, bulk
from probes.throughput.lease import Lease
from probes.throughput.server import BuiltinServer
from records.measurement import ThroughputResult

pytestmark = [pytest.mark.alone, pytest.mark.waits]

needs_iperf3 = pytest.mark.skipif(shutil.which("iperf3") is None, reason="iperf3 is not installed")


async def measure(
    probe: ThroughputProbe, port: int, *, address: str = "127.0.0.1", site: str = "fra", rounds: int = 1
) -> list[ThroughputResult]:
    await probe.open()
    try:
        lines: list[ThroughputResult] = []
        for _ in range(rounds):
            target = Target(site=site, address=address, throughput_port=port)
            lines += await probe.once(target, Vantage(agent="a", site="sin", boot=new_boot_id()))  # type: ignore[arg-type]
        return lines
    finally:
        await probe.close()


def probe_of(lease: Lease | None = None, **settings: object) -> ThroughputProbe:
    """A probe of a host of its own: its lease is nobody else's."""
    return ThroughputProbe(ThroughputConfig(**{"full_every": 1, **settings}), lease=lease or Lease())  # type: ignore[arg-type]


@asynccontextmanager
async def serving(tool: str = "builtin") -> AsyncIterator[ThroughputServer]:
    server = ThroughputServer("127.0.0.1", 0, tool, lease=Lease())
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.mark.parametrize("tool", [pytest.param("iperf3", marks=needs_iperf3), "builtin"])
def test_both_directions_at_once_and_several_streams(tool: str) -> None:
    """bidir gives two results that say so; three streams are one result of three; both stay within the byte budget."""

    async def run() -> tuple[list[ThroughputResult], list[ThroughputResult]]:
        async with serving(tool) as server:
            both = await measure(probe_of(tool=tool, direction="bidir", max_bytes=6_000_000), server.port)
            several = await measure(probe_of(tool=tool, direction="up", streams=3, max_bytes=6_000_000), server.port)
            return both, several

    both, several = asyncio.run(run())
    assert [(one.direction, one.is_bidirectional, one.error) for one in both] == [("up", True, None), ("down", True, None)]
    assert [(one.direction, one.streams, one.error) for one in several] == [("up", 3, None)]
    for one in (*both, *several):
        assert one.throughput_bps is not None
        assert one.throughput_bps > 1_000_000
        assert one.spent_bytes is not None
        assert 0 < (one.transferred_bytes or 0) <= one.spent_bytes <= 14_000_000
        assert not one.is_estimate


@needs_iperf3
def test_udp_says_what_was_lost_and_how_it_jittered() -> None:
    """5 Mbit/s of UDP over loopback, up and down: the rate asked for, packets counted, none of TCP's figures."""

    async def run() -> list[ThroughputResult]:
        async with serving("iperf3") as server:
            return await measure(probe_of(tool="iperf3", protocol="udp", udp_rate_mbps=5), server.port)

    for one in asyncio.run(run()):
        assert (one.error, one.protocol) == (None, "udp")
        assert one.throughput_bps == pytest.approx(5e6, rel=0.2)
        assert one.udp_packets is not None
        assert one.udp_packets > 0
        assert one.udp_lost_packets is not None
        assert one.udp_jitter_ns is not None
        assert (one.retransmits, one.tcp_rtt_ns, one.congestion_control) == (None, None, None)


def test_estimates_come_between_full_tests_and_are_marked() -> None:
    """full_every 3: full, estimate, estimate, full; each says what it is, and an estimate spends no more than its own budget."""

    async def run() -> list[ThroughputResult]:
        async with serving() as server:
            probe = probe_of(tool="builtin", direction="down", full_every=3, max_bytes=2_000_000, estimate_max_bytes=1_000_000)
            return await measure(probe, server.port, rounds=4)

    made = asyncio.run(run())
    assert [one.error for one in made] == [None] * 4
    assert [one.is_estimate for one in made] == [False, True, True, False]
    assert all(one.method in {"bbr", "delivery_rate"} and (one.spent_bytes or 0) <= 1_000_000 for one in made[1:3])


@needs_iperf3
def test_estimates_are_served_beside_iperf3() -> None:
    """Where iperf3 serves, estimates find the built-in server on the next port, and iperf3 goes on serving."""

    async def run() -> list[ThroughputResult]:
        async with serving("iperf3") as server:
            return await measure(probe_of(direction="up", full_every=2, max_bytes=1_000_000), server.port, rounds=3)

    made = asyncio.run(run())
    assert [(one.tool, one.is_estimate, one.error) for one in made] == [
        ("iperf3", False, None),
        ("builtin", True, None),
        ("iperf3", False, None),
    ]


def test_latency_under_load_is_in_the_result() -> None:
    """Idle and loaded RTT, by pings where an ICMP socket opens and by the connection itself where none does."""

    async def run(*, load_rtt: bool) -> ThroughputResult:
        async with serving() as server:
            settings = {"tool": "builtin", "direction": "up", "duration_s": 0.5, "max_bytes": 10**10, "load_rtt": load_rtt}
            (one,) = await measure(probe_of(**settings), server.port)
            return one

    for load_rtt in (True, False):
        one = asyncio.run(run(load_rtt=load_rtt))
        assert one.rtt_source in ({"ping", "tcp_info"} if load_rtt else {"tcp_info"})
        assert one.idle_rtt_ns is not None
        assert one.loaded_rtt_ns is not None
        assert one.loaded_rtt_p95_ns is not None
        assert 0 < one.loaded_rtt_ns <= one.loaded_rtt_p95_ns


def test_a_host_that_is_measured_does_not_measure() -> None:
    """While a host serves a test, its own prober waits for the lease or says that it is busy; while it probes, its server is busy."""

    async def run() -> tuple[ThroughputResult, ThroughputResult, ThroughputResult]:
        lease = Lease()
        host = BuiltinServer("127.0.0.1", 0, lease=lease)
        await host.start()
        async with serving() as other:
            lease.take(b"served", "a test from 192.0.2.9", 30)
            (refused,) = await measure(probe_of(lease, tool="builtin", direction="up", busy_wait_s=0), other.port)
            lease.release(b"served")
            lease.take(b"probes", "a test of iad", 30)
            (turned_away,) = await measure(probe_of(tool="builtin", direction="up", busy_wait_s=0), host.port)
            lease.release(b"probes")
            (free,) = await measure(probe_of(tool="builtin", direction="up", max_bytes=100_000), host.port)
        await host.stop()
        return refused, turned_away, free

    refused, turned_away, free = asyncio.run(run())
    assert "busy with a test from 192.0.2.9" in (refused.error or "")
    assert (refused.stop_reason, refused.failure_source) == ("error", "agent")
    assert "busy with another test" in (turned_away.error or "")
    assert turned_away.failure_source == "target"
    assert free.error is None


@needs_iperf3
def test_iperf3_tests_hold_the_lease_of_the_other_end() -> None:
    """While a client of ours runs iperf3 the served host has lent its lease; a second one is turned away and comes in when it is free."""

    async def run() -> tuple[ThroughputResult, str | None, ThroughputResult, ThroughputResult]:
        served = Lease()
        server = ThroughputServer("127.0.0.1", 0, "iperf3", lease=served)
        await server.start()
        settings = {"tool": "iperf3", "direction": "up", "max_bytes": 500_000, "load_rtt": False}
        try:
            first = asyncio.create_task(measure(probe_of(**settings), server.port))
            while served.holder is None:  # noqa: ASYNC110  a lease tells nobody that it was taken
                await asyncio.sleep(0.01)
            (hasty,) = await measure(probe_of(**settings, busy_wait_s=0), server.port)
            holder = served.holder
            (patient,) = await measure(probe_of(**settings, busy_wait_s=20), server.port)
            return hasty, holder, (await first)[0], patient
        finally:
            await server.stop()

    hasty, holder, first, patient = asyncio.run(asyncio.wait_for(run(), 60))
    assert "busy" in (hasty.error or "")
    assert holder == "a test from 127.0.0.1"
    assert (first.error, patient.error) == (None, None)


def test_two_hosts_that_test_each_other_at_once_both_come_through() -> None:
    """Each holds its own lease and wants the other's: both give way, and one after the other has its turn."""

    async def run() -> list[ThroughputResult]:
        leases = Lease(), Lease()
        servers = [BuiltinServer("127.0.0.1", 0, lease=lease) for lease in leases]
        for server in servers:
            await server.start()
        settings = {"tool": "builtin", "direction": "up", "duration_s": 0.2, "max_bytes": 10**9, "load_rtt": False, "busy_wait_s": 20}
        probes = [probe_of(lease, **settings) for lease in leases]
        made = await asyncio.gather(measure(probes[0], servers[1].port), measure(probes[1], servers[0].port))
        for server in servers:
            await server.stop()
        return [one for some in made for one in some]

    assert [one.error for one in asyncio.run(run())] == [None, None]


def test_a_client_that_dies_frees_the_server() -> None:
    """Greeted, granted and gone: the next test is served at once."""

    async def run() -> ThroughputResult:
        async with serving() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(bulk.Hello(direction="down", duration_ms=60_000, max_bytes=10**9, lease=b"ghost!").encode())
            await reader.readexactly(1)
            writer.transport.abort()
            (one,) = await measure(probe_of(tool="builtin", direction="up", max_bytes=100_000, busy_wait_s=5), server.port)
            return one

    assert asyncio.run(run()).error is None


def test_a_spent_budget_skips_the_test_and_says_so(tmp_path: Path) -> None:
    """Two full tests fit into the day, the third is skipped; after a restart it still is; another cloud is not concerned."""
    settings = {"tool": "builtin", "direction": "up", "max_bytes": 1_000_000, "load_rtt": False}
    settings |= {"bytes_per_day": {"aws": 2_500_000}, "budget_file": str(tmp_path / "spent.json")}

    async def run() -> tuple[list[ThroughputResult], ThroughputResult, ThroughputResult]:
        async with serving() as server:
            made = await measure(probe_of(**settings), server.port, site="aws:us-east-1", rounds=3)
            (after,) = await measure(probe_of(**settings), server.port, site="aws:eu-west-1")
            (other,) = await measure(probe_of(**settings), server.port, site="fra")
            return made, after, other

    made, after, other = asyncio.run(run())
    assert [(one.stop_reason, one.failure_source) for one in made] == [("bytes", None), ("bytes", None), ("skipped", None)]
    assert "byte budget of aws" in (made[2].error or "")
    assert "2,000,000 of 2,500,000" in (made[2].error or "")
    assert after.stop_reason == "skipped"
    assert (other.stop_reason, other.error) == ("bytes", None)


def test_failures_name_their_source(monkeypatch: pytest.MonkeyPatch, unused_port: int) -> None:
    """Nobody there, no such name, a server that hangs, one that speaks nonsense: four results, no exception."""
    monkeypatch.setattr(bulk, "_CONNECT_TIMEOUT_S", 0.4)
    monkeypatch.setattr(bulk, "_MARGIN_S", 0.2)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n" * 9)
        await hang(reader, writer)

    async def run() -> list[ThroughputResult]:
        made = []
        settings = {"tool": "builtin", "direction": "up", "load_rtt": False, "duration_s": 0.2}
        made += await measure(probe_of(**settings), unused_port)
        made += await measure(probe_of(**settings), unused_port, address="no-such-host.invalid")
        for answer in (hang, nonsense):
            async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
                made += await measure(probe_of(**settings), listening.sockets[0].getsockname()[1])
        return made

    dead, nameless, hanging, foreign = asyncio.run(run())
    assert [one.failure_source for one in (dead, nameless, foreign)] == ["target", "resolver", "target"]
    assert {one.stop_reason for one in (dead, nameless, hanging, foreign)} == {"error"}
    assert "refused" in (dead.error or "")
    assert hanging.error is not None
    assert "no throughput server" in (foreign.error or "")


@pytest.mark.parametrize(
    ("says", "error", "source"),
    [
        ('{"start": {"test_start": {"protocol": "TCP"}}, "end": {"sum_rec', "cut short", "target"),
        ("Segmentation fault", "no JSON", "target"),
        ('{"start": {}, "error": "error - unable to connect to server: Connection timed out"}', "timed out", "path"),
        ('{"start": {}, "error": "error - the server is busy running a test. try again later"}', "busy", "target"),
    ],
)
def test_what_iperf3_says_becomes_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, error: str, source: str) -> None:
    """Truncated JSON, none at all, a path that times out and a busy server, from a tool that says just that."""
    tool = tmp_path / "iperf3"
    tool.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] && echo 'iperf 3.12' || printf '%s' '{says}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (one,) = asyncio.run(measure(probe_of(tool="iperf3", direction="up", busy_wait_s=0, load_rtt=False), 1))
    assert (one.stop_reason, one.failure_source, one.throughput_bps) == ("error", source, None)
    assert error in (one.error or "")
