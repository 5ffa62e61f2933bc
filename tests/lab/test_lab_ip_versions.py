"""Both IP versions, small links, labels, silence and equal paths, with real packets and other people's tools."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from lab_network import planes
from lab_tools import MS, needs, run_at, truth_of, twice

from app.cli import root
from lab import namespaces
from lab.links import Change
from lab.namespace_lab import NamespaceLab
from lab.routers import RouterChange
from lab.world import start

pytestmark = [pytest.mark.lab, pytest.mark.waits]

VERSIONS = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def lab(namespace_support: namespaces.Support, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamespaceLab]:
    """Two hosts with a diamond, a small link and a silent router between them."""
    running = start(planes(), tmp_path_factory.mktemp("planes"), "namespaces", serving=False)
    assert isinstance(running, NamespaceLab)
    yield running
    running.stop()


def address_of(lab: NamespaceLab, medium: str, version: int) -> str:
    truth = truth_of(lab, "a", "b", medium)
    address = truth.address if version == 4 else truth.address_v6
    assert address is not None
    return address


@VERSIONS
@pytest.mark.parametrize("medium", ["internet", "backbone", "direct-connect"])
def test_ping_measures_the_configured_rtt(lab: NamespaceLab, version: int, medium: str) -> None:
    """The least of several pings lies between the least and the greatest RTT of the paths, within 0.5 ms, over either version."""
    needs("ping")
    truth = truth_of(lab, "a", "b", medium)

    def measure() -> None:
        text = run_at(lab, "a", "ping", f"-{version}", "-n", "-q", "-c", "6", "-i", "0.05", "-W", "2", address_of(lab, medium, version))
        found = re.search(r"= ([0-9.]+)/", text)
        assert found, text
        assert truth.rtt_min_ns / MS <= float(found[1]) <= truth.rtt_max_ns / MS + 0.5

    twice(measure)


@VERSIONS
@pytest.mark.parametrize("method", ["-I", "-U", "-T"])
def test_traceroute_sees_the_hops_of_a_listed_path(lab: NamespaceLab, version: int, method: str) -> None:
    """Every address is of the truth, at its place; a silent router shows as a star, and labels are read."""
    needs("traceroute")

    def hops(medium: str) -> tuple[tuple[str, ...], str]:
        text = run_at(lab, "a", "traceroute", f"-{version}", "-n", "-e", "-q", "1", "-w", "1", method, address_of(lab, medium, version))
        return tuple(re.findall(r"^ *\d+ +([0-9a-f.:]+|\*)", text, re.MULTILINE)), text

    def measure() -> None:
        paths = [path.hops if version == 4 else path.hops_v6 for path in truth_of(lab, "a", "b").paths]
        seen, text = hops("internet")
        assert len(seen) == 4, text
        # Probes of one traceroute are of several flows, so the hops of a diamond may be of either branch.
        assert all(hop in {path[n] for path in paths} for n, hop in enumerate(seen)), text
        small = truth_of(lab, "a", "b", "backbone")
        seen, text = hops("backbone")
        assert seen == (small.hops if version == 4 else small.hops_v6), text
        # traceroute prints a label as L, its traffic class, bottom-of-stack bit and TTL.
        assert re.search(r"<MPLS:L=16004,E=0,S=0,T=1/L=24,E=0,S=1,T=1>", text), text
        seen, text = hops("direct-connect")
        assert seen == ("*", address_of(lab, "direct-connect", version)), text

    twice(measure)


@VERSIONS
def test_mtr_reads_the_labels(lab: NamespaceLab, version: int) -> None:
    """mtr's raw output has both labels of the first router: hop, label, traffic class, bottom of stack, TTL."""
    needs("mtr")

    def measure() -> None:
        address = address_of(lab, "backbone", version)
        text = run_at(lab, "a", "mtr", f"-{version}", "-n", "-e", "-l", "-c", "1", "-G", "1", address)
        assert re.findall(r"^m (.*)$", text, re.MULTILINE)[:2] == ["0 16004 0 0 1", "0 24 0 1 1"], text

    twice(measure)


TRANSFER = """
import hashlib, random, socket, sys
address, role = sys.argv[1], sys.argv[2]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
data = random.Random(7).randbytes(2_000_000)
if role == "serve":
    server = socket.create_server((address, 7001), family=family)
    print("up", flush=True)
    taken, _ = server.accept()
    got = bytearray()
    while part := taken.recv(1 << 16):
        got += part
    print(got == data)
else:
    with socket.socket(family) as sock:
        sock.connect((address, 7001))
        sock.sendall(data)
        print(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
"""


@VERSIONS
def test_tcp_finds_the_path_mtu(lab: NamespaceLab, version: int) -> None:
    """Two megabytes in super-segments through a link of 1400 bytes arrive, and the sender has learnt to send 1400 at most."""
    address = address_of(lab, "backbone", version)
    server = subprocess.Popen(lab.command("b", [sys.executable, "-c", TRANSFER, address, "serve"]), stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    server.stdout.readline()
    mss = int(run_at(lab, "a", sys.executable, "-c", TRANSFER, address, "send"))
    assert server.communicate(timeout=30)[0].strip() == "True"
    # 1400 less IP, TCP and timestamps.
    assert mss == 1400 - (20 if version == 4 else 40) - 20 - 12
    assert "mtu 1400" in run_at(lab, "a", "ip", "route", "get", address)


def test_ping_learns_the_mtu_and_fragments(lab: NamespaceLab) -> None:
    """DF brings the router's word with the MTU; without DF a ping of 3000 bytes is answered, as is one of IPv6 cut at its source."""
    needs("ping")
    first = truth_of(lab, "a", "b", "backbone").hops[0]
    run_at(lab, "a", "ip", "route", "flush", "cache")
    text = run_at(lab, "a", "ping", "-n", "-c", "1", "-W", "2", "-s", "1472", "-M", "do", address_of(lab, "backbone", 4))
    assert re.search(rf"From {re.escape(first)} icmp_seq=1 Frag needed and DF set \(mtu = 1400\)", text), text
    for version, options in ((4, ["-M", "dont"]), (6, [])):
        text = run_at(
            lab,
            "a",
            "ping",
            f"-{version}",
            "-n",
            "-c",
            "3",
            "-i",
            "0.2",
            "-W",
            "2",
            "-s",
            "3000",
            *options,
            address_of(lab, "backbone", version),
        )
        assert "3008 bytes from" in text, text


def test_a_shift_moves_the_path_and_a_router_falls_silent(lab: NamespaceLab) -> None:
    """With a metric of 9 the upper branch is the only one; its router, silenced, is a star. Restored, both are as before."""
    needs("traceroute")
    before = truth_of(lab, "a", "b")
    lab.change("in", "up", Change(op="shift", metric=9), both=False)
    lab.change_router("up", RouterChange(op="set", silent=True))
    try:
        during = truth_of(lab, "a", "b")
        assert (during.nodes, during.silent, during.path_count) == (("in", "up", "out", "b"), ("up",), 1)

        def measure() -> None:
            text = run_at(lab, "a", "traceroute", "-n", "-q", "1", "-w", "1", "-I", during.address)
            expected = tuple("*" if node in during.silent else hop for node, hop in zip(during.nodes, during.hops, strict=True))
            assert tuple(re.findall(r"^ *\d+ +([0-9.]+|\*)", text, re.MULTILINE)) == expected, text

        twice(measure)
    finally:
        lab.change("in", "up", Change(op="restore"))
        lab.change_router("up", RouterChange(op="restore"))
    assert truth_of(lab, "a", "b") == before


def test_what_the_fabric_did_is_told(lab: NamespaceLab) -> None:
    """After ten pings each way and version: ten packets each in the stamps, none faster than configured, none early."""
    needs("ping")
    before = {(pair["src"], pair["dst"], pair["medium"], pair["version"]): pair["delivered"] for pair in lab.observed()}
    for version in (4, 6):
        run_at(lab, "a", "ping", f"-{version}", "-n", "-q", "-c", "10", "-i", "0.01", "-W", "2", address_of(lab, "direct-connect", version))
    for pair in lab.observed():
        key = (pair["src"], pair["dst"], pair["medium"], pair["version"])
        if pair["medium"] == "direct-connect" and pair["src"] is not None:
            assert pair["delivered"] - before.get(key, 0) == 10
            assert pair["transit"]["min_ns"] >= 4 * MS
            assert 0 <= pair["lateness"]["min_ns"] <= pair["lateness"]["p50_ns"] <= pair["lateness"]["max_ns"]
    assert json.loads(json.dumps(lab.status()))["observed"]["delivered"] > 0


def test_the_command_shows_what_was_observed(lab: NamespaceLab) -> None:
    """`lab truth --observed --json` has the stamps of the chosen pair, over both versions."""
    for version in (4, 6):
        run_at(lab, "a", "ping", f"-{version}", "-n", "-q", "-c", "1", "-W", "2", address_of(lab, "backbone", version))
    argv = ["lab", "truth", "--observed", "--src", "a", "--dst", "b", "--medium", "backbone", "--json", "--state-dir", str(lab.state_dir)]
    done = CliRunner().invoke(root, argv, catch_exceptions=False)
    assert done.exit_code == 0
    pairs = json.loads(done.stdout)
    assert sorted(pair["version"] for pair in pairs) == [4, 6]  # they come in the order in which they were first seen
    assert all((pair["src"], pair["dst"], pair["medium"]) == ("a", "b", "backbone") for pair in pairs)
    assert all(pair["delivered"] > 0 and pair["transit"]["min_ns"] >= 6 * MS for pair in pairs)
