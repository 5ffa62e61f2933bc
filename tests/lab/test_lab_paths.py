"""Paths and their truth, against networkx and against sums by hand."""

from __future__ import annotations

from itertools import pairwise

import networkx
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.addresses import AddressPlan, pack
from lab.paths import PathFinder
from lab.reading import parse
from lab.topology import Topology, builtin
from lab.truth import pair_truths
from records.link import MEDIA, Medium


def graph_of(world: Topology, medium: Medium, src: str, dst: str, down: frozenset[tuple[str, str]] = frozenset()) -> networkx.DiGraph:
    """The graph that a packet from src to dst may use: sites in between do not forward."""
    graph = networkx.DiGraph()
    between = {site.id for site in world.sites} - {src, dst}
    for link in world.links:
        if link.medium == medium and not {link.src, link.dst} & between and (link.src, link.dst) not in down:
            graph.add_edge(link.src, link.dst, weight=link.delay_ns)
    return graph


def assert_as_networkx(world: Topology, finder: PathFinder, down: frozenset[tuple[str, str]] = frozenset()) -> None:
    for medium in MEDIA:
        for src in world.sites:
            for dst in world.sites:
                if src.id == dst.id:
                    continue
                path = finder.path(src.id, dst.id, medium)
                graph = graph_of(world, medium, src.id, dst.id, down)
                if {src.id, dst.id} <= set(graph) and networkx.has_path(graph, src.id, dst.id):
                    assert path is not None
                    nodes = [path[0].src, *(link.dst for link in path)]
                    assert (nodes[0], nodes[-1]) == (src.id, dst.id)
                    assert all(graph.has_edge(a, b) for a, b in pairwise(nodes))
                    assert sum(link.delay_ns for link in path) == networkx.shortest_path_length(graph, src.id, dst.id, "weight")
                else:
                    assert path is None


@st.composite
def worlds(draw: st.DrawFn) -> Topology:
    """A random world of a few sites and routers with random links."""
    sites = [f"s{n}" for n in range(draw(st.integers(2, 4)))]
    routers = {f"r{n}": draw(st.sampled_from(MEDIA)) for n in range(draw(st.integers(0, 6)))}
    links: dict[tuple[str, str, str], dict[str, object]] = {}
    nodes = [*sites, *routers]
    for a, b in draw(st.lists(st.tuples(st.sampled_from(nodes), st.sampled_from(nodes)), max_size=20)):
        media = {routers[end] for end in (a, b) if end in routers}
        if a != b and len(media) < 2:
            medium = media.pop() if media else draw(st.sampled_from(MEDIA))
            delays = [draw(st.integers(0, 50)), draw(st.integers(0, 50))]
            links[min(a, b), max(a, b), medium] = {"between": [a, b], "medium": medium, "delay_ms": delays}
    for site in sites[1:]:
        links.setdefault((sites[0], site, "internet"), {"between": [sites[0], site], "medium": "internet", "delay_ms": 60})
    document = {
        "name": "random",
        "sites": [{"id": site, "kind": "pop", "name": site, "lat": 0, "lon": 0} for site in sites],
        "routers": [{"id": router, "medium": medium} for router, medium in routers.items()],
        "links": list(links.values()),
    }
    return parse(document, "random")


@settings(max_examples=80)
@given(worlds(), st.data())
def test_random_worlds_have_the_paths_of_networkx(world: Topology, data: st.DataObject) -> None:
    """On random worlds, with random links down, every path is as short as the one networkx finds, or both find none."""
    down = frozenset((link.src, link.dst) for link in world.links if data.draw(st.integers(0, 4)) == 0)
    assert_as_networkx(world, PathFinder(world, lambda link: (link.src, link.dst) not in down), down)


def test_the_demo_world_has_the_paths_of_networkx() -> None:
    """All pairs and media of demo-14."""
    world = builtin("demo-14")
    assert_as_networkx(world, PathFinder(world))


def test_the_truth_of_the_triangle_is_what_its_file_says() -> None:
    """Delays, loss, bottleneck and hops of three pairs, added up by hand from triangle.toml."""
    truths = {(t.src, t.dst, t.medium): t for t in pair_truths(builtin("triangle"))}
    direct, first, second = (truths[pair] for pair in (("a", "b", "internet"), ("a", "hub", "internet"), ("hub", "b", "internet")))
    assert (direct.rtt_ns, first.rtt_ns, second.rtt_ns) == (200_000_000, 20_000_000, 54_000_000)
    assert first.rtt_ns + second.rtt_ns < direct.rtt_ns
    assert (second.forward_ns, second.reverse_ns) == (25_000_000, 29_000_000)
    assert abs(second.loss_ratio - (1 - 0.99**2)) < 1e-12
    assert (first.bottleneck_bps, direct.bottleneck_bps) == (100_000_000, None)
    assert truths["hub", "aws:eu-west-2", "direct-connect"].nodes == ("dx-hub", "aws:eu-west-2")
    assert ("a", "aws:eu-west-2", "direct-connect") not in truths


def test_addresses_tell_node_and_medium() -> None:
    """Every node's address leads back to the node and its medium; other addresses belong to nobody."""
    world = builtin("demo-14")
    plan = AddressPlan(world)
    seen = set()
    for medium in MEDIA:
        for node in [*plan.site_ids, *(router.id for router in world.routers if router.medium == medium)]:
            address = plan.of_node(node, medium)
            assert address not in seen
            seen.add(address)
            assert plan.locate(pack(address)) == (node, medium)
    assert plan.locate(pack("10.1.77.5")) == ("sin", "internet")
    for nobody in ("8.8.8.8", "10.0.1.1", "10.15.1.1", "10.251.0.0", "10.251.200.1"):
        assert plan.locate(pack(nobody)) is None
