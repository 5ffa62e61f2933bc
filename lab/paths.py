"""Which way packets go: within a medium, the path of least total weight over links that are up.

Pure. A link weighs its metric, or without one the one-way delay that is configured. Sites never forward, so a site is
only ever the first or the last node of a path. A degraded link keeps its traffic: the routing of a real network does
not follow congestion either. Equal weights are settled by fewer hops, then
by the names of the nodes, so the same topology always gives the same paths.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import pairwise

from lab.topology import Link, Topology
from records.link import MEDIA, Medium

__all__ = ["PathFinder"]


def _always_up(_link: Link) -> bool:
    return True


def _as_configured(link: Link) -> int:
    return link.weight


class PathFinder:
    """Finds and remembers paths; `forget` after a link went up or down or its weight changed.

    `is_up` says whether a link may be used now and `weight` what it weighs now (at least 1); links of the topology are
    asked about lazily, per source.
    """

    def __init__(
        self, topology: Topology, is_up: Callable[[Link], bool] = _always_up, weight: Callable[[Link], int] = _as_configured
    ) -> None:
        self._is_up = is_up
        self._weight = weight
        self._sites = frozenset(site.id for site in topology.sites)
        self._links: dict[Medium, dict[str, list[Link]]] = {medium: {} for medium in MEDIA}
        for link in topology.links:
            self._links[link.medium].setdefault(link.src, []).append(link)
        self._by_key = topology.link_by_key
        self._trees: dict[tuple[str, Medium], dict[str, str]] = {}

    def forget(self) -> None:
        """Drop everything remembered."""
        self._trees.clear()

    def attached(self, node: str, medium: Medium) -> bool:
        """Whether the node has any link of that medium, up or down."""
        return bool(self._links[medium].get(node))

    def path(self, src: str, dst: str, medium: Medium) -> tuple[Link, ...] | None:
        """The links from src to dst in order; None when there is no way. Empty when src is dst."""
        tree = self._trees.get((src, medium))
        if tree is None:
            tree = self._trees[src, medium] = self._tree(src, medium)
        if src == dst:
            return ()
        if dst not in tree:
            return None
        nodes = [dst]
        while nodes[-1] != src:
            nodes.append(tree[nodes[-1]])
        nodes.reverse()
        return tuple(self._by_key[a, b, medium] for a, b in pairwise(nodes))

    def _tree(self, src: str, medium: Medium) -> dict[str, str]:
        """Dijkstra (1959): the node before each reachable node on its best path from src."""
        links = self._links[medium]
        best: dict[str, tuple[int, int]] = {src: (0, 0)}
        before: dict[str, str] = {}
        queue = [(0, 0, src)]
        done = set()
        while queue:
            total, hops, node = heapq.heappop(queue)
            if node in done:
                continue
            done.add(node)
            if node in self._sites and node != src:
                continue
            for link in links.get(node, ()):
                if not self._is_up(link):
                    continue
                found = (total + self._weight(link), hops + 1)
                known = best.get(link.dst)
                if known is None or found < known or (found == known and node < before.get(link.dst, "")):
                    best[link.dst] = found
                    before[link.dst] = node
                    heapq.heappush(queue, (*found, link.dst))
        return before
