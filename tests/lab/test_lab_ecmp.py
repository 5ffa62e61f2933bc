"""Several paths of the same weight: found as networkx finds them, spread over by flow, told by the truth."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_network import MS, Network, planes

from lab.flow import branch, flow_of
from lab.links import Change
from lab.paths import PathFinder
from lab.reading import parse
from lab.topology import Topology
from lab.truth import MAX_PATHS, pair_truths
from lab.wire import plain

scapy = pytest.importorskip("scapy.all", reason="scapy builds the packets of these tests")

SRC, DST = {4: "10.1.1.1", 6: "fd0a:1:1::1"}, {4: "10.2.1.1", 6: "fd0a:2:1::1"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def ip(version: int, **fields: object) -> object:
    layer = scapy.IP if version == 4 else scapy.IPv6
    return layer(src=SRC[version], dst=DST[version], **fields)


def flow(packet: object) -> int:
    return flow_of(plain(bytes(packet)))  # type: ignore[call-overload]


@st.composite
def meshes(draw: st.DrawFn) -> Topology:
    """Two sites in a mesh of routers whose metrics are often equal."""
    routers = [f"r{n}" for n in range(draw(st.integers(2, 6)))]
    pairs = [(a, b) for n, a in enumerate(routers) for b in routers[n + 1 :]]
    chosen = draw(st.sets(st.sampled_from(pairs), min_size=1))
    links = [
        {"between": list(pair), "delay_ms": 1, "metric": [draw(st.integers(1, 3)), draw(st.integers(1, 3))]} for pair in sorted(chosen)
    ]
    links += [
        {"between": [site, router], "delay_ms": 1, "metric": 1}
        for site in ("a", "b")
        for router in draw(st.sets(st.sampled_from(routers), min_size=1))
    ]
    sites = [{"id": site, "kind": "pop", "name": site, "lat": 0, "lon": 0} for site in ("a", "b")]
    return parse({"name": "mesh", "sites": sites, "routers": [{"id": r, "medium": "internet"} for r in routers], "links": links}, "mesh")


@settings(max_examples=80)
@given(meshes())
def test_all_best_paths_are_those_of_networkx(world: Topology) -> None:
    """Every path networkx calls shortest is listed once, with the product of even splits for its share, and no other."""
    graph = networkx.DiGraph()
    for link in world.links:
        if not {"a", "b"} & {link.src, link.dst} or link.src == "a" or link.dst == "b":
            graph.add_edge(link.src, link.dst, weight=link.weight, delay_ns=link.delay_ns)
    finder = PathFinder(world)
    found = {tuple(link.dst for link in path.links): path.share for path in finder.paths("a", "b", "internet")}
    expected = (
        [tuple(path[1:]) for path in networkx.all_shortest_paths(graph, "a", "b", "weight")] if networkx.has_path(graph, "a", "b") else []
    )
    assert sorted(found) == sorted(expected)
    assert finder.path_count("a", "b", "internet") == len(expected)
    if expected:
        onward = {(node, after) for path in expected for node, after in pairwise(("a", *path))}
        splits = Counter(node for node, _ in onward)
        for path, share in found.items():
            assert share == pytest.approx(1 / math.prod(splits[node] for node in ("a", *path[:-1])))
        lengths = [sum(graph.edges[edge]["delay_ns"] for edge in pairwise(("a", *path))) for path in expected]
        assert finder.extremes("a", "b", "internet", lambda link: link.delay_ns) == (min(lengths), max(lengths))


@VERSIONS
def test_a_flow_is_addresses_protocol_and_four_bytes(version: int) -> None:
    """Payload and TTL make no other flow; ports, the ICMP checksum and, in IPv6, the flow label do."""
    same = {flow(ip(version) / scapy.UDP(sport=7, dport=8) / bytes(n)) for n in range(9)}
    assert len(same) == 1
    assert flow(ip(version, **{"ttl" if version == 4 else "hlim": 3}) / scapy.UDP(sport=7, dport=8)) in same
    others = [scapy.UDP(sport=7, dport=9), scapy.UDP(sport=6, dport=8), scapy.TCP(sport=7, dport=8)]
    echo = scapy.ICMP if version == 4 else scapy.ICMPv6EchoRequest
    others += [echo(id=1, seq=1), echo(id=1, seq=2)]
    assert len(same | {flow(ip(version) / other) for other in others}) == 1 + len(others)
    if version == 6:
        assert flow(ip(6, fl=5) / scapy.UDP(sport=7, dport=8)) not in same


def test_all_fragments_of_a_packet_are_one_flow() -> None:
    """Whether the ports are in sight or not."""
    packet = ip(4, id=9) / scapy.UDP(sport=7, dport=8) / bytes(3000)
    assert len({flow(piece) for piece in scapy.fragment(packet)}) == 1
    large = ip(6) / scapy.IPv6ExtHdrFragment() / scapy.UDP(sport=7, dport=8) / bytes(3000)
    assert len({flow(piece) for piece in scapy.fragment6(large, 1280)}) == 1


def test_routers_in_a_row_choose_evenly_and_independently() -> None:
    """Of 2,500 flows every pair of choices of two routers, and of three next hops, has its share within 4 sigma."""
    flows = [flow_of(plain(bytes(ip(4) / scapy.UDP(sport=1000 + n % 50, dport=2000 + n // 50)))) for n in range(2500)]  # type: ignore[call-overload]
    for count in (2, 3):
        seen = Counter((branch(one, 0xDEADBEEF, count), branch(one, 0x1234, count)) for one in flows)
        share = 1 / count**2
        assert len(seen) == count**2
        assert all(abs(n - len(flows) * share) < 4 * (len(flows) * share * (1 - share)) ** 0.5 for n in seen.values())


@VERSIONS
def test_flows_spread_over_the_branches_and_stay_there(version: int) -> None:
    """Half of 400 flows take each branch, every packet of a flow the same; the way back is the cheaper branch for all."""
    network = Network(planes())
    for port in range(400):
        for n in range(2):
            network.send("a", ip(version) / scapy.UDP(sport=port, dport=9), at_ms=n * 100)
    arrivals = {(round(at) % 100, packet[scapy.UDP].sport, round(at) // 100) for at, site, packet in network.run() if site == "b"}
    by_delay = {ms: {port for at, port, _ in arrivals if at == ms} for ms in (8, 12)}
    assert by_delay[8] | by_delay[12] == set(range(400))
    assert not by_delay[8] & by_delay[12]
    assert abs(len(by_delay[8]) - 200) < 4 * 10
    network.received.clear()
    for port in range(50):
        back = (scapy.IP if version == 4 else scapy.IPv6)(src=DST[version], dst=SRC[version])
        network.send("b", back / scapy.UDP(sport=port, dport=9), at_ms=500)
    assert {round(at) for at, _, _ in network.run()} == {512}


def test_the_truth_lists_every_path_with_its_share() -> None:
    """Both branches of the diamond, added up by hand; the silent router and the small MTU named; a shift moves it all."""
    world = planes()
    truths = {(t.src, t.dst, t.medium): t for t in pair_truths(world)}
    there, back = truths["a", "b", "internet"], truths["b", "a", "internet"]
    assert [(p.nodes, p.share, p.delay_ns) for p in there.paths] == [
        (("in", "low", "out", "b"), 0.5, 12 * MS),
        (("in", "up", "out", "b"), 0.5, 8 * MS),
    ]
    assert [p.nodes for p in there.reverse_paths] == [("out", "low", "in", "a")] == [p.nodes for p in back.paths]
    assert (there.path_count, there.reverse_path_count, there.rtt_ns, there.rtt_min_ns, there.rtt_max_ns) == (
        2,
        1,
        24 * MS,
        20 * MS,
        24 * MS,
    )
    assert there.paths[1].hops == ("10.251.0.1", "10.251.0.2", "10.251.0.4", "10.2.1.1")
    assert there.paths[1].hops_v6 == ("fd0a:ff01::1", "fd0a:ff01::2", "fd0a:ff01::4", "fd0a:2:1::1")
    small, private = truths["a", "b", "backbone"], truths["a", "b", "direct-connect"]
    assert (small.mtu, small.address_v6, small.silent) == (1400, "fd0a:2:2::1", ())
    assert (private.mtu, private.nodes, private.silent) == (None, ("quiet", "b"), ("quiet",))
    assert not pair_truths(world, silent=())[2].silent
    network = Network(world)
    network.forwarder.change("in", "up", None, Change(op="shift", metric=9))
    shifted = next(t for t in pair_truths(world, network.forwarder.finder) if (t.src, t.medium) == ("a", "internet"))
    assert [p.nodes for p in shifted.paths] == [("in", "up", "out", "b")]


def test_a_chain_of_diamonds_is_counted_and_listed_up_to_a_limit() -> None:
    """Twelve diamonds in a row make 4096 paths; 64 are listed, all are counted, and the least and greatest RTT are of all."""
    routers = [f"{kind}{n}" for n in range(13) for kind in (("j",) if n == 12 else ("j", "x", "y"))]
    links: list[dict[str, object]] = [{"between": ["a", "j0"], "delay_ms": 1}, {"between": ["j12", "b"], "delay_ms": 1}]
    for n in range(12):
        for way, ms in (("x", 1), ("y", 2)):
            links += [
                {"between": [f"j{n}", f"{way}{n}"], "delay_ms": ms, "metric": 1},
                {"between": [f"{way}{n}", f"j{n + 1}"], "delay_ms": ms, "metric": 1},
            ]
    sites = [{"id": site, "kind": "pop", "name": site, "lat": 0, "lon": 0} for site in ("a", "b")]
    world = parse({"name": "chain", "sites": sites, "routers": [{"id": r, "medium": "internet"} for r in routers], "links": links}, "chain")
    truth = pair_truths(world)[0]
    assert (truth.path_count, len(truth.paths), truth.rtt_min_ns, truth.rtt_max_ns) == (4096, MAX_PATHS, 2 * 26 * MS, 2 * 50 * MS)
    network = Network(world)
    for port in range(300):
        network.send("a", ip(4) / scapy.UDP(sport=port, dport=9))
    delays = [at for at, _, _ in network.run()]
    # 24 + the number of slower branches, two ms each: binomial with mean 12 and variance 3.
    assert sum(delays) / 300 == pytest.approx(2 + 24 + 12, abs=4 * 2 * 3**0.5 / 300**0.5)
