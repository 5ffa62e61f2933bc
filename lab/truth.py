"""The truth of a lab: what every pair of sites must measure over every medium, computed from what was configured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lab.addresses import AddressPlan
from lab.paths import PathFinder
from lab.topology import Link, Topology
from records.link import MEDIA, Medium

__all__ = ["PairTruth", "pair_truths"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTruth:
    """What is configured between two sites over one medium, there and back.

    address         where src reaches dst
    rtt_ns          forward_ns + reverse_ns: the least round-trip time of a tiny packet, without jitter or queues
    forward_ns      one-way delay from src to dst; reverse_ns that of the way back (it may take another path)
    jitter_ns       mean of the waits that jitter adds to a round trip
    loss_ratio      probability that an echo is not answered: lost there or on the way back
    bottleneck_bps  least rate on the way there, bits of IP packets per second; None when nothing limits it
    hops            addresses that a traceroute from src sees: every router, then the destination
    nodes           the same hops by name: router ids, then the site
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


def pair_truths(
    topology: Topology,
    finder: PathFinder | None = None,
    changed: Mapping[tuple[str, str, Medium], Link] | None = None,
) -> list[PairTruth]:
    """Every ordered pair of different sites and every medium that joins them both ways, in the topology's order.

    finder   says which way packets go; None for the topology as configured
    changed  links that are not as configured, with their values now
    """
    now = changed or {}
    finder = finder or PathFinder(topology)
    plan = AddressPlan(topology)
    found = []
    for src in plan.site_ids:
        for dst in plan.site_ids:
            for medium in MEDIA:
                there = finder.path(src, dst, medium)
                back = finder.path(dst, src, medium)
                if there and back:
                    ways = [tuple(now.get(link.key, link) for link in path) for path in (there, back)]
                    found.append(_truth(plan, medium, *ways))
    return found


def _truth(plan: AddressPlan, medium: Medium, there: tuple[Link, ...], back: tuple[Link, ...]) -> PairTruth:
    forward_ns, reverse_ns = (sum(link.delay_ns for link in path) for path in (there, back))
    rates = [link.rate_bps for link in there if link.rate_bps is not None]
    nodes = tuple(link.dst for link in there)
    return PairTruth(
        src=there[0].src,
        dst=nodes[-1],
        medium=medium,
        address=plan.of_site(nodes[-1], medium),
        rtt_ns=forward_ns + reverse_ns,
        forward_ns=forward_ns,
        reverse_ns=reverse_ns,
        jitter_ns=sum(link.jitter_ns for link in (*there, *back)),
        loss_ratio=1.0 - math.prod(1.0 - link.loss_ratio for link in (*there, *back)),
        bottleneck_bps=min(rates, default=None),
        hops=tuple(plan.of_node(node, medium) for node in nodes),
        nodes=nodes,
    )
