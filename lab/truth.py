"""The truth of a lab: what every pair of sites must measure over every medium, computed from what was configured."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import islice

from lab.addresses import AddressPlan
from lab.paths import Path, PathFinder
from lab.topology import Link, Topology
from records.link import MEDIA, Medium

__all__ = ["MAX_PATHS", "PairTruth", "PathTruth", "pair_truths"]

#: Equally good paths that are listed for a pair; a chain of diamonds has 2 to the power of their number.
MAX_PATHS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTruth:
    """One way from one site to another.

    share           of the flows that take it, when they spread evenly; 1.0 without ECMP
    delay_ns        one way, of a tiny packet, without jitter or queues
    jitter_ns       mean of the waits that jitter adds
    loss_ratio      probability that a packet is lost
    bottleneck_bps  least rate, bits of IP packets per second; None when nothing limits it
    mtu             bytes of the longest IP packet that passes; None when no link limits it
    hops            IPv4 addresses that a traceroute sees: every router, then the destination
    hops_v6         the same over IPv6
    nodes           the same by name: router ids, then the site
    silent          those of the nodes that answer nothing: a traceroute sees no address there
    """

    share: float
    delay_ns: int
    jitter_ns: int
    loss_ratio: float
    bottleneck_bps: int | None
    mtu: int | None
    hops: tuple[str, ...]
    hops_v6: tuple[str, ...]
    nodes: tuple[str, ...]
    silent: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTruth:
    """What is configured between two sites over one medium, there and back. All but the addresses holds for both IP versions.

    With ECMP there are several `paths` or `reverse_paths`; the fields that say one value are those of the first of each.

    address         where src reaches dst over IPv4; address_v6 over IPv6 (None in a lab without it)
    rtt_ns          forward_ns + reverse_ns: the least round-trip time of a tiny packet, without jitter or queues
    rtt_min_ns      the least and the greatest sum of a path there and one back
    forward_ns      one-way delay from src to dst; reverse_ns that of the way back (it may take another path)
    jitter_ns       mean of the waits that jitter adds to a round trip
    loss_ratio      probability that an echo is not answered: lost there or on the way back
    bottleneck_bps  least rate on the way there, bits of IP packets per second; None when nothing limits it
    mtu             bytes of the longest IP packet that passes on the way there; None when no link limits it
    hops            addresses that a traceroute from src sees: every router, then the destination; hops_v6 over IPv6
    nodes           the same hops by name: router ids, then the site
    silent          those of the nodes that answer nothing: a traceroute sees no address there
    paths           every best path there, at most MAX_PATHS; reverse_paths those back, as seen from dst
    path_count      how many there are; reverse_path_count of those back
    """

    src: str
    dst: str
    medium: Medium
    address: str
    rtt_ns: int
    forward_ns: int
    reverse_ns: int
    jitter_ns: int
    loss_ratio: float
    bottleneck_bps: int | None
    hops: tuple[str, ...]
    nodes: tuple[str, ...]
    address_v6: str | None
    hops_v6: tuple[str, ...]
    mtu: int | None
    silent: tuple[str, ...]
    rtt_min_ns: int
    rtt_max_ns: int
    path_count: int
    reverse_path_count: int
    paths: tuple[PathTruth, ...]
    reverse_paths: tuple[PathTruth, ...]


def pair_truths(
    topology: Topology,
    finder: PathFinder | None = None,
    changed: Mapping[tuple[str, str, Medium], Link] | None = None,
    silent: Collection[str] | None = None,
) -> list[PairTruth]:
    """Every ordered pair of different sites and every medium that joins them both ways, in the topology's order.

    finder   says which way packets go; None for the topology as configured
    changed  links that are not as configured, with their values now
    silent   the routers that are silent now; None for those the topology says
    """
    now = changed or {}
    finder = finder or PathFinder(topology)
    quiet = frozenset(router.id for router in topology.routers if router.silent) if silent is None else frozenset(silent)
    teller = _Teller(finder, AddressPlan(topology), lambda link: now.get(link.key, link), quiet)
    sites = [site.id for site in topology.sites]
    pairs = ((src, dst, medium) for src in sites for dst in sites if src != dst for medium in MEDIA)
    return [teller.pair(*pair) for pair in pairs if finder.path_count(*pair) and finder.path_count(pair[1], pair[0], pair[2])]


class _Teller:
    """Tells pairs; `now` gives a link with its values of now."""

    def __init__(self, finder: PathFinder, plan: AddressPlan, now: Callable[[Link], Link], silent: frozenset[str]) -> None:
        self.finder = finder
        self.plan = plan
        self.now = now
        self.silent = silent
        self.told: dict[tuple[str, str, Medium], tuple[PathTruth, ...]] = {}

    def paths(self, src: str, dst: str, medium: Medium) -> tuple[PathTruth, ...]:
        key = (src, dst, medium)
        if key not in self.told:
            self.told[key] = tuple(self._path(path, medium) for path in islice(self.finder.paths(src, dst, medium), MAX_PATHS))
        return self.told[key]

    def _path(self, path: Path, medium: Medium) -> PathTruth:
        links = [self.now(link) for link in path.links]
        nodes = tuple(link.dst for link in links)
        return PathTruth(
            share=path.share,
            delay_ns=sum(link.delay_ns for link in links),
            jitter_ns=sum(link.jitter_ns for link in links),
            loss_ratio=1.0 - math.prod(1.0 - link.loss_ratio for link in links),
            bottleneck_bps=min((link.rate_bps for link in links if link.rate_bps is not None), default=None),
            mtu=min((link.mtu for link in links if link.mtu is not None), default=None),
            hops=tuple(self.plan.of_node(node, medium) for node in nodes),
            hops_v6=tuple(self.plan.of_node(node, medium, 6) for node in nodes),
            nodes=nodes,
            silent=tuple(node for node in nodes if node in self.silent),
        )

    def pair(self, src: str, dst: str, medium: Medium) -> PairTruth:
        ways, back_ways = self.paths(src, dst, medium), self.paths(dst, src, medium)
        there, back = ways[0], back_ways[0]
        delays = [self.finder.extremes(*pair, medium, lambda link: self.now(link).delay_ns) for pair in ((src, dst), (dst, src))]
        return PairTruth(
            src=src,
            dst=dst,
            medium=medium,
            address=self.plan.of_site(dst, medium),
            rtt_ns=there.delay_ns + back.delay_ns,
            forward_ns=there.delay_ns,
            reverse_ns=back.delay_ns,
            jitter_ns=there.jitter_ns + back.jitter_ns,
            loss_ratio=1.0 - (1.0 - there.loss_ratio) * (1.0 - back.loss_ratio),
            bottleneck_bps=there.bottleneck_bps,
            hops=there.hops,
            nodes=there.nodes,
            address_v6=self.plan.of_site(dst, medium, 6),
            hops_v6=there.hops_v6,
            mtu=there.mtu,
            silent=there.silent,
            rtt_min_ns=sum(least for least, _ in delays),
            rtt_max_ns=sum(most for _, most in delays),
            path_count=self.finder.path_count(src, dst, medium),
            reverse_path_count=self.finder.path_count(dst, src, medium),
            paths=ways,
            reverse_paths=back_ways,
        )
