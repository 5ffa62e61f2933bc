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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeGuard

from probes.ping.departed import Departed
from probes.ping.pace import Pacer
from probes.ping.packet import NOT_SENT, Probe, Round, Timed, host_of
from probes.ping.rounds import Rounds
from probes.ping.timing import Reading, longest_ns, round_trip
from records.ping import PingSample

__all__ = ["Counters", "EchoSession", "Probe", "Reply", "Round", "Verdict", "host_of"]

#: Of an echo reply: token, source, the kernel's stamp of it, its TTL.
Reply = tuple[int, object, int | None, int | None]

_CANCELED = "ECANCELED"


def _is_planned(packet: object) -> TypeGuard[Probe]:
    return isinstance(packet, Probe) and packet.before is NOT_SENT


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


class EchoSession:
    """All rounds of one engine. Call `take_all`, hand the packets over, report them; feed what comes in; call `expire`."""

    def __init__(self, pacer: Pacer[Probe]) -> None:
        self.counters = Counters()
        self._pacer = pacer
        self._rounds = Rounds()
        self._departed = Departed()
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
            self._rounds.add(new)
            self._pacer.plan(probe.due_ns, probe)
        return new

    def cancel(self, old: Round) -> None:
        """Nobody waits for this round any more: send no more of it. What is in flight runs out by itself."""
        if old.done:
            return
        old.is_cancelled = True
        packets = old.packets = [one.unsent(NOT_SENT, _CANCELED) if _is_planned(one) else one for one in old.packets]
        old.open_count = sum(isinstance(one, Probe) for one in packets)
        if old.done:
            self._end(old)

    def abandon(self, old: Round, now: Reading) -> None:
        """The engine closes: what is in flight is given up as timed out, what is planned was never sent."""
        last = old.packets[-1]
        while isinstance(last, Probe) and (following := last.followed()) is not None:
            last = following[1]
        for packet in list(old.packets):
            if _is_planned(packet):
                self.failed(packet, now, _CANCELED)
            elif isinstance(packet, Probe):
                self._settle(packet, packet.timed_out(None))

    def take(self, now_ns: int) -> Probe | None:
        """The next packet to hand to the kernel now, None when there is none; report back with `sent_all` or `failed`."""
        taken = self.take_all(now_ns, 1)
        return taken[0] if taken else None

    def take_all(self, now_ns: int, at_most: int) -> list[Probe]:
        """The next packets to hand to the kernel now, up to `at_most`; report back with `sent_all` or `failed`."""
        taken = self._pacer.take_all(now_ns, at_most, Probe.followed)
        wanted = [probe for probe in taken if not probe.round.is_cancelled]
        for _ in range(len(taken) - len(wanted)):
            self._pacer.give_back()
        return wanted if wanted or not taken else self.take_all(now_ns, at_most)

    def sent_all(self, probes: Sequence[Probe]) -> None:
        """These packets were handed to the kernel, all of them at the reading of the clocks that each holds now."""
        self._departed.add(probes)
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
        unanswered = self._departed.unanswered
        find = unanswered.get
        known, most_ns, count = NOT_SENT, -1, 0
        for token, peer, received_ns, ttl in found:
            probe = find(token)
            if probe is not None and (of := probe.round).peer == peer and of.open_count and of.packets[probe.sequence] is probe:
                before, sent_ns = probe.before, probe.kernel_ns
                if before is not known:  # packets that left together share it
                    known, most_ns = before, longest_ns(before, picked_up)
                if sent_ns is not None and received_ns is not None and 0 <= (rtt_ns := received_ns - sent_ns) <= most_ns:
                    lag_ns = before.mono_ns - probe.due_ns
                    if rtt_ns <= of.timeout_ns and lag_ns >= 0:
                        of.packets[probe.sequence] = (sent_ns, rtt_ns, "kernel_txrx", lag_ns, ttl)
                        del unanswered[token]
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
        probe = None if token is None else self._departed.unanswered.get(token)
        if token is None or probe is None:
            return self._again(token, peer)
        of = probe.round
        if of.peer != peer:
            return self._foreign()
        packet = None if of.done else of.packets[probe.sequence]
        if of.done or (isinstance(packet, PingSample) and packet.outcome == "timeout"):
            return self._late(probe)  # its outcome is reported, or may be
        rtt_ns, source = round_trip(probe, received_ns, picked_up)
        # A reply that sat in the socket's buffer while the loop was busy came in time: its RTT says so.
        if rtt_ns > of.timeout_ns:
            return self._late(probe)
        rtt_ns = rtt_ns - dwell_ns if 0 <= dwell_ns <= rtt_ns else rtt_ns
        self.counters.replies += 1
        if packet is not probe:  # an error had come before
            self.counters.errors -= 1
        self._settle(probe, (probe.sent_at_ns, rtt_ns, source, probe.sched_lag_ns, ttl))
        del self._departed.unanswered[token]
        return Verdict.REPLY

    def _again(self, token: int | None, peer: object) -> Verdict:
        """A reply to a packet that was answered before, or given up long ago, or to none of ours."""
        of = None if token is None else self._rounds.by_token(peer, token)
        if token is None or of is None:
            return self._foreign()
        if of.packets:  # not reported yet
            sequence = of.tokens.index(token)
            sample = of.packets[sequence]
            if isinstance(sample, PingSample) and sample.outcome in {"timeout", "unreachable"} and not sample.late:
                of.packets[sequence] = replace(sample, late=True)
                self.counters.late += 1
                return Verdict.LATE
        of.duplicates[token] = of.duplicates.get(token, 0) + 1
        self.counters.duplicates += 1
        return Verdict.DUPLICATE

    def _foreign(self) -> Verdict:
        self.counters.foreign += 1
        return Verdict.FOREIGN

    def _late(self, probe: Probe) -> Verdict:
        of = probe.round
        if probe.is_in_flight:
            self._settle(probe, probe.timed_out(None))
        if of.packets:  # not reported yet
            sample = of.packets[probe.sequence]
            assert isinstance(sample, PingSample), "what was not answered in time has a sample"
            of.packets[probe.sequence] = replace(sample, late=True)
        del self._departed.unanswered[probe.token]
        self.counters.late += 1
        return Verdict.LATE

    def error(
        self, *, token: int | None, number: int | None, peer: object, responder: str | None, icmp_type: int, icmp_code: int
    ) -> Verdict:
        """An ICMP error came in about a packet of ours to `peer`; its quote may be too short to hold the token."""
        if token is not None:
            probe = self._departed.unanswered.get(token)
            of = self._rounds.by_token(peer, token) if probe is None else probe.round
        elif number is not None:
            of = self._rounds.by_number(peer, number)
            packet = None if of is None else of.packets[(number - of.first_number) & 0xFFFF]
            probe = packet if isinstance(packet, Probe) else None
        else:
            probe = self._rounds.oldest_in_flight(peer)
            of = None if probe is None else probe.round
        if of is None or of.peer != peer:
            return self._foreign()
        if probe is None or not probe.is_in_flight:
            return Verdict.FOREIGN  # ours, and settled
        self.counters.errors += 1
        self._settle(probe, probe.unreachable(icmp_type, icmp_code, responder))
        return Verdict.ERROR

    def expire(self, now_ns: int, error: Callable[[Probe], str | None] | None = None) -> None:
        """Time out what is due, forget what is long settled.

        error   asked about every packet that times out: the errno to note beside it, if this host is to blame
        """
        for probe in self._departed.due(now_ns):
            self._settle(probe, probe.timed_out(None if error is None else error(probe)))
        self._departed.forget(now_ns)
        self._rounds.forget(now_ns)

    def finished(self) -> list[Round]:
        """Rounds that became done since the last call."""
        done, self._finished = self._finished, []
        return done

    def next_ns(self) -> int | None:
        """When the driver must come back, if nothing comes in before; None when nothing is planned or in flight."""
        soonest = [at_ns for at_ns in (self._pacer.next_ns(), self._departed.next_ns()) if at_ns is not None]
        return min(soonest, default=None)

    @property
    def remembered(self) -> int:
        """Packets in flight or given up lately; the session's memory is bounded by rate times five seconds."""
        return len(self._departed.unanswered)

    def _settle(self, probe: Probe, what: Timed | PingSample) -> None:
        of = probe.round
        is_first = of.packets[probe.sequence] is probe
        of.packets[probe.sequence] = what
        if is_first:
            of.open_count -= 1
            if of.done:
                self._end(of)

    def _end(self, of: Round) -> None:
        """Its last packet is settled."""
        self._finished.append(of)
        self._rounds.end(of)
