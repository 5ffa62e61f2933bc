"""Every packet's way through the WAN. Pure: frames, times and random numbers come in, frames and times go out.

A packet is walked along its cached route as far as its future is certain: delays, jitter and loss are drawn at once,
and one entry in a heap stands for its arrival. Only a link with a rate has to be asked in the order of arrival, so a
packet with such a link ahead is scheduled to there first and walked on from there. Packets of one path stay in order.

At the end of its walk a packet is delivered to a host, or a router answers it: time exceeded when its TTL ran out on
the way, fragmentation needed or packet too big before a link that cannot take it, network unreachable when there is no
way, an echo reply or port unreachable at the router's own address.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import log

from lab import icmp, ipv4, ipv6, wire
from lab.addresses import Version
from lab.flow import flow_of
from lab.network import Network
from lab.routes import Fork, Goal, Route
from lab.topology import Topology
from lab.wire import HEADER

__all__ = ["Deliver", "Forwarder"]

#: Hand a frame to a host: called with its number and the frame, returns when it was handed over.
Deliver = Callable[[int, bytearray], int]
#: Hosts answer on whole prefixes, so the addresses in use have no natural bound; beyond this many routes start afresh.
_MAX_CACHED_ROUTES = 200_000
#: Deliveries before the sources have their turn, however many are due.
_BURST = 8
_WITH_PORTS = frozenset({6, 17})


class Forwarder(Network):
    """A network in motion: give it what hosts send, ask it what arrives.

    Hosts are numbered as the sites of the topology, from 0. Times are ns of any clock that does not go back. `chance`
    draws evenly from [0, 1), for loss and jitter.
    """

    def __init__(self, topology: Topology, chance: Callable[[], float]) -> None:
        super().__init__(topology)
        self._chance = chance
        #: What each host's destinations lead to.
        self._ways: list[dict[bytes, Route | Fork | None]] = [{} for _ in topology.sites]
        self._heap: list[tuple[int, int, bytearray, Route, int, int, int]] = []
        self._order = 0

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
        """Take a frame that a host sends now. What is not IP or has no addressee is dropped and counted."""
        if not wire.is_ip(frame):
            self.refused += 1
            return
        if frame[HEADER] >> 4 == 4:
            dst, ttl = bytes(frame[HEADER + 16 : HEADER + 20]), frame[HEADER + 8]
        else:
            dst, ttl = bytes(frame[HEADER + 24 : HEADER + 40]), frame[HEADER + 7]
        ways = self._ways[host]
        if dst not in ways:
            if len(ways) >= _MAX_CACHED_ROUTES:
                ways.clear()
            ways[dst] = self.table.from_host(self.plan.site_ids[host], dst)
        way = ways[dst]
        if way is None or ttl == 0:
            self.refused += 1
            return
        route = self.table.choose(way, flow_of(frame)) if isinstance(way, Fork) else way
        self.accepted += 1
        if route.epoch != self.table.epoch:
            route.look(self.table.epoch)
        # The common case: nothing can happen to the packet on its way.
        size = len(frame) - HEADER
        hops = route.hops
        if route.is_even and ttl >= hops and not frame[1] and size <= route.mtu:
            at_ns = now_ns + route.delay_ns
            for mean_ns in route.jitters:
                at_ns -= int(log(1.0 - self._chance()) * mean_ns)
            if at_ns < route.last_ns[hops]:
                at_ns = route.last_ns[hops]
            else:
                route.last_ns[hops] = at_ns
            route.carried += 1
            route.carried_bytes += size
            self._order = order = self._order + 1
            heapq.heappush(self._heap, (at_ns, order, frame, route, hops, hops, now_ns))
        else:
            self._walk(frame, route, 0, now_ns, min(hops, ttl), now_ns, now_ns)

    def advance(self, now_ns: int, deliver: Deliver) -> None:
        """Do what is due by now, or by the time it is done, up to a burst."""
        heap = self._heap
        for _ in range(_BURST):
            if not heap or heap[0][0] > now_ns:
                return
            at_ns, _, frame, route, stage, end, accepted_ns = heapq.heappop(heap)
            if stage < end:
                self._walk(frame, route, stage, at_ns, end, now_ns, accepted_ns)
            elif end == route.hops and route.host >= 0:
                if end > 1:
                    wire.age(frame, end - 1)
                self.delivered += 1
                now_ns = deliver(route.host, frame)
                route.tally.add(now_ns - at_ns, now_ns - accepted_ns)
            else:
                self._answer(frame, route, end, at_ns, now_ns)

    def forget_routes(self) -> None:
        """Find all routes anew: what they know of their links is no longer so."""
        super().forget_routes()
        for ways in self._ways:
            ways.clear()

    def report(self) -> dict[str, object]:
        """What Network.report says, and how many packets are under way."""
        return {**super().report(), "under_way": self.under_way}

    def _schedule(self, at_ns: int, frame: bytearray, route: Route, stage: int, end: int, accepted_ns: int) -> None:
        last_ns = route.last_ns
        if at_ns < last_ns[stage]:
            at_ns = last_ns[stage]
        else:
            last_ns[stage] = at_ns
        self._order += 1
        heapq.heappush(self._heap, (at_ns, self._order, frame, route, stage, end, accepted_ns))

    def _walk(self, frame: bytearray, route: Route, stage: int, at_ns: int, end: int, now_ns: int, accepted_ns: int) -> None:
        """Carry a frame that is at a stage of its route at a time as far as is certain now."""
        links = route.links
        look = wire.shape(frame)
        while stage < end:
            link = links[stage]
            counters = link.counters
            pieces: list[bytearray] | None = None
            if link.mtu is not None and min(look.size, look.segment_size) > link.mtu:
                pieces = wire.fragments(frame, link.mtu)
                if pieces is None:
                    self._turn_back(at_ns, frame, route, stage, accepted_ns)
                    return
                for piece in pieces:
                    self._walk(piece, route, stage, at_ns, end, now_ns, accepted_ns)
                return
            if link.rate_bps is not None:
                if at_ns > now_ns:
                    break
                fits, at_ns = link.transmit(at_ns, look.packets, look.size, look.segment_size) if link.up else (0, at_ns)
                if not fits:
                    counters.dropped += 0 if link.up else look.packets
                    return
                if fits < look.packets:
                    frame = wire.cut(frame, [(0, fits)])[0]
                    look = wire.shape(frame)
            if link.loss_ratio:
                runs = link.survivors(look.packets, self._chance)
                if not runs:
                    return
                if runs != [(0, look.packets)]:
                    pieces = wire.cut(frame, runs)
            at_ns += link.delay_ns
            if link.jitter_ns:
                at_ns += link.wait_ns(self._chance())
            stage += 1
            if pieces is not None:
                for piece in pieces:
                    part = wire.shape(piece)
                    counters.carried += part.packets
                    counters.carried_bytes += part.size
                    self._walk(piece, route, stage, at_ns, end, now_ns, accepted_ns)
                return
            counters.carried += look.packets
            counters.carried_bytes += look.size
        self._schedule(at_ns, frame, route, stage, end, accepted_ns)

    def _turn_back(self, at_ns: int, frame: bytearray, route: Route, stage: int, accepted_ns: int) -> None:
        """Schedule that a packet is too big for the link at a stage. For a host's own link its far end speaks.

        Such an entry of the heap has stage and end below zero: the number of the node that answers, from 1.
        """
        if stage == 0:
            at_ns += route.links[0].delay_ns
        self._order += 1
        node = -max(stage, 1)
        heapq.heappush(self._heap, (at_ns, self._order, frame, route, node, node, accepted_ns))

    def _answer(self, frame: bytearray, route: Route, end: int, at_ns: int, now_ns: int) -> None:
        """The node at the end of a packet's way answers it, where an answer is due."""
        number = abs(end)
        node, medium = route.links[number - 1].configured.dst, route.goal.medium
        look = wire.shape(frame)
        if number > 1:
            wire.age(frame, number - 1)
        packet = wire.finished_packet(frame)
        version: Version = route.goal.version
        router = self.routers.get(node)
        reason: icmp.Reason | None
        reply, mtu = None, 0
        if end < 0:
            reason = "too-big"
            ahead = route.links[0:2] if number == 1 else route.links[number : number + 1]
            size = min(look.size, look.segment_size)
            mtu = next((link.mtu for link in ahead if link.mtu is not None and size > link.mtu), 0)
            if not mtu:
                return
        elif end < route.hops:
            reason = "expired"
        elif route.goal.at_end == "router":
            protocol, offset = (ipv4 if version == 4 else ipv6).upper_layer(packet)
            reason = "port" if protocol in _WITH_PORTS and offset is not None else None
            reply = icmp.echo_reply(packet)
        else:
            reason = "no-route"
        if reply is not None:
            reply = reply if router is None or router.may_reply() else None
        elif reason is not None and icmp.may_be_answered(packet, reason) and (router is None or router.may_send_error(at_ns)):
            speaker = self.plan.packed(node, medium, version)
            reply = icmp.error(speaker, packet, reason, mtu, () if router is None else router.configured.mpls)
        if reply is not None:
            self._send_back(node, reply, route, at_ns, now_ns)

    def _send_back(self, node: str, reply: bytes, route: Route, at_ns: int, now_ns: int) -> None:
        """Put a node's answer on its way to the host that is to have it."""
        goal = self.plan.locate(reply[16:20] if route.goal.version == 4 else reply[24:40])
        if goal is None or goal[0] in self.plan.router_address:
            return
        frame = wire.plain(reply)
        way = self.table.between(node, Goal(goal[0], route.goal.medium, route.goal.version, "host"))
        if way is not None:
            back = self.table.choose(way, flow_of(frame)) if isinstance(way, Fork) else way
            self._walk(frame, back, 0, at_ns, back.hops, now_ns, at_ns)
