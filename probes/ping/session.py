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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from probes.ping.failure import source_of
from probes.ping.pace import Pacer
from probes.ping.timing import Reading, Sent, round_trip
from records.base import TsSource
from records.ping import PingOutcome, PingSample, answered

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


def host_of(peer: object) -> str:
    """The address in a round's `peer`, which is that or, with UDP, (address, port)."""
    return str(peer[0] if isinstance(peer, tuple) else peer)


@dataclass(slots=True, eq=False)
class Probe:
    """One probe packet. `outcome` is None while it is planned (`sent` is None) or in flight."""

    round: Round
    sequence: int
    number: int
    token: int
    due_ns: int
    deadline_ns: int = 0
    sent: Sent | None = None
    outcome: PingOutcome | None = None
    sent_at_ns: int = 0
    rtt_ns: int | None = None
    ts_source: TsSource | None = None
    sched_lag_ns: int | None = None
    reply_ttl: int | None = None
    duplicates: int = 0
    late: bool = False
    icmp_type: int | None = None
    icmp_code: int | None = None
    responder: str | None = None
    error: str | None = None

    def sample(self) -> PingSample:
        """The settled packet as a record."""
        assert self.outcome is not None, "a packet in flight has no outcome yet"
        if self.outcome == "reply" and self.sent is not None and not self.duplicates:  # nearly all
            assert self.rtt_ns is not None, "a reply has an RTT"
            assert self.ts_source is not None, "and a way it was timed"
            return answered(
                sequence=self.sequence,
                sent_at_ns=self.sent.sent_at_ns,
                rtt_ns=self.rtt_ns,
                ts_source=self.ts_source,
                sched_lag_ns=self.sched_lag_ns,
                reply_ttl=self.reply_ttl,
            )
        return PingSample(
            sequence=self.sequence,
            outcome=self.outcome,
            sent_at_ns=self.sent_at_ns if self.sent is None else self.sent.sent_at_ns,
            rtt_ns=self.rtt_ns,
            ts_source=self.ts_source,
            sched_lag_ns=self.sched_lag_ns,
            reply_ttl=self.reply_ttl,
            duplicates=self.duplicates,
            late=self.late,
            icmp_type=self.icmp_type,
            icmp_code=self.icmp_code,
            responder=self.responder,
            error=self.error,
            failure_source=source_of(
                self.outcome,
                error=self.error,
                icmp=None if self.icmp_type is None or self.icmp_code is None else (self.icmp_type, self.icmp_code),
                responder=self.responder,
                host=host_of(self.round.peer),
            ),
        )


@dataclass(slots=True, eq=False)
class Round:
    """A count of probe packets to one target. `peer` is whatever names the target and its replies' source alike.

    tokens       one for each packet
    flow         which of the flows to that target its packets belong to
    first_ns     monotonic time at which the first is due, `interval_ns` before the second
    probes       the packets that were taken so far, in order
    open_count   packets without an outcome
    """

    peer: object
    timeout_ns: int
    payload_bytes: int
    tokens: Sequence[int]
    first_number: int
    first_ns: int
    interval_ns: int
    flow: int = 0
    probes: list[Probe] = field(default_factory=list)
    open_count: int = 0
    is_cancelled: bool = False

    @property
    def done(self) -> bool:
        """Every packet has its outcome."""
        return self.open_count == 0

    def next_probe(self) -> Probe | None:
        """The packet after the last one made; None when that was the last."""
        sequence = len(self.probes)
        if sequence == len(self.tokens) or self.is_cancelled:
            return None
        due_ns = self.first_ns + sequence * self.interval_ns
        made = Probe(self, sequence, (self.first_number + sequence) & 0xFFFF, self.tokens[sequence], due_ns)
        self.probes.append(made)
        return made

    def samples(self) -> tuple[PingSample, ...]:
        """One sample per packet, in the order of their sequence."""
        return tuple([probe.sample() for probe in self.probes])


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

    def sent(self, probe: Probe, sent: Sent) -> None:
        """The packet was handed to the kernel."""
        probe.sent = sent
        mono_ns = sent.before.mono_ns
        lag_ns = mono_ns - probe.due_ns
        probe.sched_lag_ns = max(0, lag_ns)
        timeout_ns = probe.round.timeout_ns
        probe.deadline_ns = mono_ns + timeout_ns
        self._by_token[probe.token] = self._by_number[probe.number] = probe
        self.counters.sent += 1
        flight = self._flights.get(timeout_ns)
        if flight is None:
            flight = self._flights[timeout_ns] = deque()
        flight.append(probe)

    def postpone(self, probe: Probe, until_ns: int) -> None:
        """The kernel had no room: try again later; the delay shows in `sched_lag_ns`."""
        self._pacer.plan(until_ns, probe)

    def failed(self, probe: Probe, before: Reading, error: str) -> None:
        """The kernel refused the packet for good; `error` is the errno's name."""
        probe.sent_at_ns = before.real_ns
        probe.sched_lag_ns = max(0, before.mono_ns - probe.due_ns)
        probe.error = error
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
        if probe is None or probe.round.peer != peer:
            self.counters.foreign += 1
            return Verdict.FOREIGN
        if probe.outcome == "reply":
            probe.duplicates += 1
            self.counters.duplicates += 1
            return Verdict.DUPLICATE
        if probe.sent is None or probe.outcome == "timeout" or (probe.outcome == "unreachable" and probe.round.done):
            return self._late(probe)  # its outcome is reported, or may be
        rtt_ns, source = round_trip(probe.sent, received_ns, picked_up)
        # A reply that sat in the socket's buffer while the loop was busy came in time: its RTT says so.
        if rtt_ns > probe.round.timeout_ns:
            return self._late(probe)
        probe.rtt_ns = rtt_ns - dwell_ns if 0 <= dwell_ns <= rtt_ns else rtt_ns
        probe.ts_source = source
        probe.reply_ttl = ttl
        if probe.outcome == "unreachable":
            self.counters.errors -= 1
            probe.icmp_type = probe.icmp_code = probe.responder = None
        self.counters.replies += 1
        self._settle(probe, "reply")
        return Verdict.REPLY

    def _late(self, probe: Probe) -> Verdict:
        if probe.outcome is None:
            self._settle(probe, "timeout")
        if probe.late:
            probe.duplicates += 1
            self.counters.duplicates += 1
            return Verdict.DUPLICATE
        probe.late = True
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
        probe.icmp_type, probe.icmp_code, probe.responder = icmp_type, icmp_code, responder
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
                    if error is not None:
                        probe.error = error(probe)
                    self._settle(probe, "timeout")
                self._retire(probe)
            if not flight:
                del self._flights[timeout_ns]
        forget = self._forget
        while forget and (forget[0].deadline_ns + _MEMORY_NS <= now_ns or len(forget) > _REMEMBERED):
            probe = forget.popleft()
            self._by_token.pop(probe.token, None)
            if self._by_number.get(probe.number) is probe:
                del self._by_number[probe.number]

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
