"""What goes wrong around ping is recorded as what it is, and the engine goes on: real packets on loopback and in namespaces."""

import asyncio
import json
import socket
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from probes_ping_lab import chain, run, why_not

from probes.ping import IcmpEngine, PingConfig, PingProbe, UdpEchoEngine, UdpEchoReflector, clock
from probes.ping.failure import source_of
from records.errors import ConfigError, NotPermitted

pytestmark = [pytest.mark.alone, pytest.mark.waits]

MS = 1_000_000
NO_SUCH_NAME = f"{'x' * 70}.invalid"


async def opened(engine):
    try:
        await engine.open()
    except NotPermitted as denied:
        pytest.skip(str(denied))
    return engine


def test_whose_failure_it_was_goes_with_every_lost_packet():
    """A name that does not exist is the resolver's; a send that this host refuses is its own; a closed port is the target's word."""

    async def work():
        icmp, udp = await opened(IcmpEngine()), await opened(UdpEchoEngine())
        reflector = UdpEchoReflector("127.0.0.1")
        await reflector.start()
        closed = f"127.0.0.1:{reflector.port}"
        await reflector.stop()
        how = {"count": 2, "interval_ns": MS, "timeout_ns": 300 * MS, "payload_bytes": 56}
        try:
            return await asyncio.gather(icmp.ping(NO_SUCH_NAME, **how), icmp.ping("255.255.255.255", **how), udp.ping(closed, **how))
        finally:
            await icmp.close()
            await udp.close()

    unresolved, refused, closed = asyncio.run(work())
    assert {(s.outcome, s.failure_source) for s in unresolved} == {("send_failed", "resolver")}
    assert {(s.outcome, s.failure_source) for s in refused} == {("send_failed", "agent")}
    assert {(s.outcome, s.failure_source) for s in closed} == {("unreachable", "target")}


@pytest.mark.parametrize(
    ("said", "source"),
    [
        ({"outcome": "reply"}, None),
        ({"outcome": "timeout"}, "path"),
        ({"outcome": "timeout", "error": "ENOBUFS"}, "agent"),
        ({"outcome": "send_failed", "error": "ENETUNREACH"}, "agent"),
        ({"outcome": "send_failed", "error": "EAI_NONAME"}, "resolver"),
        ({"outcome": "send_failed", "error": "EAI_MEMORY"}, "agent"),
        # Host unreachable from a router, port unreachable from behind an address translator, and the target's own words.
        ({"outcome": "unreachable", "icmp": (3, 1), "responder": "192.0.2.1", "host": "198.51.100.9"}, "path"),
        ({"outcome": "unreachable", "icmp": (3, 3), "responder": "192.0.2.1", "host": "198.51.100.9"}, "target"),
        ({"outcome": "unreachable", "icmp": (3, 13), "responder": "198.51.100.9", "host": "198.51.100.9"}, "target"),
        ({"outcome": "unreachable", "icmp": (1, 4), "responder": None, "host": "2001:db8::9"}, "target"),
        ({"outcome": "unreachable", "icmp": (3, 0), "responder": "2001:db8::1", "host": "2001:db8::9"}, "path"),
    ],
)
def test_failure_sources(said, source):
    """By outcome, errno and what RFC 792 and RFC 4443 say who sends which error."""
    assert source_of(**said) == source


def test_replies_that_this_host_dropped_are_its_own_failure():
    """A receive buffer for a handful of packets and 200 replies at once: the lost ones are ENOBUFS, the agent's."""

    async def work():
        engine = await opened(IcmpEngine(packets_per_s=100_000))
        try:
            engine._sockets[4].socket.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least
            how = {"count": 1, "interval_ns": MS, "timeout_ns": 200 * MS, "payload_bytes": 56}
            return await asyncio.gather(*(engine.ping(f"127.3.0.{n + 1}", **how) for n in range(200)))
        finally:
            await engine.close()

    seen = Counter((s.outcome, s.error, s.failure_source) for (s,) in asyncio.run(work()))
    assert set(seen) == {("reply", None, None), ("timeout", "ENOBUFS", "agent")}


def test_a_stepped_clock_reaches_no_rtt(monkeypatch):
    """The wall clock jumps an hour while packets are under way (40 ms each): every RTT stays what it was, timed by the steady clock."""
    ahead_ns = 0
    steady = SimpleNamespace(monotonic_ns=time.monotonic_ns, time_ns=lambda: time.time_ns() + ahead_ns)
    monkeypatch.setattr(clock, "time", steady)

    async def work():
        nonlocal ahead_ns
        reflector = UdpEchoReflector("127.0.0.1", delay_ns=lambda _host, _port: 40 * MS)
        await reflector.start()
        engine = await opened(UdpEchoEngine())
        try:
            how = {"count": 20, "interval_ns": 10 * MS, "timeout_ns": 2000 * MS, "payload_bytes": 56}
            task = asyncio.create_task(engine.ping(f"127.0.0.1:{reflector.port}", **how))
            await asyncio.sleep(0.1)
            ahead_ns = 3_600_000 * MS
            return await task
        finally:
            await engine.close()
            await reflector.stop()

    samples = asyncio.run(work())
    assert {s.outcome for s in samples} == {"reply"}
    assert all(40 * MS <= s.rtt_ns < 1000 * MS for s in samples)
    assert "user" in {s.ts_source for s in samples}


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"flows": 0}, "ping.flows is 0; give a number from 1 to 256"), ({"flows": 3, "engine": "udp"}, "ping.engine 'udp' has one flow")],
)
def test_flows_that_cannot_be_are_refused(settings, message):
    """What, value, what is allowed."""
    with pytest.raises(ConfigError, match=message):
        PingProbe(PingConfig(**settings))


@pytest.fixture(scope="module")
def pair():
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with chain(0) as made:
        yield made


DOWN = """
import asyncio, dataclasses, json, subprocess, sys
from probes.ping import IcmpEngine
async def main():
    engine = IcmpEngine()
    await engine.open()
    how = {"interval_ns": 20_000_000, "timeout_ns": 300_000_000, "payload_bytes": 56}
    task = asyncio.create_task(engine.ping("10.98.0.1", count=30, **how))
    await asyncio.sleep(0.2)
    subprocess.run(["ip", "link", "set", "d0", "down"], check=True)
    await task
    subprocess.run("ip link set d0 up; ip route add 10.98.0.0/15 via 10.97.0.2", shell=True, check=True)
    for _ in range(50):  # until the neighbour answers again
        again = await engine.ping("10.98.0.1", count=1, **how)
        if again[0].outcome == "reply":
            break
    await engine.close()
    print(json.dumps([[dataclasses.asdict(sample) for sample in samples] for samples in (task.result(), again)]))
asyncio.run(main())
"""


@pytest.mark.lab
def test_an_interface_that_goes_down_in_the_middle_is_this_hosts_failure(pair):
    """Answered before, send_failed of the agent after; and when it is up again the same engine is answered again."""
    during, after = pair.python(pair.src, DOWN)
    assert during[0]["outcome"] == "reply"
    assert (during[-1]["outcome"], during[-1]["failure_source"]) == ("send_failed", "agent")
    assert during[-1]["error"] in {"ENETUNREACH", "ENETDOWN"}
    assert {s["outcome"] for s in during} <= {"reply", "timeout", "send_failed"}
    assert after[0]["outcome"] == "reply"


# Answers every echo request five times: cut short, with another token, from another address, as it should be, and that again;
# before the first, a flood of replies that answer nothing.
FORGER = """
import json, socket, struct, sys
from probes.ping.wire import checksum
FLOOD, COUNT = int(sys.argv[1]), int(sys.argv[2])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
other = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.bind(("10.98.0.1", 0)); other.bind(("10.98.0.2", 0))
raw.settimeout(20)
def reply(message):
    body = b"\\0\\0\\0\\0" + message[4:]
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]
print("ready", flush=True)
seen = 0
while seen < COUNT:
    packet, (source, _) = raw.recvfrom(2048)
    message = packet[20:]
    if message[0] != 8:
        continue
    if not seen:
        junk = reply(message[:8] + bytes(8) + message[16:])
        for _ in range(FLOOD):
            raw.sendto(junk, (source, 0))
    seen += 1
    raw.sendto(reply(message[:12]), (source, 0))
    raw.sendto(reply(message[:8] + bytes([message[8] ^ 1]) + message[9:]), (source, 0))
    other.sendto(reply(message), (source, 0))
    raw.sendto(reply(message), (source, 0))
    raw.sendto(reply(message), (source, 0))
"""

FLOODED = """
import asyncio, dataclasses, json, subprocess, sys
from probes.ping import IcmpEngine
async def main():
    engine = IcmpEngine(sys.argv[1])
    await engine.open()
    forger = subprocess.Popen(["ip", "netns", "exec", sys.argv[2], sys.executable, "-c", sys.argv[3], "5000", "5"], stdout=subprocess.PIPE)
    forger.stdout.readline()
    samples = await engine.ping("10.98.0.1", count=5, interval_ns=50_000_000, timeout_ns=5_000_000_000, payload_bytes=56)
    await asyncio.sleep(0.3)  # for what comes after the last reply
    await engine.ping("10.98.0.1", count=1, interval_ns=1, timeout_ns=10_000_000, payload_bytes=56)
    forger.wait(20)
    print(json.dumps([[dataclasses.asdict(sample) for sample in samples], dataclasses.asdict(engine.counters)]))
    await engine.close()
asyncio.run(main())
"""


@pytest.mark.lab
@pytest.mark.parametrize("mode", ["raw", "dgram"])
def test_floods_forgeries_and_stumps_are_counted_as_foreign(pair, mode):
    """5,000 replies that answer nothing, and for each request one cut short, one with a wrong token, one from a wrong address: none is
    taken for a reply, the true one is, and its copy is a duplicate."""
    pair.allow_ping_sockets(pair.src)
    pair.sh(pair.dst, "sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
    samples, counters = pair.python(pair.src, FLOODED, mode, pair.dst, FORGER)
    pair.sh(pair.dst, "sysctl -qw net.ipv4.icmp_echo_ignore_all=0")
    assert [s["outcome"] for s in samples] == ["reply"] * 5
    assert all(s["duplicates"] <= 1 for s in samples)
    assert (counters["replies"], counters["duplicates"]) == (5, 5)
    assert counters["foreign"] == 5_000 + 3 * 5


LINK_LOCAL = """
import asyncio, json, sys
from probes.ping import IcmpEngine
async def main():
    engine = IcmpEngine(sys.argv[1])
    await engine.open()
    samples = await engine.ping(sys.argv[2], count=3, interval_ns=10_000_000, timeout_ns=2_000_000_000, payload_bytes=56)
    await engine.close()
    print(json.dumps([[sample.outcome, sample.ts_source] for sample in samples]))
asyncio.run(main())
"""


@pytest.mark.lab
@pytest.mark.parametrize("mode", ["raw", "dgram"])
def test_a_link_local_address_is_reached_through_its_interface(pair, mode):
    """fe80::...%d0, which means nothing without its interface."""
    pair.allow_ping_sockets(pair.src)
    shown = json.loads(run("ip", "-n", pair.dst, "-j", "-6", "addr", "show", "dev", "u0", "scope", "link"))
    address = next(one["local"] for device in shown for one in device.get("addr_info", []) if "local" in one)
    assert pair.python(pair.src, LINK_LOCAL, mode, f"{address}%d0") == [["reply", "kernel_txrx"]] * 3
