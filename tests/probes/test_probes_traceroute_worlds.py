"""Traceroute in the lab's worlds against their truth: equal-cost paths, ways back, loss, labels, silence, limits, both IP versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab_tools import ROOT, address_of, truth_of, twice, visible_paths

from lab import namespaces
from lab.namespace_lab import NamespaceLab
from lab.reading import parse_text
from lab.topology import Topology, builtin
from lab.world import start
from records.measurement import reverse_hop_count

pytestmark = [pytest.mark.lab, pytest.mark.waits]

VERSIONS = (4, 6)

TRACE = """
import asyncio, dataclasses, json, pathlib, sys
from probes.traceroute import TracerouteEngine
async def trace(protocol, packets_per_s, pcap, port, wanted):
    engine = TracerouteEngine(protocol, packets_per_s=packets_per_s, port=port, pcap=pathlib.Path(pcap) if pcap else None)
    await engine.open()
    found = await asyncio.gather(*(engine.trace(address, flow=flow, attempts=attempts) for address, flow, attempts in wanted))
    await engine.close()
    return [dataclasses.asdict(one) for one in found]
async def main():
    print(json.dumps([await trace(*job) for job in json.load(sys.stdin)]))
asyncio.run(main())
"""

#: protocol, packets/s, pcap file, TCP port, [(address, flow, attempts)]
Job = tuple[str, int, str, int, Sequence[tuple[str, int, int]]]


def traces(lab: NamespaceLab, site: str, *jobs: Job) -> list[list[dict[str, Any]]]:
    """Each job's traces, all at once; one process for all jobs."""
    argv = lab.command(site, [sys.executable, "-c", TRACE])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, input=json.dumps(jobs), capture_output=True, text=True, timeout=100, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def addresses(trace: dict[str, Any]) -> tuple[str | None, ...]:
    return tuple(hop["address"] for hop in trace["hops"])


@contextmanager
def running(world: Topology, folder: Path) -> Iterator[NamespaceLab]:
    support = namespaces.support()
    if support.how is None:
        pytest.skip(f"no network namespaces here: {support.reason}")
    lab = start(world, folder / "lab", "namespaces", serving=False)
    assert isinstance(lab, NamespaceLab)
    try:
        yield lab
    finally:
        lab.stop()


@pytest.fixture(scope="module")
def ecmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamespaceLab]:
    with running(builtin("ecmp"), tmp_path_factory.mktemp("ecmp")) as lab:
        yield lab


FLOWS = 48


def test_flows_show_every_equal_cost_path_and_each_keeps_to_one(ecmp: NamespaceLab) -> None:
    """Of 48 flows by each protocol over either IP version, every path is one of the truth's four, whole; all four are seen (a chance of
    4 in a million to miss one); and the same flow, traced again, takes the same."""
    truth = truth_of(ecmp, "a", "b")
    jobs: list[Job] = [
        (protocol, 4000, "", 443, [(address_of(truth, version), flow, 2) for flow in (*range(FLOWS), 0, 1, 2, 3)])
        for protocol in ("icmp", "udp", "tcp")
        for version in VERSIONS
    ]

    def measure() -> None:
        for (protocol, *_, wanted), found in zip(jobs, traces(ecmp, "a", *jobs), strict=True):
            version = 6 if ":" in wanted[0][0] else 4
            seen = [addresses(one) for one in found]
            assert set(seen) == set(visible_paths(truth, version)), (protocol, version)
            assert seen[FLOWS:] == seen[:4], (protocol, version)

    twice(measure)


LISTEN = """
import socket, sys
servers = [socket.create_server((address, 7443), family=socket.AF_INET6 if ":" in address else socket.AF_INET) for address in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.read()
"""


def test_an_open_port_is_traced_like_a_closed_one_and_no_connection_is_made(ecmp: NamespaceLab, tmp_path: Path) -> None:
    """To a listening port: whole paths of the truth, one packet a hop; the capture of the evidence holds SYNs out, SYN and ACK and RST
    back, and no packet of a connection that was made (a plain ACK or data of ours)."""
    scapy = pytest.importorskip("scapy.all")
    truth = truth_of(ecmp, "a", "b")
    targets = [address_of(truth, version) for version in VERSIONS]
    argv = ecmp.command("b", [sys.executable, "-c", LISTEN, *targets])
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        pcap = tmp_path / "syn.pcap"
        (found,) = traces(ecmp, "a", ("tcp", 4000, str(pcap), 7443, [(target, flow, 3) for target in targets for flow in range(8)]))
        server.communicate("")
    for number, one in enumerate(found):
        assert addresses(one) in visible_paths(truth, VERSIONS[number // 8])
    packets = scapy.rdpcap(str(pcap))
    ours = [packet[scapy.TCP] for packet in packets if scapy.TCP in packet and packet[scapy.TCP].dport == 7443]
    assert {str(segment.flags) for segment in ours} <= {"S", "R"}
    theirs = {str(packet[scapy.TCP].flags) for packet in packets if scapy.TCP in packet and packet[scapy.TCP].sport == 7443}
    assert "SA" in theirs


def test_the_evidence_holds_every_packet_as_it_was_on_the_wire(ecmp: NamespaceLab, tmp_path: Path) -> None:
    """The file, read by scapy: for every hop found an echo request with its TTL and the answer from its address, as far apart in
    time as the RTT says (the capture stamps at the same places in the kernel: 50 us)."""
    scapy = pytest.importorskip("scapy.all")
    address, pcap = address_of(truth_of(ecmp, "a", "c")), tmp_path / "echo.pcap"

    def measure() -> None:
        ((found,),) = traces(ecmp, "a", ("icmp", 1000, str(pcap), 443, [(address, 0, 2)]))
        packets = list(scapy.rdpcap(str(pcap)))
        requests = {packet[scapy.IP].ttl: packet for packet in packets if packet[scapy.ICMP].type == 8}
        checksums = {packet[scapy.ICMP].chksum for packet in requests.values()}
        assert len(checksums) == 1
        for hop in found["hops"]:
            request = requests[hop["ttl"]]
            answers = [
                packet
                for packet in packets
                if (packet[scapy.ICMP].type == 0 and packet[scapy.ICMP].seq == request[scapy.ICMP].seq)
                or (scapy.ICMPerror in packet and packet[scapy.ICMPerror].seq == request[scapy.ICMP].seq)
            ]
            assert [answer[scapy.IP].src for answer in answers] == [hop["address"]]
            assert float(answers[0].time - request.time) == pytest.approx(hop["rtt_ns"] / 1e9, abs=50e-6)

    twice(measure)


def test_the_way_there_is_traced_and_the_way_back_guessed(tmp_path: Path) -> None:
    """In the world asymmetric the hops are those of the way there (north), never of the way back (south), and the guess at the way back
    is its true length, both directions of the pair."""
    with running(builtin("asymmetric"), tmp_path) as lab:

        def measure() -> None:
            for src, dst in (("a", "b"), ("b", "a")):
                truth = truth_of(lab, src, dst)
                assert truth.paths[0].nodes != truth.reverse_paths[0].nodes[::-1]
                jobs: list[Job] = [("icmp", 1000, "", 443, [(address_of(truth, version), 0, 2) for version in VERSIONS])]
                ((four, six),) = traces(lab, src, *jobs)
                assert addresses(four) == visible_paths(truth)[0]
                assert addresses(six) == visible_paths(truth, 6)[0]
                for one in (four, six):
                    assert reverse_hop_count(one["hops"][-1]["reply_ttl"]) == len(truth.reverse_paths[0].nodes)

        twice(measure)


def test_loss_is_asked_again_until_the_path_is_whole(tmp_path: Path) -> None:
    """In the world lossy 40 flows each over 4 % (both ways) and 6 % of loss (three links), asked up to 5 times: every path whole (a hop is
    missed with a chance of 0.06^5), and somewhere more than one packet was needed."""
    with running(builtin("lossy"), tmp_path) as lab:
        pairs = [truth_of(lab, "a", dst) for dst in ("both", "chain")]
        wanted = [(address_of(truth), flow, 5) for truth in pairs for flow in range(40)]

        def measure() -> None:
            (found,) = traces(lab, "a", ("icmp", 1000, "", 443, wanted))
            for number, one in enumerate(found):
                assert addresses(one) == visible_paths(pairs[number // 40])[0]
            probes = [hop["probes"] for one in found for hop in one["hops"]]
            assert sum(probes) > len(probes)

        twice(measure)


#: Six hops, of which the second is silent, the third reports labels and the first sends 20 errors a second; back by two more routers.
ROW = """
name = "row"
sites = [
    { id = "near", kind = "pop", name = "Near", lat = 0, lon = 0 },
    { id = "away", kind = "pop", name = "Away", lat = 0, lon = 0 },
]
routers = [
    { id = "r1", medium = "internet", icmp_per_s = 20 },
    { id = "r2", medium = "internet", silent = true },
    { id = "r3", medium = "internet", mpls = [16004, 24] },
    { id = "r4", medium = "internet" },
    { id = "r5", medium = "internet" },
    { id = "x1", medium = "internet" },
    { id = "x2", medium = "internet" },
]
links = [
    { between = ["near", "r1"], delay_ms = 1, metric = 1 },
    { between = ["r1", "r2"], delay_ms = 1, metric = 1 },
    { between = ["r2", "r3"], delay_ms = 1, metric = 1 },
    { between = ["r3", "r4"], delay_ms = 1, metric = [1, 100] },
    { between = ["r4", "x1"], delay_ms = 1, metric = [1, 100] },
    { between = ["x1", "x2"], delay_ms = 1, metric = [1, 100] },
    { between = ["x2", "r3"], delay_ms = 1, metric = [1, 100] },
    { between = ["r4", "r5"], delay_ms = 1, metric = 1 },
    { between = ["r5", "away"], delay_ms = 1, metric = 1 },
]
"""


def test_silence_labels_limits_and_a_longer_way_back(tmp_path: Path) -> None:
    """By every protocol over either version: the silent hop in its place and asked twice only, the labels at theirs, the limited router
    found by all 30 traces (two attempts each would lose most), and a way back of 8 where the way there is 6."""
    with running(parse_text(ROW, "row.toml"), tmp_path) as lab:
        truth = truth_of(lab, "near", "away")
        assert (len(truth.paths[0].nodes), len(truth.reverse_paths[0].nodes)) == (6, 8)
        jobs: list[Job] = [
            (protocol, 2000, "", 443, [(address_of(truth, version), flow, 2) for flow in range(5)])
            for protocol in ("icmp", "udp", "tcp")
            for version in VERSIONS
        ]

        def measure() -> None:
            for (protocol, *_, wanted), found in zip(jobs, traces(lab, "near", *jobs), strict=True):
                for one in found:
                    version = 6 if ":" in wanted[0][0] else 4
                    assert addresses(one) == visible_paths(truth, version)[0], protocol
                    assert (one["hops"][1]["probes"], one["hops"][1]["replies"], one["hops"][1]["rtt_ns"]) == (2, 0, None)
                    assert [label["label"] for label in one["hops"][2]["mpls"]] == [16004, 24]
                    assert [reverse_hop_count(hop["reply_ttl"]) for hop in one["hops"]] == [1, None, 3, 6, 7, 8]
                time.sleep(0.1)

        twice(measure)
