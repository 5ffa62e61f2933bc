"""What world-24 promises, from its truth and from an independent formula for distance, not from its file's own numbers."""

from __future__ import annotations

import re
import shutil
import statistics

import networkx as nx
import pytest
from lab_tools import floor_ms, run_at

from lab.namespace_lab import NamespaceLab
from lab.topology import Topology, builtin
from lab.truth import PairTruth, pair_truths
from records.place import PROVIDERS

CONTINENTS = {
    "Europe": {"DE", "GB", "ES", "NL"},
    "North America": {"US"},
    "South America": {"BR", "CL"},
    "Africa": {"ZA", "KE"},
    "Asia": {"SG", "AE", "IN", "JP", "HK"},
    "Oceania": {"AU", "NZ"},
}


@pytest.fixture(scope="module")
def world() -> Topology:
    return builtin("world-24")


@pytest.fixture(scope="module")
def truths(world: Topology) -> list[PairTruth]:
    return pair_truths(world)


def test_sixteen_pops_and_eight_regions_everywhere(world: Topology) -> None:
    """Every continent but Antarctica has a site and a PoP; all six clouds have a region; ten sites serve."""
    pops = [site.place for site in world.sites if site.place.kind == "pop"]
    regions = [site.place for site in world.sites if site.place.kind == "region"]
    assert (len(pops), len(regions)) == (16, 8)
    for continent, countries in CONTINENTS.items():
        assert {place.country for place in pops} & countries, continent
    assert {place.country for place in (*pops, *regions)} <= set().union(*CONTINENTS.values())
    assert {place.provider for place in regions} == set(PROVIDERS)
    assert all(place.id.startswith(f"{place.provider}:") for place in regions)
    assert sum(site.serves for site in world.sites) == 10


def test_who_is_joined_to_whom(world: Topology, truths: list[PairTruth]) -> None:
    """The internet joins everyone, the backbone all PoPs and only them, direct connections one PoP and one region each."""
    pops = {site.id for site in world.sites if site.place.kind == "pop"}
    pairs = {medium: {(p.src, p.dst) for p in truths if p.medium == medium} for medium in ("internet", "backbone", "direct-connect")}
    assert len(pairs["internet"]) == 24 * 23
    assert pairs["backbone"] == {(a, b) for a in pops for b in pops if a != b}
    assert {b for a, b in pairs["direct-connect"] if a in pops} == {site.id for site in world.sites} - pops
    assert all((a in pops) != (b in pops) for a, b in pairs["direct-connect"])


def test_nothing_is_faster_than_light_in_fibre(world: Topology, truths: list[PairTruth]) -> None:
    """No RTT is below the fibre floor of the great circle; nor is any one-way delay below its half."""
    for pair in truths:
        floor = floor_ms(world, pair.src, pair.dst)
        assert min(pair.forward_ns, pair.reverse_ns) / 1e6 >= floor / 2 - 1e-6, pair


def test_the_internet_is_as_far_from_the_great_circle_as_the_real_one(world: Topology, truths: list[PairTruth]) -> None:
    """Median and quartiles of RTT over the fibre floor are near those of the public Skyplane grid: 1.82, 1.54 and 2.23."""
    found = [p.rtt_ns / 1e6 / floor for p in truths if p.medium == "internet" and (floor := floor_ms(world, p.src, p.dst)) > 3]
    lower, middle, upper = statistics.quantiles(found, n=4)
    assert middle == pytest.approx(1.82, abs=0.05)
    assert lower == pytest.approx(1.54, abs=0.05)
    assert upper == pytest.approx(2.23, abs=0.15)


@pytest.mark.parametrize(("medium", "most"), [("backbone", 1.65), ("direct-connect", 1.45)])
def test_private_links_are_near_the_great_circle(world: Topology, truths: list[PairTruth], medium: str, most: float) -> None:
    """Over more than 3 ms, and the backbone never slower than the internet, nor lossy."""
    internet = {(p.src, p.dst): p.rtt_ns for p in truths if p.medium == "internet"}
    for pair in (p for p in truths if p.medium == medium):
        floor = floor_ms(world, pair.src, pair.dst)
        assert floor <= 3 or pair.rtt_ns / 1e6 <= most * floor, pair
        assert pair.rtt_ns < internet[pair.src, pair.dst]
        assert pair.loss_ratio == 0


def test_a_relay_beats_the_direct_path(truths: list[PairTruth]) -> None:
    """From Nairobi to Mumbai over the internet: by Marseille, more than 100 ms longer than with a relay at Dubai."""
    paths = {(p.src, p.dst): p for p in truths if p.medium == "internet"}
    direct = paths["nbo", "bom"]
    assert {"a-mrs", "p-mrs"} <= set(direct.nodes)
    assert paths["nbo", "dxb"].rtt_ns + paths["dxb", "bom"].rtt_ns < direct.rtt_ns - 100e6


def test_truth_is_the_shortest_path(world: Topology, truths: list[PairTruth]) -> None:
    """networkx, on a graph where sites have no way through, finds the same delays by weight."""
    for medium in ("internet", "backbone", "direct-connect"):
        graph = nx.DiGraph()
        for link in (link for link in world.links if link.medium == medium):
            src = f"{link.src} out" if link.src in world.by_id else link.src
            graph.add_edge(src, link.dst, delay=link.delay_ns, weight=link.delay_ns if link.metric is None else link.metric)
        for pair in (p for p in truths if p.medium == medium and p.src in ("nbo", "sin", "iad", "azure:westeurope")):
            assert pair.forward_ns == nx.path_weight(graph, nx.dijkstra_path(graph, f"{pair.src} out", pair.dst), "delay"), pair


def test_flows_part_over_the_oceans(world: Topology, truths: list[PairTruth]) -> None:
    """London to Ashburn over the internet and over the backbone, and Singapore to Tokyo: two shortest paths of one length."""
    for src, dst, medium, routers in [
        ("lhr", "iad", "internet", {"a-nyc-1", "a-nyc-2"}),
        ("lhr", "iad", "backbone", {"bb-nyc-1", "bb-nyc-2"}),
        ("sin", "nrt", "backbone", {"bb-hkg-1", "bb-hkg-2"}),
    ]:
        graph = nx.Graph()
        graph.add_weighted_edges_from((link.src, link.dst, link.delay_ns) for link in world.links[::2] if link.medium == medium)
        paths = list(nx.all_shortest_paths(graph, src, dst, "weight"))
        assert len(paths) == 2
        assert set(paths[0]) ^ set(paths[1]) == routers
        (pair,) = [p for p in truths if (p.src, p.dst, p.medium) == (src, dst, medium)]
        assert {path.nodes for path in pair.paths} == {tuple(path[1:]) for path in paths}
        assert pair.rtt_min_ns == pair.rtt_max_ns == pair.rtt_ns


def test_some_routers_say_little(world: Topology, truths: list[PairTruth]) -> None:
    """Three silent routers, three with a limit, labels on the whole backbone, and each of those on some path."""
    passed = {node for p in truths for node in p.nodes}
    silent = {router.id for router in world.routers if router.silent}
    limited = {router.id for router in world.routers if router.icmp_per_s is not None}
    assert (len(silent), len(limited)) == (3, 3)
    assert silent | limited <= passed
    assert all(router.mpls for router in world.routers if router.medium == "backbone")
    assert sum(bool(router.mpls) for router in world.routers if router.medium == "internet") == 2
    assert sum(link.loss_ratio > 0 for link in world.links) >= 4
    assert any(abs(p.forward_ns - p.reverse_ns) > 2_000_000 for p in truths)


@pytest.mark.lab
@pytest.mark.waits
@pytest.mark.parametrize("silent", ["a-chi", "p-gum", "acc-scl-a"])
def test_a_traceroute_shows_silence_where_a_router_is_silent(wan: NamespaceLab, truths: list[PairTruth], silent: str) -> None:
    """On a path with one silent router, traceroute lists every hop of the truth and an asterisk for that one."""
    if shutil.which("traceroute") is None:
        pytest.skip("traceroute is not installed here")
    # Without routers that limit their answers, and with one path only: then every hop has its place.
    limited = {router.id for router in wan.topology.routers if router.icmp_per_s is not None}
    pair = next(p for p in truths if silent in p.nodes and len(p.silent) == p.path_count == 1 and not limited & set(p.nodes))
    expected = tuple("*" if node == silent else hop for node, hop in zip(pair.nodes, pair.hops, strict=True))
    for attempt in (1, 2):
        text = run_at(wan, pair.src, "traceroute", "-n", "-q", "2", "-w", "1.5", "-I", pair.address)
        if tuple(re.findall(r"^ *\d+ +(?:\* +(?=[0-9]))?([0-9.]+|\*)", text, re.MULTILINE)) == expected:
            return
        assert attempt == 1, text


@pytest.mark.lab
@pytest.mark.waits
@pytest.mark.parametrize(
    ("src", "dst", "medium"), [("nbo", "bom", "internet"), ("lhr", "iad", "backbone"), ("jnb", "aws:af-south-1", "direct-connect")]
)
@pytest.mark.parametrize("version", [4, 6])
def test_ping_measures_the_truth(wan: NamespaceLab, truths: list[PairTruth], src: str, dst: str, medium: str, version: int) -> None:
    """Over either version of IP and every medium, the least of some pings is the RTT of the truth within 0.5 ms or 2 %."""
    (pair,) = [p for p in truths if (p.src, p.dst, p.medium) == (src, dst, medium)]
    address = pair.address if version == 4 else pair.address_v6
    assert address is not None
    for attempt in (1, 2):
        text = run_at(wan, src, "ping", "-n", "-q", "-c", "8", "-i", "0.05", "-W", "2", address)
        found = re.search(r"= ([0-9.]+)/", text)
        assert found, text
        if -0.05 <= float(found[1]) - pair.rtt_ns / 1e6 <= max(0.5, 0.02 * pair.rtt_ns / 1e6):
            return
        assert attempt == 1, text
