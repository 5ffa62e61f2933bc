"""Echo rounds in flight: a state machine without socket, clock or randomness.

The life of a probe packet::

    planned --handed over--> in flight --reply in time--> reply
       |                        |---- deadline ---------> timeout     (a reply after that marks it late)
       |                        '---- ICMP error -------> unreachable (a reply in time still makes it a reply:
       |                                                               an error can be forged, a token hardly)
       '----- send failed ----> send_failed

A reply is ours when its 64-bit token is that of a probe packet handed over and its source is the address that
packet went to. Everything else is counted as foreign and changes nothing. A round is done when none of its packets
is planned or in flight.

Only the next packet of a round is planned; it plans the one after it. So a hundred rounds of a thousand packets are a
hundred entries of the plan, and a packet takes memory from when it leaves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from probes.ping.pace import Pacer
from probes.ping.packet import Probe, Round, host_of
from probes.ping.timing import Reading, Sent, round_trip
from records.ping import PingOutcome

__all__ = ["Counters", "EchoSession", "Probe", "Round", "Verdict", "host_of"]

#: How long a settled packet is remembered, so that its late replies are told from foreign ones; and how many at most.
_MEMORY_NS = 5_000_000_000
_REMEMBERED = 65_536


class Verdict(Enum):
    """What an incoming message turned out to be."""

    REPLY = auto()
    DUPLICATE = auto()
    LATE = auto()
    ERROR = auto()
    FOREIGN = auto()


@dataclass(slots=True)
class Counters:
    """What the engine has seen since it was opened. `foreign`: messages that match no probe packet of ours."""

    sent: int = 0
    send_failed: int = 0
    replies: int = 0
    duplicates: int = 0
    late: int = 0
    errors: int = 0
    foreign: int = 0


def _next_of_round(probe: Probe) -> tuple[int, Probe] | None:
    """What is planned in the place of a packet that leaves; nothing for one that had been postponed or given up."""
    if probe.outcome is not None or probe.sequence + 1 != len(probe.round.probes):
        return None
    following = probe.round.next_probe()
    return None if following is None else (following.due_ns, following)


class EchoSession:
    """All rounds of one engine. Call `take`, hand the packet over, report it; feed what comes in; call `expire`."""

    def __init__(self, pacer: Pacer[Probe]) -> None:
        self.counters = Counters()
        self._pacer = pacer
        self._by_token: dict[int, Probe] = {}
        self._by_number: dict[int, Probe] = {}
        # By time-out: packets leave in order, so those of one time-out also end in order.
        self._flights: dict[int, deque[Probe]] = {}
        self._forget: deque[Probe] = deque()
        self._finished: list[Round] = []
        self._numbered = 0

    def begin(
        self,
        peer: object,
        *,
        tokens: Sequence[int],
        interval_ns: int,
        timeout_ns: int,
        payload_bytes: int,
        now_ns: int,
        first_ns: int | None = None,
        flow: int = 0,
    ) -> Round:
        """Plan one packet per token, `interval_ns` apart, the first at `first_ns` (now by default)."""
        new = Round(
            peer,
            timeout_ns,
            payload_bytes,
            tokens,
            self._numbered & 0xFFFF,
            now_ns if first_ns is None else first_ns,
            interval_ns,
            flow,
            open_count=len(tokens),
        )
        self._numbered += len(tokens)
        self._plan_next(new)
        if new.done:
            self._finished.append(new)
        return new

    def _plan_next(self, of: Round) -> None:
        probe = of.next_probe()
        if probe is not None:
            self._pacer.plan(probe.due_ns, probe)

    def cancel(self, old: Round) -> None:
        """Nobody waits for this round any more: send no more of it. What is in flight runs out by itself."""
        old.is_cancelled = True
        for probe in old.probes:
            if probe.outcome is None and probe.sent is None:
                probe.outcome = "send_failed"
        old.open_count = sum(probe.outcome is None for probe in old.probes)

    def abandon(self, old: Round, now: Reading) -> None:
        """The engine closes: what is in flight is given up as timed out, what is planned was never sent."""
        while old.next_probe() is not None:
            pass
        for probe in old.probes:
            if probe.outcome is None and probe.sent is not None:
                self._settle(probe, "timeout")
            elif probe.outcome is None:
                self.failed(probe, now, "ECANCELED")

    def take(self, now_ns: int) -> Probe | None:
        """The next packet to hand to the kernel now, None when there is none; report back with `sent` or `failed`."""
        take = self._pacer.take
        while (probe := take(now_ns, _next_of_round)) is not None:
            if probe.outcome is None:
                return probe
            self._pacer.give_back()
        return None

    def take_all(self, now_ns: int, at_most: int) -> list[Probe]:
        """The next packets to hand to the kernel now, up to `at_most`; report back with `sent`, `sent_all` or `failed`."""
        taken = self._pacer.take_all(now_ns, at_most, _next_of_round)
        wanted = [probe for probe in taken if probe.outcome is None]
        for _ in range(len(taken) - len(wanted)):
            self._pacer.give_back()
        return wanted if wanted or not taken else self.take_all(now_ns, at_most)

    def sent(self, probe: Probe, sent: Sent) -> None:
        """The packet was handed to the kernel."""
        self.sent_all((probe,), (sent,))

    def sent_all(self, probes: Iterable[Probe], sent: Sequence[Sent]) -> None:
        """The first of these packets were handed to the kernel, as many as there are in `sent`."""
        by_token, by_number, flights = self._by_token, self._by_number, self._flights
        for probe, one in zip(probes, sent, strict=False):
            probe.sent = one
            mono_ns = one.before.mono_ns
            due_ns = probe.due_ns
            probe.sched_lag_ns = mono_ns - due_ns if mono_ns > due_ns else 0
            timeout_ns = probe.round.timeout_ns
            probe.deadline_ns = mono_ns + timeout_ns
            by_token[probe.token] = by_number[probe.number] = probe
            flight = flights.get(timeout_ns)
            if flight is None:
                flight = flights[timeout_ns] = deque()
            flight.append(probe)
        self.counters.sent += len(sent)

    def postpone(self, probe: Probe, until_ns: int) -> None:
        """The kernel had no room: try again later; the delay shows in `sched_lag_ns`."""
        self._pacer.plan(until_ns, probe)

    def failed(self, probe: Probe, before: Reading, error: str) -> None:
        """The kernel refused the packet for good; `error` is the errno's name."""
        probe.sent_at_ns = before.real_ns
        probe.sched_lag_ns = max(0, before.mono_ns - probe.due_ns)
        probe.oddity().error = error
        self.counters.send_failed += 1
        self._settle(probe, "send_failed")

    def reply(
        self, token: int | None, peer: object, received_ns: int | None, picked_up: Reading, ttl: int | None, dwell_ns: int = 0
    ) -> Verdict:
        """An echo reply came in.

        peer         its source, compared with the `peer` of the round
        received_ns  the kernel's stamp; picked_up: the clocks when the program had it
        dwell_ns     what the far end says it spent itself; taken off the RTT
        """
        probe = None if token is None else self._by_token.get(token)
        if probe is None or (of := probe.round).peer != peer:
            self.counters.foreign += 1
            return Verdict.FOREIGN
        outcome, sent = probe.outcome, probe.sent
        if outcome == "reply":
            probe.oddity().duplicates += 1
            self.counters.duplicates += 1
            return Verdict.DUPLICATE
        if sent is None or outcome == "timeout" or (outcome == "unreachable" and of.done):
            return self._late(probe)  # its outcome is reported, or may be
        rtt_ns, source = round_trip(sent, received_ns, picked_up)
        # A reply that sat in the socket's buffer while the loop was busy came in time: its RTT says so.
        if rtt_ns > of.timeout_ns:
            return self._late(probe)
        probe.rtt_ns = rtt_ns - dwell_ns if 0 <= dwell_ns <= rtt_ns else rtt_ns
        probe.ts_source = source
        probe.reply_ttl = ttl
        self.counters.replies += 1
        if outcome == "unreachable":
            self.counters.errors -= 1
            probe.odd = None
        self._settle(probe, "reply")
        return Verdict.REPLY

    def _late(self, probe: Probe) -> Verdict:
        if probe.outcome is None:
            self._settle(probe, "timeout")
        odd = probe.oddity()
        if odd.late:
            odd.duplicates += 1
            self.counters.duplicates += 1
            return Verdict.DUPLICATE
        odd.late = True
        self.counters.late += 1
        return Verdict.LATE

    def error(
        self, *, token: int | None, number: int | None, peer: object, responder: str | None, icmp_type: int, icmp_code: int
    ) -> Verdict:
        """An ICMP error came in about a packet of ours to `peer`; its quote may be too short to hold the token."""
        if token is not None:
            probe = self._by_token.get(token)
        else:
            probe = self._by_number.get(number) if number is not None else self._oldest_in_flight(peer)
        if probe is None or probe.round.peer != peer or probe.outcome is not None:
            self.counters.foreign += probe is None or probe.round.peer != peer
            return Verdict.FOREIGN
        odd = probe.oddity()
        odd.icmp_type, odd.icmp_code, odd.responder = icmp_type, icmp_code, responder
        self.counters.errors += 1
        self._settle(probe, "unreachable")
        return Verdict.ERROR

    def expire(self, now_ns: int, error: Callable[[Probe], str | None] | None = None) -> None:
        """Time out what is due, forget what is long settled.

        error   asked about every packet that times out: the errno to note beside it, if this host is to blame
        """
        for timeout_ns, flight in list(self._flights.items()):
            while flight and flight[0].deadline_ns <= now_ns:
                probe = flight.popleft()
                if probe.outcome is None:
                    said = None if error is None else error(probe)
                    if said is not None:
                        probe.oddity().error = said
                    self._settle(probe, "timeout")
                self._retire(probe)
            if not flight:
                del self._flights[timeout_ns]
        forget, by_token, by_number = self._forget, self._by_token, self._by_number
        old_ns = now_ns - _MEMORY_NS
        while forget and (forget[0].deadline_ns <= old_ns or len(forget) > _REMEMBERED):
            probe = forget.popleft()
            by_token.pop(probe.token, None)
            if by_number.get(probe.number) is probe:
                del by_number[probe.number]

    def finished(self) -> list[Round]:
        """Rounds that became done since the last call."""
        done, self._finished = self._finished, []
        return done

    def next_ns(self) -> int | None:
        """When the driver must come back, if nothing comes in before; None when nothing is planned or in flight."""
        soonest_ns = self._pacer.next_ns()
        for flight in self._flights.values():
            while flight and flight[0].outcome == "reply":  # not one unreachable: until its deadline a reply may still come
                self._retire(flight.popleft())
            if flight and (soonest_ns is None or flight[0].deadline_ns < soonest_ns):
                soonest_ns = flight[0].deadline_ns
        return soonest_ns

    @property
    def remembered(self) -> int:
        """Packets kept, in flight or settled lately: the session's memory is bounded by rate times five seconds."""
        return len(self._by_token)

    def _oldest_in_flight(self, peer: object) -> Probe | None:
        mine = (probe for probe in self._by_token.values() if probe.round.peer == peer and probe.outcome is None)
        return next(mine, None)

    def _retire(self, probe: Probe) -> None:
        """A settled packet: all that is left to know of it is whether another answer comes."""
        if probe.sent is not None:
            probe.sent_at_ns = probe.sent.sent_at_ns
            probe.sent = None
        self._forget.append(probe)

    def _settle(self, probe: Probe, outcome: PingOutcome) -> None:
        again = probe.outcome is not None
        probe.outcome = outcome
        if again:
            return
        probe.round.open_count -= 1
        if probe.round.done:
            self._finished.append(probe.round)
