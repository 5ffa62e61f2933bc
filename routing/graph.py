"""The public model: links as a networkx graph, for export, for small questions and as the oracle of the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

import networkx as nx

from records.link import LinkEstimate
from records.place import Site
from routing.media import fastest, rank_rtt_ns

__all__ = ["to_networkx", "to_simple_networkx"]


def to_networkx(links: Iterable[LinkEstimate], sites: Mapping[str, Site] | None = None) -> Any:
    """A `networkx.MultiDiGraph` with every link as an edge keyed by its medium, with every field of the estimate as an attribute.

    Parallel media are parallel edges; gated links are there too, with their verdict in `gate`. Nodes get the fields
    of their Site where `sites` has it.

    >>> g = to_networkx([LinkEstimate(src="a", dst="b", medium="backbone", rtt_p50_ns=5_000_000)])
    >>> g.edges["a", "b", "backbone"]["rtt_p50_ns"]
    5000000
    """
    graph = nx.MultiDiGraph()
    names = [field.name for field in fields(LinkEstimate) if field.name not in ("src", "dst", "medium")]
    for link in links:
        graph.add_edge(link.src, link.dst, key=link.medium, medium=link.medium, **{name: getattr(link, name) for name in names})
    for node in graph.nodes:
        site = None if sites is None else sites.get(node)
        if site is not None:
            graph.nodes[node].update({name: value for name, value in asdict(site).items() if name != "id"})
    return graph


def to_simple_networkx(links: Iterable[LinkEstimate], *, relay_ns: int = 0) -> Any:
    """The `networkx.DiGraph` that routes are searched on: one edge a pair, the fastest usable medium (routing.media).

    Edge attributes: `rtt_ns` (the ranking RTT), `weight` = rtt_ns + relay_ns, `link`. A path's weight is its RTT plus
    relay_ns for every relay plus one relay_ns too many, since a path of h relays has h + 1 edges.
    """
    graph = nx.DiGraph()
    for (src, dst), link in fastest(links).items():
        rtt_ns = rank_rtt_ns(link)
        assert rtt_ns is not None
        graph.add_edge(src, dst, rtt_ns=rtt_ns, weight=rtt_ns + relay_ns, link=link)
    return graph
