"""Traceroute through real Linux routers in namespaces, against their configured addresses and the tool `traceroute`."""

import re
import shutil
import subprocess
import sys
import time

import pytest
from probes_ping_lab import ROOT, chain, why_not

pytestmark = [pytest.mark.lab, pytest.mark.waits]

TRACE = """
import asyncio, dataclasses, json, sys
from probes.traceroute import TracerouteEngine
async def main():
    protocol, packets_per_s, flows, *addresses = sys.argv[1:]
    engine = TracerouteEngine(protocol, packets_per_s=int(packets_per_s))
    await engine.open()
    found = await asyncio.gather(*(engine.trace(address, flow=flow) for address in addresses for flow in range(int(flows))))
    await engine.close()
    print(json.dumps([engine.why, [dataclasses.asdict(one) for one in found]]))
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def lab():
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with chain(4) as made:
        made.sh(made.names[3], "ip -6 route replace unreachable fd99::/64")
        yield made


@pytest.fixture(params=["raw", "ordinary user"])
def who(request, lab):
    """Root with raw sockets, or nobody, without a capability, with ping sockets and error queues."""
    lab.sh(lab.src, f"sysctl -qw net.ipv4.ping_group_range='{'1 0' if request.param == 'raw' else '0 100000'}'")
    return {"is_ordinary_user": request.param != "raw"}


@pytest.mark.parametrize("protocol", ["icmp", "udp"])
def test_hops_are_the_configured_routers(lab, who, protocol):
    """Four routers and the target, by their addresses, each asked once, timed by the kernel, reply TTL 64 less the way back."""
    target = lab.targets_v4[0]
    _, (found,) = lab.python(lab.src, TRACE, protocol, "1000", "1", target, **who)
    assert [hop["address"] for hop in found["hops"]] == [*lab.hops_v4, target]
    assert found["reached"]
    assert {(hop["probes"], hop["replies"], hop["ts_source"]) for hop in found["hops"]} == {(1, 1, "kernel_txrx")}
    assert [hop["reply_ttl"] for hop in found["hops"]] == [64, 63, 62, 61, 60]
    last = (0, 0) if protocol == "icmp" else (3, 3)
    assert [(hop["icmp_type"], hop["icmp_code"]) for hop in found["hops"]] == [(11, 0)] * 4 + [last]
    assert all(0 < hop["rtt_ns"] < 50_000_000 for hop in found["hops"])


def test_ipv6_hops_are_the_configured_routers(lab, who):
    """The same over IPv6 with echo requests: time exceeded is type 3, the echo reply 129 (RFC 4443)."""
    _, (found,) = lab.python(lab.src, TRACE, "icmp", "1000", "1", lab.target_v6, **who)
    assert [hop["address"] for hop in found["hops"]] == [*lab.hops_v6, lab.target_v6]
    assert [hop["icmp_type"] for hop in found["hops"]] == [3, 3, 3, 3, 129]


@pytest.mark.skipif(shutil.which("traceroute") is None, reason="the tool `traceroute` is not installed (Debian package traceroute)")
@pytest.mark.parametrize("protocol", ["icmp", "udp"])
def test_the_tool_traceroute_sees_the_same(lab, protocol):
    """`traceroute -n` through the same routers prints the same addresses in the same order."""
    target = lab.targets_v4[1]
    printed = lab.sh(lab.src, f"traceroute -n -q1 -w1 {'-I' if protocol == 'icmp' else '-U'} {target}")
    theirs = re.findall(r"^ *\d+ +([0-9.]+|\*) ", printed, re.MULTILINE)
    _, (found,) = lab.python(lab.src, TRACE, protocol, "1000", "1", target)
    assert [hop["address"] for hop in found["hops"]] == theirs


@pytest.mark.parametrize("protocol", ["icmp", "udp"])
def test_a_hundred_traces_at_once_are_all_whole(lab, who, protocol):
    """100 targets in flight at once: every path complete, nothing taken for another's, no packet sent twice."""
    targets = lab.targets_v4[:100]
    _, found = lab.python(lab.src, TRACE, protocol, "4000", "1", *targets, **who)
    for target, one in zip(targets, found, strict=True):
        assert [hop["address"] for hop in one["hops"]] == [*lab.hops_v4, target]
        assert {hop["probes"] for hop in one["hops"]} == {1}


def test_unreachable_ends_the_path_at_the_router_that_said_so(lab, who):
    """The third router has no way to fd99::/64: three hops, not reached, the last with a destination unreachable (type 1)."""
    _, (found,) = lab.python(lab.src, TRACE, "icmp", "1000", "1", "fd99::1", **who)
    assert [hop["address"] for hop in found["hops"]] == lab.hops_v6[:3]
    assert not found["reached"]
    assert [hop["icmp_type"] for hop in found["hops"]] == [3, 3, 1]


def test_no_route_is_an_error_and_no_hops(lab, who):
    """The namespace has no default route: ENETUNREACH, no hop made up, no waiting."""
    _, (found,) = lab.python(lab.src, TRACE, "icmp", "1000", "1", "203.0.113.1", **who)
    assert (found["hops"], found["reached"], found["error"]) == ([], False, "ENETUNREACH")


def test_tcp_without_a_capability_says_what_to_grant(lab):
    """An ordinary user may open no raw socket: one sentence with the capability, and the protocols that need none."""
    with pytest.raises(AssertionError, match=r"NotPermitted: .*CAP_NET_RAW, or use --protocol udp or icmp"):
        lab.python(lab.src, TRACE, "tcp", "1000", "1", lab.targets_v4[0], is_ordinary_user=True)


def test_a_silent_router_stays_in_the_path():
    """Router 2 of 3 says nothing: hop 2 is there without address or RTT, asked twice; the others are as always."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with chain(3) as made:
        made.silence(made.names[2])
        _, (found,) = made.python(made.src, TRACE, "icmp", "1000", "1", made.targets_v4[0])
    assert [hop["address"] for hop in found["hops"]] == [made.hops_v4[0], None, made.hops_v4[2], made.targets_v4[0]]
    assert (found["hops"][1]["rtt_ns"], found["hops"][1]["probes"], found["hops"][1]["replies"]) == (None, 2, 0)
    assert found["reached"]


MPLS_ROUTER = """
import socket, struct, sys
def check(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - ((total & 0xFFFF) + (total >> 16))
device = sys.argv[1]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
wire.bind((device, 0))
print("ready", flush=True)
while True:
    frame, (_, _, kind, _, _) = wire.recvfrom(2000)
    packet = frame[14:]
    if kind == 4 or packet[8] != 1 or packet[9] not in (1, 17):
        continue
    # RFC 4884: the quote padded to 128 octets, its length (32 words) in octet 5; RFC 4950: two labels.
    stack = struct.pack("!II", 16001 << 12 | 5 << 9 | 1, 24 << 12 | 1 << 8 | 1)
    extension = struct.pack("!BBHHBB", 0x20, 0, 0, 4 + len(stack), 1, 1) + stack
    extension = extension[:2] + struct.pack("!H", check(extension)) + extension[4:]
    body = packet[:128].ljust(128, b"\\0") + extension
    error = struct.pack("!BBHBBH", 11, 0, 0, 0, 32, 0) + body
    error = error[:2] + struct.pack("!H", check(error)) + error[4:]
    source, back = socket.inet_aton("10.97.0.2"), packet[12:16]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(error), 0, 0, 64, 1, 0, source, back)
    header = header[:10] + struct.pack("!H", check(header)) + header[12:]
    wire.send(frame[6:12] + frame[:6] + b"\\x08\\x00" + header + error)
"""


@pytest.fixture(scope="module")
def mpls_lab():
    """One router between src and dst that quotes its label stack, and says nothing else."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with chain(1) as made:
        made.silence(made.names[1])
        made.allow_ping_sockets(made.src)
        command = ["ip", "netns", "exec", made.names[1], sys.executable, "-c", MPLS_ROUTER, "u0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as router:
            try:
                assert router.stdout.readline() == "ready\n"
                yield made
            finally:
                router.kill()


@pytest.mark.parametrize("is_ordinary_user", [False, True])
@pytest.mark.parametrize("protocol", ["icmp", "udp"])
def test_mpls_labels_of_a_router_are_shown(mpls_lab, protocol, is_ordinary_user):
    """A router that quotes its label stack (RFC 4950): the labels are at its hop, with raw sockets and without any capability."""
    made = mpls_lab
    _, (found,) = made.python(made.src, TRACE, protocol, "1000", "1", made.targets_v4[0], is_ordinary_user=is_ordinary_user)
    assert [hop["address"] for hop in found["hops"]] == ["10.97.0.2", made.targets_v4[0]]
    assert found["hops"][0]["mpls"] == [
        {"label": 16001, "traffic_class": 5, "bottom": False, "ttl": 1},
        {"label": 24, "traffic_class": 0, "bottom": True, "ttl": 1},
    ]
    assert found["hops"][1]["mpls"] == []


def test_packets_of_a_flow_are_alike_and_flows_differ(lab, tmp_path):
    """In a capture all echo requests of one flow have one checksum, whatever their TTL; another flow has another."""
    path = tmp_path / "flows.pcap"
    command = [
        "ip",
        "netns",
        "exec",
        lab.src,
        "tcpdump",
        "-i",
        "d0",
        "--immediate-mode",
        "-U",
        "-w",
        str(path),
        "icmp[icmptype] == icmp-echo",
    ]
    tmp_path.chmod(0o777)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as dump:
        assert "listening" in dump.stderr.readline()
        lab.python(lab.src, TRACE, "icmp", "1000", "3", lab.targets_v4[5])
        time.sleep(0.5)
        dump.terminate()
        dump.communicate(timeout=20)
    data, offset, seen = path.read_bytes(), 24, {}
    while offset < len(data):
        size = int.from_bytes(data[offset + 8 : offset + 12], "little")
        packet = data[offset + 16 + 14 : offset + 16 + size]
        seen.setdefault(packet[22:24], set()).add(packet[8])
        offset += 16 + size
    assert len(seen) == 3
    assert all(set(range(1, 6)) <= ttls for ttls in seen.values())
