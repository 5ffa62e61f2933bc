"""Which way packets go: within a medium, along the paths of least total weight over links that are up.

Pure. A link weighs its metric, or without one the one-way delay that is configured. Sites never forward, so a site is
only ever the first or the last node of a path. A degraded link keeps its traffic: the routing of a real network does
not follow congestion either. Where several next hops are equally good all are used (ECMP), and which one a packet takes
is a matter of its flow; they are listed by name, so the same topology always gives the same paths.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lab.topology import Link, Topology
from records.link import MEDIA, Medium

__all__ = ["Path", "PathFinder"]


class Path(NamedTuple):
    """One of the best paths: its links in order, and the share of flows that take it when they spread evenly."""

    links: tuple[Link, ...]
    share: float


def _always_up(_link: Link) -> bool:
    return True


def _as_configured(link: Link) -> int:
    return link.weight


class PathFinder:
    """Finds and remembers paths; `forget` after a link went up or down or its weight changed.

    `is_up` says whether a link may be used now and `weight` what it weighs now (at least 1); links of the topology are
    asked about lazily, per destination.
    """

    def __init__(
        self, topology: Topology, is_up: Callable[[Link], bool] = _always_up, weight: Callable[[Link], int] = _as_configured
    ) -> None:
        self._is_up = is_up
        self._weight = weight
        self._sites = frozenset(site.id for site in topology.sites)
        self._links_to: dict[Medium, dict[str, list[Link]]] = {medium: {} for medium in MEDIA}
        for link in topology.links:
            self._links_to[link.medium].setdefault(link.dst, []).append(link)
        self._next_hops: dict[tuple[str, Medium], dict[str, tuple[Link, ...]]] = {}
        self._counts: dict[tuple[str, Medium], dict[str, int]] = {}

    def forget(self) -> None:
        """Drop everything remembered."""
        self._next_hops.clear()
        self._counts.clear()

    def next_hops(self, dst: str, medium: Medium) -> dict[str, tuple[Link, ...]]:
        """For every node that reaches dst: the links on which a best path goes on from there, by the name of their end."""
        found = self._next_hops.get((dst, medium))
        if found is None:
            found = self._next_hops[dst, medium] = self._search(dst, medium)
        return found

    def path(self, src: str, dst: str, medium: Medium) -> tuple[Link, ...] | None:
        """The links of a best path from src to dst, always the same of several; None when there is no way."""
        return next((path.links for path in self.paths(src, dst, medium)), None)

    def paths(self, src: str, dst: str, medium: Medium) -> Iterator[Path]:
        """All best paths from src to dst; none when there is no way, and one without links when src is dst."""
        if src == dst:
            yield Path((), 1.0)
            return
        hops = self.next_hops(dst, medium)
        waiting: list[Path] = [Path((link,), 1.0 / len(hops[src])) for link in reversed(hops.get(src, ()))]
        while waiting:
            links, share = waiting.pop()
            node = links[-1].dst
            if node == dst:
                yield Path(links, share)
            else:
                waiting += [Path((*links, link), share / len(hops[node])) for link in reversed(hops[node])]

    def path_count(self, src: str, dst: str, medium: Medium) -> int:
        """How many best paths there are, counted without listing them."""
        self.next_hops(dst, medium)
        return self._counts[dst, medium].get(src, 0)

    def extremes(self, src: str, dst: str, medium: Medium, value: Callable[[Link], int]) -> tuple[int, int]:
        """The least and the greatest sum of a value of the links over all best paths; there has to be one."""
        hops = self.next_hops(dst, medium)
        found = {dst: (0, 0)}
        # In the order of the search every next hop comes before the node itself.
        for node in self._counts[dst, medium]:
            if node != dst:
                sums = [(value(link), *found[link.dst]) for link in hops[node]]
                found[node] = (min(own + least for own, least, _ in sums), max(own + most for own, _, most in sums))
        return found[src]

    def _search(self, dst: str, medium: Medium) -> dict[str, tuple[Link, ...]]:
        """Dijkstra (1959) from the destination backwards, keeping every link that is on a best path."""
        links_to = self._links_to[medium]
        best = {dst: 0}
        queue = [(0, dst)]
        done: set[str] = set()
        counts = {dst: 1}
        found: dict[str, list[Link]] = {}
        while queue:
            total, node = heapq.heappop(queue)
            if node in done:
                continue
            done.add(node)
            if node != dst:
                # Every next hop is nearer to the end, so it was done before.
                counts[node] = sum(counts[link.dst] for link in found[node])
            if node in self._sites and node != dst:
                continue
            for link in links_to.get(node, ()):
                if link.src == dst or not self._is_up(link):
                    continue
                weight = total + self._weight(link)
                known = best.get(link.src)
                if known is None or weight < known:
                    best[link.src] = weight
                    found[link.src] = [link]
                    heapq.heappush(queue, (weight, link.src))
                elif weight == known:
                    found[link.src].append(link)
        self._counts[dst, medium] = counts
        return {node: tuple(sorted(links, key=lambda link: link.dst)) for node, links in found.items()}
