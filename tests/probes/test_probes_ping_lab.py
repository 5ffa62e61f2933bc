"""The ping engines in a chain of namespaces, against a nanosecond capture on the prober's own interface."""

import ipaddress
import os
import signal
import statistics
import struct
import subprocess
import sys
import time
from collections import Counter

import pytest
from probes_ping_lab import ORDINARY_USER, ROOT, chain, run, why_not

pytestmark = [pytest.mark.lab, pytest.mark.waits]

PING = """
import asyncio, dataclasses, json, sys
from probes.ping import IcmpEngine, IcmplibEngine
async def main():
    kind, count, interval_ms, *addresses = sys.argv[1:]
    engine = IcmplibEngine() if kind == "icmplib" else IcmpEngine(None if kind == "auto" else kind)
    await engine.open()
    how = {"count": int(count), "interval_ns": int(interval_ms) * 1_000_000, "timeout_ns": 500_000_000, "payload_bytes": 56}
    rounds = await asyncio.gather(*(engine.ping(address, **how) for address in addresses))
    await engine.close()
    print(json.dumps([engine.why, [[dataclasses.asdict(sample) for sample in samples] for samples in rounds]]))
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def lab():
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with chain() as made:
        made.sh(made.names[2], "ip route replace unreachable 10.99.0.0/16; ip -6 route replace unreachable fd99::/64")
        yield made


@pytest.fixture(params=["raw", "ordinary user"])
def who(request, lab):
    """Root with raw sockets, or nobody, without a capability, with ping sockets."""
    lab.sh(lab.src, f"sysctl -qw net.ipv4.ping_group_range='{'1 0' if request.param == 'raw' else '0 100000'}'")
    return {"is_ordinary_user": request.param != "raw"}


def packets(path):
    """(stamp in ns, IPv4 packet) of every frame of a nanosecond pcap of an Ethernet interface."""
    data = path.read_bytes()
    assert struct.unpack_from("<I", data)[0] == 0xA1B23C4D, "the magic of a pcap with ns"
    offset = 24
    while offset + 16 <= len(data):
        seconds, nanoseconds, kept, _ = struct.unpack_from("<IIII", data, offset)
        if offset + 16 + kept > len(data):  # tcpdump has not written all of it yet
            return
        yield seconds * 10**9 + nanoseconds, data[offset + 16 + 14 : offset + 16 + kept]
        offset += 16 + kept


def captured(lab, path, work, packets_expected):
    """Do `work` under a capture of ICMP on src's interface; tcpdump is stopped by its own process id.

    The kernel hands captured packets over by the block, a second late at most: wait for what is expected.
    """
    command = [
        "ip",
        "netns",
        "exec",
        lab.src,
        "tcpdump",
        "-i",
        "d0",
        "--time-stamp-precision=nano",
        "-B",
        "8192",
        "-U",
        "-w",
        str(path),
        "icmp",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as dump:
        assert "listening" in dump.stderr.readline()
        try:
            return work()
        finally:
            deadline = time.monotonic() + 3
            while sum(1 for _ in packets(path)) < packets_expected and time.monotonic() < deadline:
                time.sleep(0.05)
            dump.send_signal(signal.SIGINT)
            dump.communicate(timeout=20)


def test_rtts_are_those_of_the_capture(lab, who, tmp_path):
    """The engine's RTTs against request and reply in the capture: the median differs by at most 20 us, nothing is lost."""
    if os.geteuid() == 0:
        tmp_path.chmod(0o777)
    targets = lab.targets_v4[:100]
    _, rounds = captured(lab, tmp_path / "src.pcap", lambda: lab.python(lab.src, PING, "auto", "10", "50", *targets, **who), 2_000)
    requests, replies = {}, {}
    for at_ns, packet in packets(tmp_path / "src.pcap"):
        if packet[20] == 8:
            requests.setdefault(str(ipaddress.ip_address(packet[16:20])), []).append((at_ns, packet[28:36], packet[22:24]))
        elif packet[20] == 0:
            replies[str(ipaddress.ip_address(packet[12:16])), packet[28:36]] = at_ns
    errors_ns = []
    for target, samples in zip(targets, rounds, strict=True):
        assert Counter((sample["outcome"], sample["ts_source"]) for sample in samples) == {("reply", "kernel_txrx"): 10}
        for sample in samples:
            sent_ns, token, _ = min(requests[target], key=lambda seen: abs(seen[0] - sample["sent_at_ns"]))
            if abs(sent_ns - sample["sent_at_ns"]) < 1_000_000 and (target, token) in replies:
                errors_ns.append(sample["rtt_ns"] - (replies[target, token] - sent_ns))
    assert len(errors_ns) > 900, "the capture may have dropped some, but not many"
    everything = [seen for sent in requests.values() for seen in sent]
    assert len({token for _, token, _ in everything}) == len(everything), "a token is used once"
    assert len({check for _, _, check in everything}) == 1, "one checksum, one path"
    assert abs(statistics.median(errors_ns)) < 20_000, f"ns: {sorted(errors_ns)}"


def test_ipv6_targets_answer_across_routers(lab, who):
    """The same over IPv6, with the reply's hop limit: 64 less three routers."""
    _, (samples,) = lab.python(lab.src, PING, "auto", "5", "5", lab.target_v6, **who)
    assert {(s["outcome"], s["ts_source"], s["reply_ttl"]) for s in samples} == {("reply", "kernel_txrx", 61)}


@pytest.mark.parametrize(("address", "responder", "icmp_type"), [("10.99.0.1", "10.97.1.2", 3), ("fd99::1", "fd97:1::2", 1)])
def test_unreachable_names_the_router_that_said_so(lab, who, address, responder, icmp_type):
    """The second router has no way there: unreachable, from its address. Linux limits such errors; the rest times out."""
    _, (samples,) = lab.python(lab.src, PING, "auto", "4", "5", address, **who)
    assert all(s["rtt_ns"] is None for s in samples)
    seen = {(s["outcome"], s["responder"], s["icmp_type"]) for s in samples}
    assert ("unreachable", responder, icmp_type) in seen
    assert seen <= {("unreachable", responder, icmp_type), ("timeout", None, None)}


def test_no_route_is_a_failed_send(lab, who):
    """The namespace has no default route: ENETUNREACH by name, and others are not disturbed."""
    _, (nowhere, fine) = lab.python(lab.src, PING, "auto", "4", "5", "203.0.113.1", lab.targets_v4[0], **who)
    assert {(s["outcome"], s["error"]) for s in nowhere} == {("send_failed", "ENETUNREACH")}
    assert {(s["outcome"], s["ts_source"]) for s in fine} == {("reply", "kernel_txrx")}


def test_errors_of_one_target_do_not_hurt_another(lab, who):
    """A pending ICMP error fails the next send on a ping socket; it is drained and the packet sent again."""
    for _ in range(5):
        _, (bad, good) = lab.python(lab.src, PING, "auto", "100", "1", "10.99.0.1", lab.targets_v4[0], **who)
        if any(s["outcome"] == "unreachable" for s in bad):
            break
        time.sleep(1.5)  # Linux sends a peer one such error a second (route.error_cost); a test before may have had it
    assert "unreachable" in {s["outcome"] for s in bad} <= {"unreachable", "timeout"}
    assert Counter(s["outcome"] for s in good) == {"reply": 100}


def test_many_targets_are_told_apart(lab, who):
    """400 addresses behind three routers at once."""
    why, rounds = lab.python(lab.src, PING, "auto", "2", "100", *lab.targets_v4[:400], **who)
    assert ("ping socket" if who["is_ordinary_user"] else "raw socket") in why
    assert Counter(s["outcome"] for samples in rounds for s in samples) == {"reply": 800}


def test_engine_tests_pass_for_an_ordinary_user():
    """All loopback tests again as nobody, without a capability, with ping sockets allowed: nothing but raw sockets is skipped."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with chain(0) as small:
        small.allow_ping_sockets(small.src)
        tests = ["tests/probes/test_probes_ping_engines.py", "tests/probes/test_probes_capabilities.py"]
        command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *tests]
        done = subprocess.run(
            ["ip", "netns", "exec", small.src, *ORDINARY_USER, *command], capture_output=True, text=True, timeout=100, check=False, cwd=ROOT
        )
    assert done.returncode == 0, done.stdout + done.stderr
    skips = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert all("may open no ICMP socket" in line for line in skips)
    assert " passed" in done.stdout


def test_without_any_right_the_message_says_what_to_grant():
    """Nobody, and ping sockets closed (the kernel's default): NotPermitted, naming the sysctl and the capability."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    script = """
import asyncio, json
from probes.ping import open_best
from records.errors import NotPermitted
try:
    asyncio.run(open_best())
except NotPermitted as denied:
    print(json.dumps([denied.exit_status, str(denied)]))
"""
    with chain(0) as small:
        run("ip", "netns", "exec", small.src, "sysctl", "-qw", "net.ipv4.ping_group_range=1 0")
        status, message = small.python(small.src, script, is_ordinary_user=True)
    assert status == 3
    assert "net.ipv4.ping_group_range" in message
    assert "CAP_NET_RAW" in message
