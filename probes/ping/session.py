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
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from probes.ping.pace import Pacer
from probes.ping.timing import Reading, Sent, round_trip
from records.measurement import PingOutcome, PingSample, TsSource

__all__ = ["Counters", "EchoSession", "Probe", "Round", "Verdict"]

#: How long a settled packet is remembered, so that its late replies are told from foreign ones.
_MEMORY_NS = 5_000_000_000


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
        )


@dataclass(slots=True, eq=False)
class Round:
    """A count of probe packets to one target. `peer` is whatever names the target and its replies' source alike."""

    peer: object
    timeout_ns: int
    payload_bytes: int
    probes: tuple[Probe, ...] = ()
    open_count: int = 0

    @property
    def done(self) -> bool:
        """Every packet has its outcome."""
        return self.open_count == 0

    def samples(self) -> tuple[PingSample, ...]:
        """One sample per packet, in the order of their sequence."""
        return tuple(probe.sample() for probe in self.probes)


class EchoSession:
    """All rounds of one engine. Call `take`, hand the packet over, report it; feed what comes in; call `expire`."""

    def __init__(self, pacer: Pacer[Probe]) -> None:
        self.counters = Counters()
        self._pacer = pacer
        self._by_token: dict[int, Probe] = {}
        self._by_number: dict[int, Probe] = {}
        self._deadlines: list[tuple[int, int, Probe]] = []
        self._forget: deque[tuple[int, Probe]] = deque()
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
    ) -> Round:
        """Plan one packet per token, `interval_ns` apart, the first at `first_ns` (now by default)."""
        started_ns = now_ns if first_ns is None else first_ns
        new = Round(peer, timeout_ns, payload_bytes, open_count=len(tokens))
        new.probes = tuple(
            Probe(new, sequence, (self._numbered + sequence) & 0xFFFF, token, started_ns + sequence * interval_ns)
            for sequence, token in enumerate(tokens)
        )
        self._numbered += len(tokens)
        for probe in new.probes:
            self._pacer.plan(probe.due_ns, probe)
        if new.done:
            self._finished.append(new)
        return new

    def cancel(self, old: Round) -> None:
        """Nobody waits for this round any more: send no more of it. What is in flight runs out by itself."""
        for probe in old.probes:
            if probe.outcome is None and probe.sent is None:
                probe.outcome = "send_failed"
                old.open_count -= 1

    def abandon(self, old: Round, now: Reading) -> None:
        """The engine closes: what is in flight is given up as timed out, what is planned was never sent."""
        for probe in old.probes:
            if probe.outcome is None and probe.sent is not None:
                self._settle(probe, "timeout")
            elif probe.outcome is None:
                self.failed(probe, now, "ECANCELED")

    def take(self, now_ns: int) -> Probe | None:
        """The next packet to hand to the kernel now, None when there is none; report back with `sent` or `failed`."""
        while (probe := self._pacer.take(now_ns)) is not None:
            if probe.outcome is None:
                return probe
            self._pacer.give_back()
        return None

    def sent(self, probe: Probe, sent: Sent) -> None:
        """The packet was handed to the kernel."""
        probe.sent = sent
        mono_ns = sent.before.mono_ns
        probe.sched_lag_ns = max(0, mono_ns - probe.due_ns)
        probe.deadline_ns = mono_ns + probe.round.timeout_ns
        self._by_token[probe.token] = self._by_number[probe.number] = probe
        self.counters.sent += 1
        heapq.heappush(self._deadlines, (probe.deadline_ns, self.counters.sent, probe))

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
        assert probe.sent is not None
        if probe.outcome == "reply":
            probe.duplicates += 1
            self.counters.duplicates += 1
            return Verdict.DUPLICATE
        rtt_ns, source = round_trip(probe.sent, received_ns, picked_up)
        # A reply that sat in the socket's buffer while the loop was busy came in time: its RTT says so.
        answered_for = probe.outcome == "unreachable" and probe.round.done  # the round is reported already
        if probe.outcome == "timeout" or answered_for or rtt_ns > probe.round.timeout_ns:
            self._expire(probe)
            if probe.late:
                probe.duplicates += 1
                self.counters.duplicates += 1
                return Verdict.DUPLICATE
            probe.late = True
            self.counters.late += 1
            return Verdict.LATE
        probe.rtt_ns = rtt_ns - dwell_ns if 0 <= dwell_ns <= rtt_ns else rtt_ns
        probe.ts_source = source
        probe.reply_ttl = ttl
        if probe.outcome == "unreachable":
            self.counters.errors -= 1
            probe.icmp_type = probe.icmp_code = probe.responder = None
        self.counters.replies += 1
        self._settle(probe, "reply")
        return Verdict.REPLY

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

    def expire(self, now_ns: int) -> None:
        """Time out what is due, forget what is long settled."""
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            self._expire(heapq.heappop(self._deadlines)[2])
        while self._forget and self._forget[0][0] <= now_ns:
            _, probe = self._forget.popleft()
            self._by_token.pop(probe.token, None)
            if self._by_number.get(probe.number) is probe:
                del self._by_number[probe.number]

    def finished(self) -> list[Round]:
        """Rounds that became done since the last call."""
        done, self._finished = self._finished, []
        return done

    def next_ns(self) -> int | None:
        """When the driver must come back, if nothing comes in before; None when nothing is planned or in flight."""
        while self._deadlines and self._deadlines[0][2].outcome is not None:
            heapq.heappop(self._deadlines)
        times = [at_ns for at_ns in (self._pacer.next_ns(), self._deadlines[0][0] if self._deadlines else None) if at_ns is not None]
        return min(times, default=None)

    @property
    def remembered(self) -> int:
        """Packets kept, in flight or settled lately: the session's memory is bounded by rate times five seconds."""
        return len(self._by_token)

    def _oldest_in_flight(self, peer: object) -> Probe | None:
        mine = (probe for probe in self._by_token.values() if probe.round.peer == peer and probe.outcome is None)
        return next(mine, None)

    def _expire(self, probe: Probe) -> None:
        if probe.outcome is None:
            self._settle(probe, "timeout")

    def _settle(self, probe: Probe, outcome: PingOutcome) -> None:
        again = probe.outcome is not None
        probe.outcome = outcome
        if again:
            return
        if probe.sent is not None:
            self._forget.append((probe.deadline_ns + _MEMORY_NS, probe))
        probe.round.open_count -= 1
        if probe.round.done:
            self._finished.append(probe.round)
