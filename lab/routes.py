"""Routes: paths as packets travel them now, found once per destination address and, over ECMP, once per branch. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

from lab.addresses import AddressPlan, Version
from lab.flow import branch
from lab.links import LinkState
from lab.observed import Tally
from lab.paths import PathFinder
from lab.topology import Link
from records.link import MEDIA, Medium

__all__ = ["Fork", "Goal", "Route", "RouteTable"]

Key = tuple[str, str, Medium]
_NO_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a route leads: a node over a medium, for one IP version, and what becomes of packets at its end.

    at_end  ``host``: they are delivered; ``router``: its address is theirs; ``unreachable``: the router knows no way
    """

    node: str
    medium: Medium
    version: Version
    at_end: Literal["host", "router", "unreachable"]


class Route:
    """One path to a goal, and what a packet on it needs to know.

    epoch     of the table when the route last looked at its links
    hops      number of links
    host      number of the host that packets are delivered to; -1 when they end at a router
    is_even   no link loses, limits or is down: every packet passes all of them, in `delay_ns` plus the jitter of `jitters`
    mtu       least MTU of the links
    last_ns   the latest time anything was scheduled at each stage, so that packets stay in order
    carried   packets, and their bytes, that passed the whole even route and are not yet in the counters of its links
    """

    __slots__ = (
        "carried", "carried_bytes", "delay_ns", "epoch", "goal", "hops", "host", "is_even", "jitters", "last_ns", "links", "mtu", "tally",
    )  # fmt: skip

    def __init__(self, links: tuple[LinkState, ...], goal: Goal, host: int, tally: Tally, epoch: int) -> None:
        self.links = links
        self.goal = goal
        self.host = host
        self.hops = len(links)
        self.tally = tally
        self.last_ns = [0] * (len(links) + 1)
        self.carried = self.carried_bytes = 0
        self.look(epoch)

    def look(self, epoch: int) -> None:
        """Take over what the links are like now."""
        links = self.links
        self.epoch = epoch
        self.is_even = all(link.up and link.rate_bps is None and not link.loss_ratio for link in links)
        self.delay_ns = sum(link.delay_ns for link in links)
        self.jitters = tuple(link.jitter_ns for link in links if link.jitter_ns)
        self.mtu = min((link.mtu for link in links if link.mtu is not None), default=_NO_LIMIT)

    def settle(self) -> None:
        """Move what the route has counted into the counters of its links."""
        for link in self.links:
            link.counters.carried += self.carried
            link.counters.carried_bytes += self.carried_bytes
        self.carried = self.carried_bytes = 0


class Fork:
    """A node where a path goes on in several ways; what is behind each is found when the first packet takes it."""

    __slots__ = ("goal", "links", "salt", "so_far", "src", "ways")

    def __init__(self, node: str, so_far: tuple[LinkState, ...], links: tuple[Link, ...], goal: Goal, src: str) -> None:
        self.salt = crc32(node.encode())
        self.goal = goal
        self.src = src
        self.so_far = so_far
        self.links = links
        self.ways: list[Route | Fork | None] = [None] * len(links)


class RouteTable:
    """All routes of a network as it is now.

    `forget` when a link went up or down or its weight changed; count `epoch` up when anything else of a link did, so that
    every route looks at its links again before the next packet.
    """

    def __init__(self, plan: AddressPlan, states: Mapping[Key, LinkState], finder: PathFinder) -> None:
        self._plan = plan
        self._states = states
        self._finder = finder
        self._first: dict[tuple[str, Goal], Route | Fork | None] = {}
        self._routes: list[Route] = []
        self.epoch = 0
        #: By source, destination, medium and version: packets from site to site; the source is None for routers' answers.
        self.tallies: dict[tuple[str | None, str, Medium, Version], Tally] = {}

    def forget(self) -> None:
        """Find all routes anew; what they have counted is kept."""
        self.settle()
        self._first.clear()
        self._routes.clear()

    def settle(self) -> None:
        """Bring the counters of all links up to date."""
        for route in self._routes:
            if route.carried:
                route.settle()

    def from_host(self, src: str, dst: bytes) -> Route | Fork | None:
        """The way of a packet from a site to a packed address; None when nothing at all can take it."""
        plan = self._plan
        version: Version = 4 if len(dst) == 4 else 6
        located = plan.locate(dst)
        if located is not None:
            node, medium = located
            way = self.between(src, Goal(node, medium, version, "router" if node in plan.router_address else "host"))
            if way is not None:
                return way
        # No way: the nearest router of the medium says so, or of any other when the host has no link of that medium.
        media = MEDIA if located is None else (located[1], *MEDIA)
        links = [state.configured for state in self._states.values() if state.up and state.configured.src == src]
        for medium in media:
            routers = [link for link in links if link.medium == medium and link.dst in plan.router_address]
            if routers:
                nearest = min(routers, key=lambda link: (link.delay_ns, link.dst))
                return self.between(src, Goal(nearest.dst, medium, version, "unreachable"))
        return None

    def between(self, src: str, goal: Goal) -> Route | Fork | None:
        """The way from a node to a goal; None when there is none, or when it is there already."""
        key = (src, goal)
        if key not in self._first:
            self._first[key] = None if src == goal.node else self._onward(src, (), goal, src)
        return self._first[key]

    def choose(self, fork: Fork, flow: int) -> Route:
        """The route of a flow at a fork."""
        way: Route | Fork = fork
        while isinstance(way, Fork):
            taken = branch(flow, way.salt, len(way.links))
            onward = way.ways[taken]
            if onward is None:
                link = way.links[taken]
                onward = self._onward(link.dst, (*way.so_far, self._states[link.key]), way.goal, way.src)
                assert onward is not None
                way.ways[taken] = onward
            way = onward
        return way

    def _onward(self, node: str, so_far: tuple[LinkState, ...], goal: Goal, src: str) -> Route | Fork | None:
        """From a node on to the goal, as far as there is one way only."""
        hops = self._finder.next_hops(goal.node, goal.medium)
        while node != goal.node:
            links = hops.get(node, ())
            if len(links) > 1:
                return Fork(node, so_far, links, goal, src)
            if not links:
                return None
            so_far = (*so_far, self._states[links[0].key])
            node = links[0].dst
        plan = self._plan
        if goal.at_end == "host":
            pair = (src if src in plan.host_number else None, goal.node, goal.medium, goal.version)
            route = Route(so_far, goal, plan.host_number[node] - 1, self.tallies.setdefault(pair, Tally()), self.epoch)
        else:
            route = Route(so_far, goal, -1, Tally(), self.epoch)
        self._routes.append(route)
        return route
