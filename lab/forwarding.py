"""Every packet's way through the WAN. Pure: frames, times and random numbers come in, frames and times go out.

A packet is walked along its cached path as far as its future is certain: delays, jitter and loss are drawn at once,
and one entry in a heap stands for its arrival. Only a link with a rate has to be asked in the order of arrival, so a
packet with such a link ahead is scheduled to there first and walked on from there. Packets of one path stay in order.

At the end of its walk a packet is delivered to a host, or a router answers it: time exceeded when its TTL ran out on
the way, network unreachable when there is no way, an echo reply or port unreachable at the router's own address.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import asdict
from difflib import get_close_matches
from random import Random
from typing import Literal

from lab import wire
from lab.addresses import AddressPlan, pack
from lab.links import Change, LinkState
from lab.paths import PathFinder
from lab.routers import RouterChange, RouterState
from lab.topology import Link, Router, Topology
from records.errors import UserError
from records.link import MEDIA, Medium

__all__ = ["Forwarder"]

Deliver = Callable[[int, bytearray], None]
_AT_END = Literal["host", "router", "unreachable"]
_DST = slice(wire.HEADER + 16, wire.HEADER + 20)
_TTL = wire.HEADER + 8
#: Hosts answer on whole /16s, so the addresses in use have no natural bound; beyond this many routes start afresh.
_MAX_CACHED_ROUTES = 200_000


class _Route:
    """A path as packets travel it now, with the latest time anything was scheduled at each of its stages."""

    __slots__ = ("at_end", "host", "last_ns", "links", "medium")

    def __init__(self, links: tuple[LinkState, ...], medium: Medium, at_end: _AT_END, host: int = -1) -> None:
        self.links = links
        self.medium = medium
        self.at_end = at_end
        self.host = host
        self.last_ns = [0] * (len(links) + 1)


class Forwarder:
    """The network of one topology: give it what hosts send, ask it what arrives.

    Hosts are numbered as the sites of the topology, from 0. Times are ns of any clock that does not go back.
    """

    def __init__(self, topology: Topology, random: Random | None = None) -> None:
        self.topology = topology
        self.plan = AddressPlan(topology)
        self.states = {link.key: LinkState(link) for link in topology.links}
        self.routers = {router.id: RouterState(router) for router in topology.routers}
        self.finder = PathFinder(topology, lambda link: self.states[link.key].up, lambda link: self.states[link.key].weight)
        self._random = (random or Random(topology.seed)).random  # noqa: S311  # chance in a model, nothing secret
        self._routes: dict[tuple[int, bytes], _Route | None] = {}
        self._path_routes: dict[tuple[str, str, Medium, _AT_END], _Route | None] = {}
        self._heap: list[tuple[int, int, bytearray, _Route, int, int]] = []
        self._order = 0
        self.accepted = self.delivered = self.refused = 0

    @property
    def due_ns(self) -> int | None:
        """When something is next to be done; None when nothing is under way."""
        return self._heap[0][0] if self._heap else None

    @property
    def is_arrival_next(self) -> bool:
        """Whether what is next to be done is a packet's arrival at its end, not a link on its way."""
        return bool(self._heap) and self._heap[0][4] == self._heap[0][5]

    @property
    def under_way(self) -> int:
        """How many packets are on their way."""
        return len(self._heap)

    def accept(self, host: int, frame: bytearray, now_ns: int) -> None:
        """Take a frame that a host sends now. What is not IPv4 or has no addressee is dropped and counted."""
        if not wire.is_ipv4(frame):
            self.refused += 1
            return
        key = (host, bytes(frame[_DST]))
        try:
            route = self._routes[key]
        except KeyError:
            if len(self._routes) >= _MAX_CACHED_ROUTES:
                self._routes.clear()
            route = self._routes[key] = self._route_of(host, key[1])
        ttl = frame[_TTL]
        if route is None or ttl == 0:
            self.refused += 1
            return
        self.accepted += 1
        self._walk(frame, route, 0, now_ns, min(len(route.links), ttl), now_ns)

    def advance(self, now_ns: int, deliver: Deliver) -> None:
        """Do everything that is due by now; `deliver` is called with the host and the frame it receives."""
        heap = self._heap
        while heap and heap[0][0] <= now_ns:
            at_ns, _, frame, route, stage, end = heapq.heappop(heap)
            if stage < end:
                self._walk(frame, route, stage, at_ns, end, now_ns)
            elif end == len(route.links) and route.host >= 0:
                if end > 1:
                    wire.age(frame, end - 1)
                self.delivered += 1
                deliver(route.host, frame)
            else:
                self._answer(frame, route, end, at_ns, now_ns)

    def change(self, src: str, dst: str, medium: Medium | None, change: Change) -> None:
        """Change the directed link src -> dst from now on; packets already past it are not touched.

        Raises UserError when there is no such link, or several over different media and `medium` does not say which.
        """
        found = [key for key in self.states if key[:2] == (src, dst) and medium in (None, key[2])]
        if len(found) != 1:
            if found:
                raise UserError(f"{src} and {dst} are joined over {', '.join(key[2] for key in found)}; say which medium")
            near = sorted({key[1] for key in self.states if key[0] == src})
            hint = f"{src} is joined to {', '.join(near)}" if near else f"there is no site or router {src!r}"
            raise UserError(f"there is no link from {src!r} to {dst!r}; {hint}")
        self.states[found[0]].change(change)
        self._forget()

    def change_router(self, router: str, change: RouterChange) -> None:
        """Change a router from now on; raises UserError naming the routers most alike."""
        if router not in self.routers:
            near = get_close_matches(router, self.routers, n=3)
            raise UserError(f"there is no router {router!r}" + (f"; did you mean {', '.join(near)}" if near else ""))
        self.routers[router].change(change)

    def change_site(self, site: str, op: Literal["fail", "restore"]) -> None:
        """Fail or restore all links of a site at once, in both directions; raises UnknownSite."""
        site = self.topology.site(site).id
        if op not in ("fail", "restore"):
            raise UserError(f"cannot {op!r} a site; fail or restore it")
        for key, state in self.states.items():
            if site in key[:2]:
                state.change(Change(op=op))
        self._forget()

    def _forget(self) -> None:
        """Find all ways anew."""
        self.finder.forget()
        self._routes.clear()
        self._path_routes.clear()

    def changed(self) -> list[tuple[bool, Link]]:
        """Every link that is not as the topology says: whether it is up, and its values now."""
        return [(state.up, state.current()) for state in self.states.values() if not state.up or state.current() != state.configured]

    def changed_routers(self) -> list[Router]:
        """Every router that is not as the topology says, as it is now."""
        return [state.current() for state in self.routers.values() if state.current() != state.configured]

    def report(self) -> dict[str, object]:
        """Counts of packets, every link that carried, lost or dropped any, every router that sent ICMP; ready for JSON."""
        links = [
            {"src": src, "dst": dst, "medium": medium, "up": state.up, **asdict(state.counters)}
            for (src, dst, medium), state in self.states.items()
            if not state.up or any(asdict(state.counters).values())
        ]
        counts = {"accepted": self.accepted, "delivered": self.delivered, "refused": self.refused, "under_way": self.under_way}
        routers = [
            {"router": router, **asdict(state.counters)} for router, state in self.routers.items() if any(asdict(state.counters).values())
        ]
        return {**counts, "links": links, "routers": routers}

    def _route_of(self, host: int, dst: bytes) -> _Route | None:
        """The way of a packet from a host to an address; None when nothing at all can take it."""
        src = self.plan.site_ids[host]
        goal = self.plan.locate(dst)
        if goal is not None:
            node, medium = goal
            route = self._path_route(src, node, medium, "router" if node in self.plan.router_address else "host")
            if route is not None:
                return route
        # No way: the nearest router of the medium says so, or of any other when the host has no link of that medium.
        media = MEDIA if goal is None else (goal[1], *MEDIA)
        for medium in media:
            links = [state.configured for state in self.states.values() if state.up and state.configured.src == src]
            routers = [link for link in links if link.medium == medium and link.dst in self.plan.router_address]
            if routers:
                nearest = min(routers, key=lambda link: (link.delay_ns, link.dst))
                return self._path_route(src, nearest.dst, medium, "unreachable")
        return None

    def _path_route(self, src: str, dst: str, medium: Medium, at_end: _AT_END) -> _Route | None:
        key = (src, dst, medium, at_end)
        if key not in self._path_routes:
            links = self.finder.path(src, dst, medium)
            route = None
            if links:
                host = self.plan.host_number[dst] - 1 if at_end == "host" else -1
                route = _Route(tuple(self.states[link.key] for link in links), medium, at_end, host)
            self._path_routes[key] = route
        return self._path_routes[key]

    def _schedule(self, at_ns: int, frame: bytearray, route: _Route, stage: int, end: int) -> None:
        last_ns = route.last_ns
        if at_ns < last_ns[stage]:
            at_ns = last_ns[stage]
        else:
            last_ns[stage] = at_ns
        self._order += 1
        heapq.heappush(self._heap, (at_ns, self._order, frame, route, stage, end))

    def _walk(self, frame: bytearray, route: _Route, stage: int, at_ns: int, end: int, now_ns: int) -> None:
        """Carry a frame that is at a stage of its route at a time as far as is certain now."""
        links = route.links
        while stage < end:
            link = links[stage]
            counters = link.counters
            if link.rate_bps is not None:
                if at_ns > now_ns:
                    break
                look = wire.shape(frame)
                fits, at_ns = link.transmit(at_ns, look.packets, look.size, look.segment_size) if link.up else (0, at_ns)
                if not fits:
                    counters.dropped += 0 if link.up else look.packets
                    return
                if fits < look.packets:
                    frame = wire.cut(frame, [(0, fits)])[0]
            pieces = None
            if link.loss_ratio:
                count = wire.shape(frame).packets
                runs = link.survivors(count, self._random)
                if not runs:
                    return
                if runs != [(0, count)]:
                    pieces = wire.cut(frame, runs)
            at_ns += link.delay_ns
            if link.jitter_ns:
                at_ns += link.wait_ns(self._random())
            stage += 1
            if pieces is not None:
                for piece in pieces:
                    counters.carried += 1
                    counters.carried_bytes += len(piece) - wire.HEADER
                    self._walk(piece, route, stage, at_ns, end, now_ns)
                return
            counters.carried += 1
            counters.carried_bytes += len(frame) - wire.HEADER
        self._schedule(at_ns, frame, route, stage, end)

    def _answer(self, frame: bytearray, route: _Route, end: int, at_ns: int, now_ns: int) -> None:
        """A router at the end of a packet's way answers it, where an answer is due."""
        router = route.links[end - 1].configured.dst
        if end > 1:
            wire.age(frame, end - 1)
        packet = wire.finished_packet(frame)
        address = pack(self.plan.router_address[router])
        state = self.routers[router]
        reply: bytearray | None = None
        if end == len(route.links) and route.at_end == "router":
            reply = wire.echo_reply(packet)
            kind = wire.PORT_UNREACHABLE if packet[9] != 1 else None
        else:
            kind = wire.TTL_EXCEEDED if end < len(route.links) else wire.NET_UNREACHABLE
        if reply is not None:
            reply = reply if state.may_reply() else None
        elif kind is not None and wire.may_be_answered(packet) and state.may_send_error(at_ns):
            reply = wire.icmp_error(address, packet, kind)
        if reply is None:
            return
        goal = self.plan.locate(packet[12:16])
        if goal is None or goal[0] in self.plan.router_address:
            return
        back = self._path_route(router, goal[0], route.medium, "host")
        if back is not None:
            self._walk(reply, back, 0, at_ns, len(back.links), now_ns)
