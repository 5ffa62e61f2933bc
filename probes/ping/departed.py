"""Packets that have left and are not answered, by token; and when the time of which is over. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from probes.ping.packet import Probe

__all__ = ["MEMORY_NS", "REMEMBERED", "Departed"]

#: How long a settled packet is remembered, so that its late replies are told from foreign ones; and how many at most.
MEMORY_NS = 5_000_000_000
REMEMBERED = 65_536


@dataclass(slots=True, eq=False)
class _Flight:
    """Tokens of packets that left together and time out together. The first `seen` of them are known to be answered."""

    deadline_ns: int
    tokens: list[int]
    seen: int = 0

    def is_answered(self, unanswered: Container[int]) -> bool:
        """All are; each is looked up once."""
        tokens, seen = self.tokens, self.seen
        while seen < len(tokens) and tokens[seen] not in unanswered:
            seen += 1
        self.seen = seen
        return seen == len(tokens)


class Departed:
    """Packets that have left.

    unanswered   by token: in flight, or given up lately; whoever has an answer takes the packet out
    """

    def __init__(self) -> None:
        self.unanswered: dict[int, Probe] = {}
        # By time-out: packets leave in order, so those of one time-out also end in order.
        self._flights: dict[int, deque[_Flight]] = {}
        self._given_up: deque[_Flight] = deque()
        self._given_up_count = 0

    def add(self, probes: Sequence[Probe]) -> None:
        """These packets have left, all of them at the reading of the clocks that the first holds now."""
        unanswered, before_ns = self.unanswered, probes[0].before.mono_ns
        together: dict[int, list[int]] = {}
        timeout_ns, tokens = -1, []
        for probe in probes:
            token = probe.token
            unanswered[token] = probe
            if probe.round.timeout_ns != timeout_ns:
                timeout_ns = probe.round.timeout_ns
                tokens = together.setdefault(timeout_ns, [])
            tokens.append(token)
        for timeout_ns, tokens in together.items():
            flights = self._flights.get(timeout_ns)
            if flights is None:
                flights = self._flights[timeout_ns] = deque()
            flights.append(_Flight(before_ns + timeout_ns, tokens))

    def due(self, now_ns: int) -> Iterator[Probe]:
        """The packets in flight whose time is over, the first that left first; settle each before the next is asked for."""
        unanswered = self.unanswered
        for timeout_ns, flights in list(self._flights.items()):
            while flights and flights[0].deadline_ns <= now_ns:
                flight = flights.popleft()
                flight.tokens = [token for token in flight.tokens if token in unanswered]
                for token in flight.tokens:
                    if unanswered[token].is_in_flight:
                        yield unanswered[token]
                self._given_up.append(flight)
                self._given_up_count += len(flight.tokens)
            if not flights:
                del self._flights[timeout_ns]

    def forget(self, now_ns: int) -> None:
        """Forget what was given up long ago."""
        given_up, old_ns = self._given_up, now_ns - MEMORY_NS
        while given_up and (given_up[0].deadline_ns <= old_ns or self._given_up_count > REMEMBERED):
            tokens = given_up.popleft().tokens
            self._given_up_count -= len(tokens)
            for token in tokens:
                self.unanswered.pop(token, None)

    def next_ns(self) -> int | None:
        """When the next time is over of packets of which not all are answered; None: of none."""
        soonest_ns = None
        for flights in self._flights.values():
            while flights and flights[0].is_answered(self.unanswered):
                flights.popleft()
            if flights and (soonest_ns is None or flights[0].deadline_ns < soonest_ns):
                soonest_ns = flights[0].deadline_ns
        return soonest_ns
