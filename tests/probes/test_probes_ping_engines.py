"""The ping engines on this machine's loopback: real packets, real kernel stamps. Nothing leaves the machine."""

import asyncio
import statistics
import time
from collections import Counter

import pytest

from probes.model import Target, Vantage
from probes.ping import IcmpEngine, IcmplibEngine, PingConfig, PingProbe, UdpEchoEngine, UdpEchoReflector, open_best
from probes.ping.udp import split_host_port
from records.batch import encode_line
from records.errors import ConfigError, NotPermitted
from records.measurement import PingResult

pytestmark = [pytest.mark.alone, pytest.mark.waits]

MS = 1_000_000
#: Refused before any resolver is asked: a label has at most 63 octets (RFC 1035).
NO_SUCH_NAME = f"{'x' * 70}.invalid"
VANTAGE = Vantage(agent="test-agent", site="here", boot="00ff")


async def opened(engine):
    try:
        await engine.open()
    except NotPermitted as denied:
        pytest.skip(str(denied))
    return engine


async def closing(engine, work):
    await opened(engine)
    try:
        return await work(engine)
    finally:
        await engine.close()


def ping(engine, *addresses, count=5, interval_ns=5 * MS, timeout_ns=1000 * MS, payload_bytes=56):
    """Ping all addresses at once; the samples of each."""

    async def work(ready):
        return await asyncio.gather(
            *(
                ready.ping(address, count=count, interval_ns=interval_ns, timeout_ns=timeout_ns, payload_bytes=payload_bytes)
                for address in addresses
            )
        )

    return asyncio.run(closing(engine, work))


@pytest.mark.parametrize("mode", ["dgram", "raw"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_loopback_answers_with_kernel_stamps(mode, address):
    """Every packet is answered, timed by the kernel on both ends, in well under 50 ms, with the loopback's TTL of 64."""
    (samples,) = ping(IcmpEngine(mode), address)
    assert [sample.sequence for sample in samples] == list(range(5))
    assert {(sample.outcome, sample.ts_source, sample.reply_ttl) for sample in samples} == {("reply", "kernel_txrx", 64)}
    assert all(0 < sample.rtt_ns < 50 * MS for sample in samples)
    assert all(sample.sched_lag_ns is not None and sample.duplicates == 0 and not sample.late for sample in samples)


def test_three_hundred_targets_share_one_socket():
    """300 loopback addresses at once, 4 packets each: nobody's reply is lost or taken for another's."""
    engine = IcmpEngine()
    addresses = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(300)]
    rounds = ping(engine, *addresses, count=4, interval_ns=50 * MS)
    samples = [sample for samples in rounds for sample in samples]
    assert Counter((sample.outcome, sample.ts_source) for sample in samples) == {("reply", "kernel_txrx"): 1200}
    assert statistics.median(sample.rtt_ns for sample in samples) < 5 * MS
    assert (engine.counters.sent, engine.counters.replies, engine.counters.foreign) == (1200, 1200, 0)


def test_rtt_does_not_grow_with_a_busy_loop():
    """Another task blocks the loop for 30 ms again and again: the kernel's stamps do not see it."""

    async def work(engine):
        async def hog():
            while True:
                time.sleep(0.03)  # noqa: ASYNC251 (blocking the loop is the point)
                await asyncio.sleep(0.001)

        blocker = asyncio.create_task(hog())
        try:
            return await engine.ping("127.0.0.1", count=20, interval_ns=10 * MS, timeout_ns=1000 * MS, payload_bytes=56)
        finally:
            blocker.cancel()

    samples = asyncio.run(closing(IcmpEngine(), work))
    assert {sample.ts_source for sample in samples} == {"kernel_txrx"}
    assert statistics.median(sample.rtt_ns for sample in samples) < 5 * MS
    assert max(sample.sched_lag_ns for sample in samples) > 5 * MS, "and yet the lateness is on record"


@pytest.mark.parametrize("payload_bytes", [1, 10, 17, 1400, 8000])
def test_payload_of_any_size(payload_bytes):
    """Odd, tiny (the token makes it 10) and fragmented payloads come back."""
    (samples,) = ping(IcmpEngine(), "127.0.0.1", count=2, payload_bytes=payload_bytes)
    assert {sample.outcome for sample in samples} == {"reply"}


def test_a_name_that_does_not_exist_is_a_result():
    """No such host: every packet send_failed with the resolver's error, no exception."""
    (samples,) = ping(IcmpEngine(), NO_SUCH_NAME, count=2)
    assert {sample.outcome for sample in samples} == {"send_failed"}
    assert all(sample.error.startswith("EAI_") for sample in samples)


def test_an_address_the_kernel_refuses_is_a_result():
    """Broadcast without permission: EACCES by name, no RTT, the engine goes on."""

    async def work(engine):
        bad = await engine.ping("255.255.255.255", count=2, interval_ns=MS, timeout_ns=50 * MS, payload_bytes=56)
        good = await engine.ping("127.0.0.1", count=2, interval_ns=MS, timeout_ns=500 * MS, payload_bytes=56)
        return bad, good

    bad, good = asyncio.run(closing(IcmpEngine(), work))
    assert {(sample.outcome, sample.rtt_ns) for sample in bad} == {("send_failed", None)}
    assert {sample.error for sample in bad} <= {"EACCES", "ENETUNREACH"}
    assert {(sample.outcome, sample.ts_source) for sample in good} == {("reply", "kernel_txrx")}, "stamps stay matched after a failed send"


def test_closing_ends_what_is_in_flight():
    """Whoever waits when the engine closes gets samples, not a hang."""

    async def work():
        reflector = UdpEchoReflector("127.0.0.1", delay_ns=lambda _host, _port: None)
        await reflector.start()
        engine = await opened(UdpEchoEngine())
        task = asyncio.create_task(
            engine.ping(f"127.0.0.1:{reflector.port}", count=2, interval_ns=10_000 * MS, timeout_ns=60_000 * MS, payload_bytes=56)
        )
        await asyncio.sleep(0.05)
        await engine.close()
        await reflector.stop()
        return await asyncio.wait_for(task, 2)

    assert [sample.outcome for sample in asyncio.run(work())] == ["timeout", "send_failed"]


def test_cancelling_a_ping_leaves_the_engine_usable():
    """A cancelled round sends nothing more and disturbs no other."""

    async def work(engine):
        task = asyncio.create_task(engine.ping("127.0.0.1", count=100, interval_ns=20 * MS, timeout_ns=500 * MS, payload_bytes=56))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sent = engine.counters.sent
        other = await engine.ping("127.0.0.1", count=3, interval_ns=20 * MS, timeout_ns=500 * MS, payload_bytes=56)
        return engine.counters.sent - sent, other

    sent, other = asyncio.run(closing(IcmpEngine(), work))
    assert sent == 3
    assert {sample.outcome for sample in other} == {"reply"}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_udp_reflector_answers_and_holds_as_told(host):
    """A reflector that holds packets for 20 ms is 20 ms away; one that does not is not."""

    async def work():
        near, far = UdpEchoReflector(host), UdpEchoReflector(host, delay_ns=lambda _host, _port: 20 * MS)
        engine = await opened(UdpEchoEngine())
        await near.start()
        await far.start()
        try:
            name = f"[{host}]" if ":" in host else host
            asks = (f"{name}:{reflector.port}" for reflector in (near, far))
            return await asyncio.gather(
                *(engine.ping(ask, count=5, interval_ns=10 * MS, timeout_ns=1000 * MS, payload_bytes=64) for ask in asks)
            )
        finally:
            await engine.close()
            await near.stop()
            await far.stop()

    near, far = asyncio.run(work())
    assert {(sample.outcome, sample.ts_source) for sample in near + far} == {("reply", "kernel_txrx")}
    assert statistics.median(sample.rtt_ns for sample in near) < 20 * MS
    assert all(sample.rtt_ns >= 20 * MS for sample in far)
    assert statistics.median(sample.rtt_ns for sample in far) < 70 * MS


def test_udp_to_a_closed_port_is_unreachable():
    """Port unreachable (RFC 792 type 3 code 3), from the target itself; the next send is not hurt by it."""

    async def work():
        reflector = UdpEchoReflector("127.0.0.1")
        await reflector.start()
        port = reflector.port
        await reflector.stop()
        return await closing(
            UdpEchoEngine(),
            lambda engine: engine.ping(f"127.0.0.1:{port}", count=3, interval_ns=5 * MS, timeout_ns=500 * MS, payload_bytes=56),
        )

    samples = asyncio.run(work())
    assert {(s.outcome, s.icmp_type, s.icmp_code, s.responder) for s in samples} == {("unreachable", 3, 3, "127.0.0.1")}


def test_reflector_says_what_to_do_when_its_port_is_taken():
    """A port in use is the user's mistake, with the port in the message."""

    async def work():
        first = UdpEchoReflector("127.0.0.1")
        await first.start()
        try:
            with pytest.raises(ConfigError, match=rf"port {first.port}.*choose a free port"):
                await UdpEchoReflector("127.0.0.1", first.port).start()
        finally:
            await first.stop()

    asyncio.run(work())


def test_icmplib_stands_behind_the_same_interface():
    """The portable engine gives the same kind of samples, marked as timed by the user's clock."""
    (v4, v6, nowhere) = ping(IcmplibEngine(), "127.0.0.1", "::1", NO_SUCH_NAME, count=3)
    assert {(sample.outcome, sample.ts_source) for sample in v4 + v6} == {("reply", "user")}
    assert {sample.outcome for sample in nowhere} == {"send_failed"}


def test_icmplib_runs_at_most_fifty_at_once():
    """120 targets at once are all answered; more than 50 sockets at a time are never open."""
    rounds = ping(IcmplibEngine(), *(f"127.2.0.{number + 1}" for number in range(120)), count=1)
    assert Counter(sample.outcome for samples in rounds for sample in samples)["reply"] == 120


def test_open_best_takes_ours_and_says_why():
    """Automatic choice is our own engine where it runs; the name of the other is honoured; a wrong one is refused."""

    async def work():
        try:
            best = await open_best()
        except NotPermitted as denied:
            pytest.skip(str(denied))
        other = await open_best("icmplib")
        await best.close()
        await other.close()
        with pytest.raises(ConfigError, match="no ping engine 'fping'; choose one of auto, icmp"):
            await open_best("fping")
        return best, other

    best, other = asyncio.run(work())
    assert (best.name, best.method, other.name) == ("isochrone-icmp/1", "icmp", "icmplib/3.0.4")
    assert "kernel timestamps" in best.why


def test_probe_type_gives_one_result_that_encodes():
    """`once` returns a PingResult with the target's site, the engine's name and the samples; it goes on the wire."""

    async def work(probe):
        return await probe.once(Target(site="there", address="127.0.0.1", medium="backbone"), VANTAGE)

    (result,) = asyncio.run(closing(PingProbe(PingConfig(count=3, interval_ms=5)), work))
    assert isinstance(result, PingResult)
    assert (result.src, result.dst, result.medium, result.target, result.id) == ("here", "there", "backbone", "127.0.0.1", "00ff-0")
    assert (result.method, result.timeout_ns, result.payload_bytes, len(result.samples)) == ("icmp", 2000 * MS, 56, 3)
    assert encode_line(result).endswith(b"}\n")


def test_udp_needs_a_reflector_at_the_target():
    """ping.engine udp and a target without one: the configuration is at fault, and the message says both ways out."""

    async def work(probe):
        with pytest.raises(ConfigError, match="'there' has no udp_echo_port"):
            await probe.once(Target(site="there", address="127.0.0.1"), VANTAGE)

    asyncio.run(closing(PingProbe(PingConfig(engine="udp")), work))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("engine", "fping"),
        ("count", 0),
        ("count", 2.5),
        ("count", True),
        ("interval_ms", 0),
        ("timeout_ms", 10**6),
        ("payload_bytes", 9),
        ("payload_bytes", "56"),
    ],
)
def test_bad_settings_are_refused_with_value_and_limits(setting, value):
    """What, value, what is allowed."""
    with pytest.raises(ConfigError, match=rf"ping\.{setting} is {value!r}; (give|choose)"):
        PingConfig(**{setting: value})


@pytest.mark.parametrize("address", ["192.0.2.1", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:0", "[::1]", "::1", "host:70000"])
def test_udp_address_without_a_port_is_refused(address):
    """The message shows how an address is written."""
    with pytest.raises(ConfigError, match="host:port"):
        split_host_port(address, None)
