"""The loopback lab: delay as configured, without privilege; and the arithmetic behind it."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.loopback import LoopbackLab, pair_address, start
from lab.loopback_delay import DelayLine, OneWay, PreciseTimer
from lab.loopback_proxy import DelayingProxy
from lab.topology import builtin
from lab.truth import pair_truths
from lab.world import THROUGHPUT_PORT, UDP_ECHO_PORT, Lab
from probes.inference import InferenceConfig, InferenceProbe
from probes.model import ProbeType, Target, Vantage, new_boot_id
from probes.ping import PingConfig, PingProbe
from probes.throughput import ThroughputConfig, ThroughputProbe
from records.errors import UnknownSite
from records.measurement import InferenceResult, Measurement, PingResult, ThroughputResult

pytestmark = [pytest.mark.alone, pytest.mark.waits]

MS = 1_000_000


def way(delay_ns: int, *jitters_ns: int, rate_bps: int | None = None) -> OneWay:
    return OneWay(delay_ns=delay_ns, jitters_ns=jitters_ns, loss_ratio=0.0, rate_bps=rate_bps)


def test_a_rate_spaces_pieces_by_their_packets() -> None:
    """At 12 Mbit/s a full packet (1448 of 1500 bytes) takes 1 ms; pieces queue one behind the other, streams share."""
    path = way(10 * MS, rate_bps=12_000_000)
    first, second = DelayLine(path, random.random), DelayLine(path, random.random)
    assert [first.accept(0, 1448), first.accept(0, 2 * 1448), second.accept(0, 1448)] == [11 * MS, 13 * MS, 14 * MS]
    assert first.accept(100 * MS, 1448) == 111 * MS  # idle time is not saved up
    assert first.accept(100 * MS, 0) == 111 * MS  # an end of stream waits for what is before it


@given(
    st.lists(st.tuples(st.integers(0, 5 * MS), st.integers(0, 65536)), max_size=30),
    st.integers(0, 50 * MS),
    st.integers(0, 5 * MS),
    st.none() | st.integers(1000, 10**9),
    st.integers(),
)
def test_nothing_overtakes_and_nothing_is_early(
    pieces: list[tuple[int, int]], delay_ns: int, jitter_ns: int, rate_bps: int | None, seed: int
) -> None:
    """Whatever the jitter and the rate, pieces come out in order and never before the path's delay."""
    line = DelayLine(way(delay_ns, jitter_ns, rate_bps=rate_bps), random.Random(seed).random)
    now_ns, last_ns = 0, 0
    for gap_ns, size in pieces:
        now_ns += gap_ns
        due_ns = line.accept(now_ns, size)
        assert due_ns >= max(last_ns, now_ns + delay_ns)
        last_ns = due_ns


def test_jitter_has_its_configured_mean() -> None:
    """The waits of two links with means of 2 and 1 ms add up to a mean of 3 ms and a variance of 2^2 + 1^2."""
    path = way(0, 2 * MS, 1 * MS)
    chance = random.Random(7).random
    waits = [path.wait_ns(chance) / MS for _ in range(20_000)]
    assert statistics.fmean(waits) == pytest.approx(3.0, rel=0.05)  # 0.016 standard error: six of them are 0.1
    assert statistics.variance(waits) == pytest.approx(5.0, rel=0.15)


def test_timer_calls_in_order_and_survives_a_failing_callback() -> None:
    """Callbacks come at or after their time, in order; one that fails does not stop the others."""

    async def run() -> list[int]:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        timer = PreciseTimer()
        called: list[int] = []
        base_ns = time.monotonic_ns()
        for delay_ms in (30, 10, 20, 10):
            timer.at(base_ns + delay_ms * MS, lambda delay_ms=delay_ms: called.append(delay_ms))  # type: ignore[misc]
        timer.at(base_ns + 15 * MS, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        while len(called) < 4:
            await asyncio.sleep(0.005)
            assert not called or time.monotonic_ns() >= base_ns + called[-1] * MS
        timer.close()
        timer.close()
        return called

    assert asyncio.run(run()) == [10, 10, 20, 30]


@pytest.mark.parametrize("rate_bps", [None, 80_000_000])
def test_proxy_changes_no_byte_and_passes_ends_on(rate_bps: int | None) -> None:
    """What goes in comes out, both ways, half-closes included; a server that is gone ends the connection."""
    payload = os.urandom(3_000_000)

    async def run() -> tuple[bytes, bytes, bytes]:
        got = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(await reader.read())  # until the client's end of stream
            writer.write(payload[::-1])
            await writer.drain()
            writer.close()

        timer = PreciseTimer()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            place = listening.sockets[0].getsockname()[:2]
            path = way(2 * MS, MS, rate_bps=rate_bps)
            proxy = DelayingProxy("127.0.0.1", 0, place, path, way(2 * MS, rate_bps=rate_bps), timer, random.Random(1))
            await proxy.start()
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(payload)
            writer.write_eof()
            back = await reader.read()
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        rest = await reader.read()
        writer.close()
        await proxy.stop()
        timer.close()
        return await got, back, rest

    sent, back, rest = asyncio.run(run())
    assert sent == payload
    assert back == payload[::-1]
    assert rest == b""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackLab]:
    """The triangle world on loopback."""
    pytest.importorskip("xllamacpp", reason="the wheel xllamacpp is not installed")
    said: list[str] = []
    running = start(builtin("triangle"), tmp_path_factory.mktemp("loopback"), said.append)
    assert "no ICMP, no traceroute" in said[0]
    yield running
    running.stop()
    running.stop()


def measure(probe: ProbeType, lab: Lab, src: str, dst: str, medium: str = "internet") -> list[Measurement]:
    """What an agent at src would measure to dst."""
    address = lab.address(src, dst, medium)  # type: ignore[arg-type]
    assert address is not None
    aim = Target(
        site=dst,
        address=address,
        medium=medium,
        udp_echo_port=UDP_ECHO_PORT,
        throughput_port=THROUGHPUT_PORT,
        inference_url=lab.inference_url(src, dst, medium),
    )  # type: ignore[arg-type]

    async def run() -> list[Measurement]:
        await probe.open()
        try:
            return list(await probe.once(aim, Vantage(agent="t", site=src, boot=new_boot_id())))  # type: ignore[arg-type]
        finally:
            await probe.close()

    return asyncio.run(run())


def test_interface_follows_the_topology(lab: LoopbackLab) -> None:
    """Addresses, media, URLs and truth exist exactly where the topology joins two sites, each its own."""
    topology = lab.topology
    expected = {(truth.src, truth.dst, truth.medium): truth for truth in pair_truths(topology)}
    truths = {(truth.src, truth.dst, truth.medium): truth for truth in lab.truth()}
    assert truths.keys() == expected.keys()
    assert len({truth.address for truth in truths.values()}) == len(truths)
    for key, truth in truths.items():
        src, dst, medium = key
        assert lab.address(src, dst, medium) == truth.address
        assert medium in lab.media(src, dst)
        assert (truth.rtt_ns, truth.loss_ratio, truth.hops) == (expected[key].rtt_ns, expected[key].loss_ratio, ())
        assert (lab.inference_url(src, dst, medium) is not None) == topology.site(dst).serves
    assert lab.address("a", "aws:eu-west-2", "direct-connect") is None
    assert lab.address("a", "a") is None
    assert lab.command("a", ["id", "-u"]) == ["id", "-u"]
    with pytest.raises(UnknownSite, match="hub"):
        lab.address("a", "hubb")


@pytest.mark.parametrize(("src", "dst", "medium"), [("a", "b", "internet"), ("a", "hub", "backbone"), ("hub", "b", "internet")])
def test_echo_takes_the_configured_round_trip(lab: LoopbackLab, src: str, dst: str, medium: str) -> None:
    """The least RTT of a few echoes is the configured one: never below it, and near it."""
    (result,) = measure(PingProbe(PingConfig(engine="udp", count=8, interval_ms=20)), lab, src, dst, medium)
    assert isinstance(result, PingResult)
    truth = next(t for t in lab.truth() if (t.src, t.dst, t.medium) == (src, dst, medium))
    rtts = [sample.rtt_ns for sample in result.samples if sample.rtt_ns is not None]
    assert rtts
    assert truth.rtt_ns - 50_000 <= min(rtts) <= truth.rtt_ns + 10 * MS


def test_loss_is_the_paths(tmp_path: Path, lab: LoopbackLab) -> None:
    """Of 600 echoes over 1 % loss each way (2 % in all), about 12 are lost: between 1 and 30 in all but one run of 10,000."""
    (result,) = measure(PingProbe(PingConfig(engine="udp", count=600, interval_ms=1, timeout_ms=1000)), lab, "hub", "b")
    assert isinstance(result, PingResult)
    sent = len(result.samples)
    lost = sum(sample.outcome == "timeout" for sample in result.samples)
    assert sent == 600
    assert 1 <= lost <= 30


def test_first_token_is_as_far_away_as_the_path(lab: LoopbackLab) -> None:
    """TTFT to a real server holds the way there and back; every token arrives, streamed."""
    (result,) = measure(InferenceProbe(InferenceConfig(max_tokens=24)), lab, "b", "hub")
    assert isinstance(result, InferenceResult)
    assert (result.outcome, result.output_tokens) == ("ok", 24)
    assert result.ttft_ns is not None
    truth = next(t for t in lab.truth() if (t.src, t.dst, t.medium) == ("b", "hub", "internet"))
    assert truth.rtt_ns <= result.ttft_ns < truth.rtt_ns + 1000 * MS


def test_throughput_is_the_narrowest_link(lab: LoopbackLab) -> None:
    """Over 100 Mbit/s both directions read the payload's share of it, with whichever tool is installed."""
    results = measure(ThroughputProbe(ThroughputConfig(duration_s=0.5, max_bytes=20_000_000)), lab, "a", "hub")
    for result in results:
        assert isinstance(result, ThroughputResult)
        assert (result.tool, result.error) == ("builtin", None)
        assert result.throughput_bps is not None
        assert 0.6 < result.throughput_bps / (100e6 * 1448 / 1500) < 1.15


def test_two_labs_live_side_by_side_and_leave_nothing(lab: LoopbackLab, tmp_path: Path) -> None:
    """A second lab takes other addresses; after stop nothing listens on them and its processes are gone."""
    other = start(builtin("triangle"), tmp_path, lambda _line: None, serving=False)
    try:
        address = other.address("a", "b")
        assert address is not None
        assert address != lab.address("a", "b")
        assert other.inference_url("a", "hub") is None
        socket.create_connection((address, THROUGHPUT_PORT), timeout=5).close()
    finally:
        other.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((address, THROUGHPUT_PORT), timeout=5)


def test_lab_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    """The lab's process ends when the one that started it dies without saying anything."""
    code = (
        "import time; from pathlib import Path; from lab.loopback import start; from lab.topology import builtin\n"
        f"lab = start(builtin('triangle'), Path({str(tmp_path)!r}), lambda _: None, serving=False)\n"
        "print(lab.address('a', 'b'), flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert owner.stdout is not None
    with owner.stdout:
        address = owner.stdout.readline().strip()
        assert address
        socket.create_connection((address, THROUGHPUT_PORT), timeout=5).close()
        owner.kill()
        owner.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address, THROUGHPUT_PORT), timeout=5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    pytest.fail("the lab lives on without its owner")


@given(
    st.integers(1, 240),
    st.integers(1, 240),
    st.sampled_from(["internet", "backbone", "direct-connect"]),
    st.sampled_from(range(16, 240, 4)),
)
def test_addresses_are_loopback_and_apart(src: int, dst: int, medium: str, base: int) -> None:
    """Every pair's address is inside 127.0.0.0/8 and none of another lab's four second octets."""
    octets = [int(part) for part in pair_address(base, src, dst, medium).split(".")]  # type: ignore[arg-type]
    assert octets[0] == 127
    assert base < octets[1] < base + 4
    assert octets[2:] == [src, dst]
