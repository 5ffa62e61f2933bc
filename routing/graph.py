"""The public model: links as a networkx graph, for export, for small questions and as the oracle of the tests.

Files: GraphML, and node-link JSON as networkx reads it. Both hold every field of every link and site; what is not known
is null in JSON and absent in GraphML, which has no null; a histogram is its buckets as text, `bucket:count ...`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

import networkx as nx

from records.histogram import Histogram
from records.link import LinkEstimate
from records.place import Site
from routing.media import fastest, rank_rtt_ns

__all__ = ["links_of", "to_graphml", "to_networkx", "to_node_link", "to_simple_networkx"]


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


def to_node_link(graph: Any) -> dict[str, Any]:
    """The graph of `to_networkx` as a document for JSON: `networkx.node_link_graph(document, edges="edges")` reads it."""
    document: dict[str, Any] = nx.node_link_data(_plain(graph), edges="edges")
    return document


def to_graphml(graph: Any) -> str:
    """The graph of `to_networkx` as GraphML; an edge's id is `src>dst/medium`. `networkx.parse_graphml` reads it."""
    plain = _plain(graph)
    for _, attributes in plain.nodes(data=True):
        _drop_unknown(attributes)
    for src, dst, attributes in plain.edges(data=True):
        _drop_unknown(attributes)
        attributes["id"] = f"{src}>{dst}/{attributes['medium']}"
    return "\n".join(nx.generate_graphml(plain, edge_id_from_attribute="id"))


def links_of(graph: Any) -> list[LinkEstimate]:
    """The links of a graph that `to_networkx` made, or that networkx read from either file, in the order of its edges."""
    known = {field.name for field in fields(LinkEstimate)} - {"src", "dst", "histogram"}
    found = []
    for src, dst, attributes in graph.edges(data=True):
        text = attributes.get("histogram")
        histogram = text if text is None or isinstance(text, Histogram) else Histogram.from_counts(_counts(text))
        found.append(LinkEstimate(src=src, dst=dst, histogram=histogram, **{k: v for k, v in attributes.items() if k in known}))
    return found


def _plain(graph: Any) -> Any:
    """A copy in which every attribute is a text, a number or None."""
    plain = graph.copy()
    for _, _, attributes in plain.edges(data=True):
        if attributes["histogram"] is not None:
            attributes["histogram"] = " ".join(f"{bucket}:{count}" for bucket, count in attributes["histogram"].buckets)
    return plain


def _drop_unknown(attributes: dict[str, Any]) -> None:
    for name in [name for name, value in attributes.items() if value is None]:
        del attributes[name]


def _counts(text: str) -> list[tuple[int, int]]:
    return [(int(bucket), int(count)) for bucket, _, count in (pair.partition(":") for pair in text.split())]
