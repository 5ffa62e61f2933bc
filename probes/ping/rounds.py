"""Rounds by where they go, to find what a message is about that is no first answer: an error, a duplicate. Pure."""

from __future__ import annotations

from collections import deque

from probes.ping.departed import MEMORY_NS, REMEMBERED
from probes.ping.packet import Probe, Round

__all__ = ["Rounds"]


class Rounds:
    """Rounds under way, and those that ended lately."""

    def __init__(self) -> None:
        self._by_peer: dict[object, list[Round]] = {}
        self._ended: list[Round] = []
        self._to_forget: deque[tuple[int, Round]] = deque()
        self._kept_packets = 0

    def add(self, new: Round) -> None:
        """It begins."""
        self._by_peer.setdefault(new.peer, []).append(new)

    def end(self, old: Round) -> None:
        """It is done."""
        self._ended.append(old)

    def forget(self, now_ns: int) -> None:
        """Forget what ended long ago."""
        to_forget = self._to_forget
        for of in self._ended:
            to_forget.append((now_ns + MEMORY_NS, of))
            self._kept_packets += len(of.tokens)
        self._ended.clear()
        while to_forget and (to_forget[0][0] <= now_ns or self._kept_packets > REMEMBERED):
            _, of = to_forget.popleft()
            self._kept_packets -= len(of.tokens)
            rounds = self._by_peer[of.peer]
            rounds.remove(of)
            if not rounds:
                del self._by_peer[of.peer]

    def by_token(self, peer: object, token: int) -> Round | None:
        """The round to `peer` of whose packets that have left one bears this token."""
        return next((of for of in self._by_peer.get(peer, ()) if of.has_sent(token)), None)

    def by_number(self, peer: object, number: int) -> Round | None:
        """The round to `peer` of whose packets that were taken one bears this number."""
        return next((of for of in self._by_peer.get(peer, ()) if of.has(number)), None)

    def oldest_in_flight(self, peer: object) -> Probe | None:
        """The packet to `peer` that has been in flight for longest."""
        packets = (packet for of in self._by_peer.get(peer, ()) for packet in of.packets)
        in_flight = [packet for packet in packets if isinstance(packet, Probe) and packet.is_in_flight]
        return min(in_flight, key=lambda probe: probe.before.mono_ns, default=None)
