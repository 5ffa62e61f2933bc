"""STAMP with real packets over loopback: both modes, both versions of IP, wrong keys, forged and dead ends, and an agent of each kind."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from probes_collector import served

from app.commands.stamp import stamp, stamp_reflector
from probes.config import parse_config
from probes.daemon import Agent, Summary
from probes.model import Target, Vantage, new_boot_id
from probes.ping import departed
from probes.stamp import StampConfig, StampProbe, StampReflector, parse_networks, read_key, wire
from records.errors import ConfigError
from records.stamp import StampResult

pytestmark = [pytest.mark.alone, pytest.mark.waits]

KEY = "0123456789abcdef0123456789abcdef"


async def measure(port: int, address: str = "127.0.0.1", **settings: object) -> StampResult:
    probe = StampProbe(StampConfig(**{"count": 5, "interval_ms": 5, "timeout_ms": 500, **settings}))  # type: ignore[arg-type]
    await probe.open()
    try:
        (made,) = await probe.once(Target(site="fra", address=address, stamp_port=port), Vantage(agent="a", site="sin", boot=new_boot_id()))
    finally:
        await probe.close()
    assert isinstance(made, StampResult)
    return made


@asynccontextmanager
async def reflecting(host: str = "127.0.0.1", **settings: object) -> AsyncIterator[StampReflector]:
    reflector = StampReflector(host, 0, **settings)  # type: ignore[arg-type]
    await reflector.start()
    try:
        yield reflector
    finally:
        await reflector.stop()


@asynccontextmanager
async def scripted(answer: Callable[[bytes], list[bytes]]) -> AsyncIterator[int]:
    """A server that answers each datagram with what `answer` makes of it; its port."""
    loop = asyncio.get_running_loop()

    class Script(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            for one in answer(data):
                self.transport.sendto(one, addr)  # type: ignore[attr-defined]

    transport, _ = await loop.create_datagram_endpoint(Script, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def forge(packet: bytes, key: bytes | None = None, **change: int) -> bytes:
    """The reply that a reflector would give at once, with some fields changed."""
    asked = wire.decode_request(packet, key)
    assert asked is not None
    now = wire.to_timestamp(time.time_ns())
    fields = {"sequence": asked.sequence, "timestamp": now, "error_bits": 1, "ssid": asked.ssid, "receive_timestamp": now}
    fields |= {"sender_sequence": asked.sequence, "sender_timestamp": asked.timestamp, "sender_error_bits": asked.error_bits}
    return wire.encode_reply(wire.Reply(**{**fields, "sender_ttl": 64, **change}), packet, key)


def test_a_round_under_way_is_a_round_of_what_came() -> None:
    """Two of a thousand packets are answered, the third is swallowed: the round so far is a measurement of those two, where it went."""
    came = itertools.count()

    async def run() -> tuple[int, StampResult]:
        swallowed = asyncio.Event()

        def answer(packet: bytes) -> list[bytes]:
            if next(came) < 2:
                return [forge(packet)]
            swallowed.set()
            return []

        async with scripted(answer) as port:
            probe = StampProbe(StampConfig(count=1000, interval_ms=5, timeout_ms=60_000))
            assert list(probe.under_way()) == []
            await probe.open()
            target, vantage = Target(site="fra", address="127.0.0.1", stamp_port=port), Vantage(agent="a", site="sin", boot=new_boot_id())
            measuring = asyncio.ensure_future(probe.once(target, vantage))
            await asyncio.wait_for(swallowed.wait(), 10)
            while len(probe.under_way()[0].samples) < 2:  # noqa: ASYNC110  the engine tells nobody before the round is over
                await asyncio.sleep(0)
            (found,) = probe.under_way()
            measuring.cancel()
            await asyncio.gather(measuring, return_exceptions=True)
            assert list(probe.under_way()) == []
            made = found.result(target, vantage)  # what was given up meanwhile stays what it was
            await probe.close()
        assert isinstance(made, StampResult)
        assert found.host == "127.0.0.1"
        return port, made

    port, made = asyncio.run(run())
    assert [(sample.sequence, sample.outcome) for sample in made.samples] == [(0, "reply"), (1, "reply")]
    assert (made.dst, made.target, made.packet_bytes) == ("fra", f"127.0.0.1:{port}", 44)
    assert made.started_at_ns == made.samples[0].sent_at_ns
    assert (made.forward_lost, made.backward_lost, made.undirected_lost) == (0, 0, 0)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("is_authenticated", [False, True])
def test_a_round_is_answered_and_every_time_is_explained(address: str, is_authenticated: bool, tmp_path: Path) -> None:
    """All packets come back numbered; RTT is one-way delay there and back, and both clocks' error is stated; 300 octets each way."""
    (tmp_path / "key").write_text(KEY + "\n")
    key_file = str(tmp_path / "key") if is_authenticated else ""

    async def run() -> tuple[StampResult, StampReflector]:
        async with reflecting(address, key=KEY.encode() if is_authenticated else None, clock_error_ns=5_000) as reflector:
            made = await measure(reflector.port, address, key_file=key_file, packet_bytes=300, clock_error_us=7)
        return made, reflector

    made, reflector = asyncio.run(run())
    assert [sample.outcome for sample in made.samples] == ["reply"] * 5
    assert [sample.reflector_sequence for sample in made.samples] == [0, 1, 2, 3, 4]
    assert (made.forward_lost, made.backward_lost, made.undirected_lost) == (0, 0, 0)
    assert (made.mode, made.packet_bytes) == ("authenticated" if is_authenticated else "unauthenticated", 300)
    assert made.clock_error_ns is not None
    assert 12_000 <= made.clock_error_ns < 12_500  # stated in 8 bits, rounded up
    for sample in made.samples:
        assert sample.rtt_ns is not None
        assert sample.residence_ns is not None
        assert (sample.forward_ttl, sample.reply_ttl) == (64, 64)
        if sample.ts_source == "kernel_txrx":
            assert sample.forward_ns is not None
            assert sample.backward_ns is not None
            assert max(0, sample.forward_ns + sample.backward_ns) == sample.rtt_ns
    assert reflector.counts.answered == 5


def test_the_reflectors_residence_is_no_part_of_the_rtt() -> None:
    """A reflector whose program hangs for 600 ms keeps packets that long; the RTT of loopback stays far below that."""

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    reflector = StampReflector("127.0.0.1", 0)
    asyncio.run_coroutine_threadsafe(reflector.start(), loop).result(10)
    try:
        loop.call_soon_threadsafe(time.sleep, 0.6)
        samples = asyncio.run(measure(reflector.port, count=10, timeout_ms=2000)).samples
    finally:
        asyncio.run_coroutine_threadsafe(reflector.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
    kept = max(sample.residence_ns or 0 for sample in samples)
    slowest = max(sample.rtt_ns or 0 for sample in samples if sample.ts_source == "kernel_txrx")
    assert kept > 50_000_000
    assert slowest < kept / 4


def test_without_a_stated_clock_error_there_is_no_one_way_delay() -> None:
    """A reflector whose clock is not in step says so, and no delay is given by direction; the variation needs no clock."""

    async def run() -> StampResult:
        async with scripted(lambda packet: [forge(packet)]) as port:
            return await measure(port, clock_error_us=7)

    made = asyncio.run(run())
    assert made.clock_error_ns is None
    assert all(sample.outcome == "reply" and sample.forward_ns is None and sample.backward_ns is None for sample in made.samples)
    assert min(sample.forward_pdv_ns for sample in made.samples if sample.forward_pdv_ns is not None) == 0


def test_forged_doubled_and_stepped_answers_are_what_they_are(tmp_path: Path) -> None:
    """A wrong timestamp or number is foreign, a second copy a duplicate, an hour's residence is not believed, a wrong HMAC is counted."""
    (tmp_path / "key").write_text(KEY)

    async def run(answer: Callable[[bytes], list[bytes]], **settings: object) -> StampResult:
        async with scripted(answer) as port:
            return await measure(port, timeout_ms=150, **settings)

    stranger = asyncio.run(run(lambda packet: [forge(packet, sender_timestamp=1), forge(packet, sender_sequence=77), b"", b"x" * 44]))
    assert [sample.outcome for sample in stranger.samples] == ["timeout"] * 5
    assert (stranger.forward_lost, stranger.undirected_lost) == (None, 5)
    doubled = asyncio.run(run(lambda packet: [forge(packet)] * 2))
    assert [sample.duplicates for sample in doubled.samples] == [1] * 5
    hour = 3600 << 32
    stepped = asyncio.run(run(lambda packet: [forge(packet, receive_timestamp=wire.to_timestamp(time.time_ns()) - hour)]))
    assert all(sample.residence_ns is None and (sample.rtt_ns or 0) < 150_000_000 for sample in stepped.samples)
    assert {sample.outcome for sample in stepped.samples} == {"reply"}
    key_file = str(tmp_path / "key")
    wrong = asyncio.run(run(lambda packet: [forge(packet, KEY.encode())[:-1] + b"\0"], key_file=key_file))
    assert (wrong.unverified, {sample.outcome for sample in wrong.samples}) == (5, {"timeout"})


def test_a_reply_that_comes_long_after_its_time_out_is_late_and_stalls_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second packet's answer comes after 400 ms, when it was given up (100 ms) and forgotten (200 ms later); the round still runs.

    It is late, and tells that nothing was lost on the way: the reflector gave it the number 1.
    """
    monkeypatch.setattr(departed, "MEMORY_NS", 200_000_000)
    kept: list[tuple[float, bytes]] = []
    numbers = itertools.count()

    def answer(packet: bytes) -> list[bytes]:
        asked = wire.decode_request(packet)
        assert asked is not None
        # The number of the session, and one that is not the packet's own: it counts.
        reply = forge(packet, sequence=next(numbers) + 1000)
        if asked.sequence == 1:
            kept.append((time.monotonic() + 0.4, reply))
            return []
        due = [one for at, one in kept if at <= time.monotonic()]
        kept[:] = kept[len(due) :]
        return [reply, *due]

    async def run() -> StampResult:
        async with scripted(answer) as port:
            return await asyncio.wait_for(measure(port, count=40, interval_ms=25, timeout_ms=100), 20)

    made = asyncio.run(run())
    late = made.samples[1]
    assert (late.outcome, late.late, late.duplicates, late.rtt_ns, late.reflector_sequence) == ("timeout", True, 0, None, 1001)
    assert [sample.outcome for sample in made.samples if sample is not late] == ["reply"] * 39
    assert (made.forward_lost, made.backward_lost, made.undirected_lost) == (0, 0, 0)


def test_a_reflector_that_copies_our_numbers_tells_no_direction() -> None:
    """Stateless behind a way that loses every third packet: losses without a direction; one that counts proves it by its numbers."""

    async def run(**change: bool) -> StampResult:
        came = itertools.count()
        numbers = itertools.count()

        def answer(packet: bytes) -> list[bytes]:
            if next(came) % 3 == 1:
                return []
            return [forge(packet, sequence=next(numbers)) if change.get("counts") else forge(packet)]

        async with scripted(answer) as port:
            return await measure(port, count=10, timeout_ms=150)

    copies, counts = asyncio.run(run()), asyncio.run(run(counts=True))
    assert (copies.reflector, copies.forward_lost, copies.backward_lost, copies.undirected_lost) == (None, None, None, 3)
    assert (counts.reflector, counts.forward_lost, counts.backward_lost, counts.undirected_lost) == ("stateful", 3, 0, 0)


def test_whom_a_reflector_does_not_answer(tmp_path: Path) -> None:
    """No key, another key, not on the allow-list, more than the rate: no answer, and a count of why."""
    (tmp_path / "key").write_text("another key of sufficient length")

    async def run() -> None:
        async with reflecting(key=KEY.encode()) as reflector:
            for settings in ({}, {"key_file": str(tmp_path / "key")}):
                made = await measure(reflector.port, timeout_ms=100, **settings)
                assert {sample.outcome for sample in made.samples} == {"timeout"}
            assert (reflector.counts.too_short, reflector.counts.unverified) == (5, 5)
        async with reflecting(allowed=parse_networks(["192.0.2.0/24"])) as reflector:
            assert {sample.outcome for sample in (await measure(reflector.port, timeout_ms=100)).samples} == {"timeout"}
            assert reflector.counts.not_allowed == 5
        async with reflecting(packets_per_s=2) as reflector:
            made = await measure(reflector.port, timeout_ms=100, interval_ms=1)
            # A reflector that falls silent is loss on the way there as far as its numbers tell, or behind the last reply.
            assert reflector.counts.rate_limited == 5 - reflector.counts.answered >= 2
            assert (made.backward_lost or 0) == 0

    asyncio.run(run())


def test_dead_ends_are_results(unused_port: int) -> None:
    """Nobody listens, no such name: every packet says why, and nothing is raised."""
    dead = asyncio.run(measure(unused_port, timeout_ms=200))
    assert {(sample.outcome, sample.icmp_type, sample.responder) for sample in dead.samples} == {("unreachable", 3, "127.0.0.1")}
    assert (dead.forward_lost, dead.undirected_lost) == (None, 5)
    nowhere = asyncio.run(measure(unused_port, "no-such-host.invalid"))
    assert {sample.outcome for sample in nowhere.samples} == {"send_failed"}
    assert all((sample.error or "").startswith("EAI_") for sample in nowhere.samples)


def test_mistakes_are_explained(tmp_path: Path) -> None:
    """Settings, keys and ports: each says what to do."""
    for wrong in ({"count": 0}, {"interval_ms": float("nan")}, {"packet_bytes": 45}, {"reflector": "odd"}, {"clock_error_us": -1}):
        with pytest.raises(ConfigError, match=f"stamp {next(iter(wrong))} is"):
            StampConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="packet_bytes is 44; give 0, 112"):
        StampConfig(key_file="k", packet_bytes=44)
    (tmp_path / "short").write_text("abc\n")
    with pytest.raises(ConfigError, match="has 3 characters"):
        read_key(tmp_path / "short")
    with pytest.raises(ConfigError, match="openssl rand"):
        read_key(tmp_path / "none")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConfigError, match="choose a free port"):
            asyncio.run(StampReflector("127.0.0.1", taken.getsockname()[1]).start())


def test_agents_measure_each_other_and_the_collector_has_it_all(tmp_path: Path) -> None:
    """An agent with a reflector and a stamp probe: its rounds arrive whole; the sender's side of it is the warehouse's record."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "stamp.key").write_text(KEY)
    with served() as collector:
        text = (
            '[agent]\nid = "sin-1"\nsite = "sin"\nspool_dir = "spool"\nallow_private_targets = true\nstatus_interval_s = 1\n'
            f'[collector]\nurl = "{collector.url}"\nbatch_max_age_s = 0.3\n'
            f'[serve]\nhost = "127.0.0.1"\nstamp_port = {port}\nstamp_key_file = "stamp.key"\nstamp_allow = "127.0.0.0/8"\n'
            f'[[target]]\nsite = "fra"\naddress = "127.0.0.1"\nstamp_port = {port}\n'
            '[[probe]]\ntype = "stamp"\ninterval_s = 0.4\ncount = 4\ninterval_ms = 10\ntimeout_ms = 300\nkey_file = "stamp.key"\n'
        )
        config = parse_config(text, tmp_path / "agent.toml")

        async def go() -> Summary:
            stop = asyncio.Event()
            agent = asyncio.create_task(Agent(config, rng=random.Random(1)).run(stop))
            for _ in range(400):
                await asyncio.sleep(0.05)
                if agent.done() or any(line["type"] == "stamp" for line in collector.lines()):
                    break
            stop.set()
            return await agent

        summary = asyncio.run(go())
        rounds = [line for line in collector.lines() if line["type"] == "stamp"]
    assert len(rounds) == summary.produced["stamp"] >= 1
    assert {(line["src"], line["dst"], line["mode"], line["packet_bytes"]) for line in rounds} == {("sin", "fra", "authenticated", 112)}
    assert all(sample["outcome"] == "reply" for line in rounds for sample in line["samples"])


def test_the_two_commands(tmp_path: Path) -> None:
    """The reflector's JSON counts what the sender's JSON says; a port that is closed is exit status 1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    dead = CliRunner().invoke(stamp, ["127.0.0.1", "-p", port, "-c", "1", "--timeout", "200ms"])
    assert "unreachable" in dead.output
    assert type(dead.exception).__name__ == "NoAnswer"

    async def both() -> tuple[str, str]:
        argv = ["--host", "127.0.0.1", "-p", port, "--json", "--clock-error-us", "3"]
        here = [sys.executable, "-m", "app.cli"]
        pipe = asyncio.subprocess.PIPE
        one = await asyncio.create_subprocess_exec(*here, "stamp-reflector", *argv, stdout=pipe, stderr=pipe)
        assert one.stderr is not None
        assert b"ready" in await asyncio.wait_for(one.stderr.readline(), 30)
        other = await asyncio.create_subprocess_exec(
            *here, "stamp", "127.0.0.1", "-p", port, "-c", "6", "-i", "10ms", "--clock-error-us", "2", "--json", stdout=pipe
        )
        said, _ = await asyncio.wait_for(other.communicate(), 30)
        one.terminate()
        counted, _ = await asyncio.wait_for(one.communicate(), 30)
        return said.decode(), counted.decode()

    said, counted = asyncio.run(both())
    (one,) = json.loads(said)
    assert (one["summary"]["sent"], one["summary"]["received"], one["summary"]["forward_lost"]) == (6, 6, 0)
    assert one["summary"]["forward_ms"] is not None
    assert json.loads(counted)["packets"]["answered"] == 6
    assert "Example" in CliRunner().invoke(stamp_reflector, ["--help"]).output
