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

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from probes.ping.pace import Pacer
from probes.ping.packet import NOT_SENT, Probe, Round, host_of
from probes.ping.timing import Reading, longest_ns, round_trip
from records.ping import PingSample, answered

__all__ = ["Counters", "EchoSession", "Probe", "Reply", "Round", "Verdict", "host_of"]

#: Of an echo reply: token, source, the kernel's stamp of it, its TTL.
Reply = tuple[int, object, int | None, int | None]

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


@dataclass(slots=True, eq=False)
class _Flight:
    """Packets that left together and time out together. `settled` of them, from the first on, are known to be settled."""

    deadline_ns: int
    probes: list[Probe]
    settled: int = 0

    def is_settled(self) -> bool:
        """All are; each is looked at once."""
        probes, settled = self.probes, self.settled
        while settled < len(probes) and probes[settled].sample is not None:
            settled += 1
        self.settled = settled
        return settled == len(probes)


class EchoSession:
    """All rounds of one engine. Call `take_all`, hand the packets over, report them; feed what comes in; call `expire`."""

    def __init__(self, pacer: Pacer[Probe]) -> None:
        self.counters = Counters()
        self._pacer = pacer
        self._by_token: dict[int, Probe] = {}
        # Of those under way, to find what an error is about whose quote is too short for a token.
        self._rounds: dict[object, list[Round]] = {}
        # By time-out: packets leave in order, so those of one time-out also end in order.
        self._flights: dict[int, deque[_Flight]] = {}
        self._forget: deque[_Flight] = deque()
        self._settled = 0
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
        requests: object = None,
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
            requests,
            open_count=len(tokens),
        )
        self._numbered += len(tokens)
        probe = new.first_probe()
        if probe is None:
            self._finished.append(new)
        else:
            self._rounds.setdefault(peer, []).append(new)
            self._pacer.plan(probe.due_ns, probe)
        return new

    def cancel(self, old: Round) -> None:
        """Nobody waits for this round any more: send no more of it. What is in flight runs out by itself."""
        if old.done:
            return
        old.is_cancelled = True
        for probe in old.probes:
            if probe.sample is None and not probe.is_in_flight:
                probe.sample = probe.unsent(NOT_SENT, "ECANCELED")
        old.open_count = sum(probe.sample is None for probe in old.probes)
        if old.done:
            self._end(old)

    def abandon(self, old: Round, now: Reading) -> None:
        """The engine closes: what is in flight is given up as timed out, what is planned was never sent."""
        while old.probes[-1].followed() is not None:
            pass
        for probe in old.probes:
            if probe.is_in_flight:
                self._time_out(probe, None)
            elif probe.sample is None:
                self.failed(probe, now, "ECANCELED")

    def take(self, now_ns: int) -> Probe | None:
        """The next packet to hand to the kernel now, None when there is none; report back with `sent_all` or `failed`."""
        taken = self.take_all(now_ns, 1)
        return taken[0] if taken else None

    def take_all(self, now_ns: int, at_most: int) -> list[Probe]:
        """The next packets to hand to the kernel now, up to `at_most`; report back with `sent_all` or `failed`."""
        taken = self._pacer.take_all(now_ns, at_most, Probe.followed)
        wanted = [probe for probe in taken if probe.sample is None]
        for _ in range(len(taken) - len(wanted)):
            self._pacer.give_back()
        return wanted if wanted or not taken else self.take_all(now_ns, at_most)

    def sent_all(self, probes: Sequence[Probe]) -> None:
        """These packets were handed to the kernel, all of them at the reading of the clocks that each holds now."""
        by_token = self._by_token
        together: dict[int, list[Probe]] = {}
        timeout_ns, flight = -1, []
        for probe in probes:
            by_token[probe.token] = probe
            if probe.round.timeout_ns != timeout_ns:
                timeout_ns = probe.round.timeout_ns
                flight = together.setdefault(timeout_ns, [])
            flight.append(probe)
        for timeout_ns, flight in together.items():
            flights = self._flights.get(timeout_ns)
            if flights is None:
                flights = self._flights[timeout_ns] = deque()
            flights.append(_Flight(flight[0].before.mono_ns + timeout_ns, flight))
        self.counters.sent += len(probes)

    def postpone(self, probe: Probe, until_ns: int) -> None:
        """The kernel had no room: try again later; the delay shows in `sched_lag_ns`."""
        self._pacer.plan(until_ns, probe)

    def failed(self, probe: Probe, before: Reading, error: str) -> None:
        """The kernel refused the packet for good; `error` is the errno's name."""
        self.counters.send_failed += 1
        self._settle(probe, probe.unsent(before, error))

    def replies(self, found: Iterable[Reply], picked_up: Reading) -> None:
        """Echo replies came in; see `reply`, of which this is the quick way for what nearly all are: expected, and with both stamps."""
        find = self._by_token.get
        known, most_ns, count = NOT_SENT, -1, 0
        for token, peer, received_ns, ttl in found:
            probe = find(token)
            if probe is not None and probe.sample is None and (of := probe.round).peer == peer:
                before, sent_ns = probe.before, probe.kernel_ns
                if before is not known:  # packets that left together share it
                    known, most_ns = before, longest_ns(before, picked_up)
                if sent_ns is not None and received_ns is not None and 0 <= (rtt_ns := received_ns - sent_ns) <= most_ns:
                    lag_ns = before.mono_ns - probe.due_ns
                    if rtt_ns <= of.timeout_ns and lag_ns >= 0:
                        probe.sample = answered(probe.sequence, sent_ns, rtt_ns, "kernel_txrx", lag_ns, ttl)
                        count += 1
                        of.open_count -= 1
                        if not of.open_count:
                            self._end(of)
                        continue
            self.reply(token, peer, received_ns, picked_up, ttl)
        self.counters.replies += count

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
        sample = probe.sample
        if sample is not None:
            if sample.outcome == "reply":
                return self._duplicate(probe)
            if sample.outcome == "timeout" or of.done:
                return self._late(probe, sample)  # its outcome is reported, or may be
        if probe.kernel_ns is None:
            self._narrow(probe)
        rtt_ns, source = round_trip(probe, received_ns, picked_up)
        # A reply that sat in the socket's buffer while the loop was busy came in time: its RTT says so.
        if rtt_ns > of.timeout_ns:
            return self._late(probe, sample)
        rtt_ns = rtt_ns - dwell_ns if 0 <= dwell_ns <= rtt_ns else rtt_ns
        self.counters.replies += 1
        if sample is not None:  # an error had come before
            self.counters.errors -= 1
        self._settle(probe, answered(probe.sequence, probe.sent_at_ns, rtt_ns, source, probe.sched_lag_ns, ttl))
        return Verdict.REPLY

    def _narrow(self, probe: Probe) -> None:
        """It has no stamp, and packets that left together share a reading of the clocks: it left after the last before it with a stamp."""
        flights, deadline_ns = self._flights.get(probe.round.timeout_ns, ()), probe.before.mono_ns + probe.round.timeout_ns
        at = bisect_left(flights, deadline_ns, key=lambda flight: flight.deadline_ns)
        if at == len(flights) or probe not in flights[at].probes:
            return  # it is timed out, or was narrowed before
        for ahead in reversed(flights[at].probes[: flights[at].probes.index(probe)]):
            if ahead.kernel_ns is not None:
                probe.left_after(ahead.kernel_ns)
                return

    def _duplicate(self, probe: Probe) -> Verdict:
        counted = probe.round.duplicates
        counted[probe.sequence] = counted.get(probe.sequence, 0) + 1
        self.counters.duplicates += 1
        return Verdict.DUPLICATE

    def _late(self, probe: Probe, sample: PingSample | None) -> Verdict:
        sample = self._time_out(probe, None) if sample is None else sample
        if sample.late:
            return self._duplicate(probe)
        probe.sample = replace(sample, late=True)
        self.counters.late += 1
        return Verdict.LATE

    def error(
        self, *, token: int | None, number: int | None, peer: object, responder: str | None, icmp_type: int, icmp_code: int
    ) -> Verdict:
        """An ICMP error came in about a packet of ours to `peer`; its quote may be too short to hold the token."""
        if token is not None:
            probe = self._by_token.get(token)
        else:
            probe = self._oldest_in_flight(peer) if number is None else self._in_flight(peer, number)
        if probe is None or probe.round.peer != peer or not probe.is_in_flight:
            self.counters.foreign += probe is None or probe.round.peer != peer
            return Verdict.FOREIGN
        self.counters.errors += 1
        self._settle(probe, probe.unreachable(icmp_type, icmp_code, responder))
        return Verdict.ERROR

    def expire(self, now_ns: int, error: Callable[[Probe], str | None] | None = None) -> None:
        """Time out what is due, forget what is long settled.

        error   asked about every packet that times out: the errno to note beside it, if this host is to blame
        """
        for timeout_ns, flights in list(self._flights.items()):
            while flights and flights[0].deadline_ns <= now_ns:
                flight = flights.popleft()
                for probe in flight.probes:
                    if probe.sample is None:
                        self._time_out(probe, None if error is None else error(probe))
                self._retire(flight)
            if not flights:
                del self._flights[timeout_ns]
        forget, by_token = self._forget, self._by_token
        old_ns = now_ns - _MEMORY_NS
        while forget and (forget[0].deadline_ns <= old_ns or self._settled > _REMEMBERED):
            old = forget.popleft().probes
            self._settled -= len(old)
            for probe in old:
                by_token.pop(probe.token, None)

    def finished(self) -> list[Round]:
        """Rounds that became done since the last call."""
        done, self._finished = self._finished, []
        return done

    def next_ns(self) -> int | None:
        """When the driver must come back, if nothing comes in before; None when nothing is planned or in flight."""
        soonest_ns = self._pacer.next_ns()
        for flights in self._flights.values():
            while flights and flights[0].is_settled():
                self._retire(flights.popleft())
            if flights and (soonest_ns is None or flights[0].deadline_ns < soonest_ns):
                soonest_ns = flights[0].deadline_ns
        return soonest_ns

    @property
    def remembered(self) -> int:
        """Packets kept, in flight or settled lately: the session's memory is bounded by rate times five seconds."""
        return len(self._by_token)

    def _in_flight(self, peer: object, number: int) -> Probe | None:
        """The packet of that number to this peer."""
        for of in self._rounds.get(peer, ()):
            sequence = (number - of.first_number) & 0xFFFF
            if sequence < len(of.probes) and of.probes[sequence].is_in_flight:
                return of.probes[sequence]
        return None

    def _oldest_in_flight(self, peer: object) -> Probe | None:
        under_way = (probe for of in self._rounds.get(peer, ()) for probe in of.probes if probe.is_in_flight)
        return min(under_way, key=lambda probe: probe.before.mono_ns, default=None)

    def _retire(self, flight: _Flight) -> None:
        """All that is left to know of it is whether more answers come."""
        self._forget.append(flight)
        self._settled += len(flight.probes)

    def _time_out(self, probe: Probe, error: str | None) -> PingSample:
        sample = probe.timed_out(error)
        self._settle(probe, sample)
        return sample

    def _settle(self, probe: Probe, sample: PingSample) -> None:
        again = probe.sample is not None
        probe.sample = sample
        if again:
            return
        probe.round.open_count -= 1
        if probe.round.done:
            self._end(probe.round)

    def _end(self, of: Round) -> None:
        """Its last packet is settled."""
        self._finished.append(of)
        rounds = self._rounds[of.peer]
        rounds.remove(of)
        if not rounds:
            del self._rounds[of.peer]
