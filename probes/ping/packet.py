"""A round's probe packets, and what is known of each: what the session keeps of them while they are under way.

A busy engine has 20,000 of these a second. So a packet is an object only while it is under way; of one that is answered a few
numbers are left, in a tuple, which the garbage collector soon stops looking at; and samples are made when the round is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from probes.ping.failure import source_of
from probes.ping.timing import Reading, Sent
from records.base import TsSource
from records.ping import PingSample, answered

__all__ = ["NOT_SENT", "Probe", "Round", "Timed", "host_of"]

#: Of a packet that was answered: sent_at_ns, rtt_ns, ts_source, sched_lag_ns, reply_ttl.
Timed = tuple[int, int, TsSource, int, int | None]

#: The clocks of a packet that has not left.
NOT_SENT = Reading(0, 0)


def host_of(peer: object) -> str:
    """The address in a round's `peer`, which is that or, with UDP, (address, port)."""
    return str(peer[0] if isinstance(peer, tuple) else peer)


class Probe(Sent):
    """One probe packet: planned while `before` is NOT_SENT, then in flight, until its place in the round is taken by what came of it."""

    __slots__ = ("due_ns", "number", "round", "sequence", "token")

    def __init__(self, of: Round, sequence: int, number: int, token: int, due_ns: int) -> None:
        self.before = NOT_SENT
        self.kernel_ns = None
        self.round = of
        self.sequence = sequence
        self.number = number
        self.token = token
        self.due_ns = due_ns

    @property
    def is_in_flight(self) -> bool:
        """It has left, and nothing has come of it yet."""
        return self.before is not NOT_SENT and self.round.open_count > 0 and self.round.packets[self.sequence] is self

    @property
    def sched_lag_ns(self) -> int:
        """How much later than planned it left."""
        return max(0, self.before.mono_ns - self.due_ns)

    def unsent(self, before: Reading, error: str) -> PingSample:
        """Its sample when the kernel refused it at that time; `error` is the errno's name."""
        return PingSample(
            sequence=self.sequence,
            outcome="send_failed",
            sent_at_ns=before.real_ns,
            sched_lag_ns=max(0, before.mono_ns - self.due_ns),
            error=error,
            failure_source=source_of("send_failed", error=error),
        )

    def timed_out(self, error: str | None) -> PingSample:
        """Its sample when nothing came back in time; `error`: the errno, if this host is to blame."""
        return PingSample(
            sequence=self.sequence,
            outcome="timeout",
            sent_at_ns=self.sent_at_ns,
            sched_lag_ns=self.sched_lag_ns,
            error=error,
            failure_source=source_of("timeout", error=error),
        )

    def unreachable(self, icmp_type: int, icmp_code: int, responder: str | None) -> PingSample:
        """Its sample when that ICMP error came back."""
        icmp, host = (icmp_type, icmp_code), host_of(self.round.peer)
        return PingSample(
            sequence=self.sequence,
            outcome="unreachable",
            sent_at_ns=self.sent_at_ns,
            sched_lag_ns=self.sched_lag_ns,
            icmp_type=icmp_type,
            icmp_code=icmp_code,
            responder=responder,
            failure_source=source_of("unreachable", icmp=icmp, responder=responder, host=host),
        )

    def followed(self) -> tuple[int, Probe] | None:
        """What is planned in its place as it leaves: the next packet of the round and when that is due.

        None after the last, and for a packet that had been taken before and was postponed, or given up.
        """
        of, sequence = self.round, self.sequence + 1
        packets, tokens = of.packets, of.tokens
        if sequence != len(packets) or sequence == len(tokens) or of.is_cancelled:
            return None
        due_ns = of.first_ns + sequence * of.interval_ns
        made = Probe(of, sequence, (of.first_number + sequence) & 0xFFFF, tokens[sequence], due_ns)
        packets.append(made)
        return due_ns, made


@dataclass(slots=True, eq=False)
class Round:
    """A count of probe packets to one target. `peer` is whatever names the target and its replies' source alike.

    tokens       one for each packet
    flow         which of the flows to that target its packets belong to
    first_ns     monotonic time at which the first is due, `interval_ns` before the second
    requests     for the engine: what it prepared for all packets of the round
    packets      those that were taken so far, in order; in the place of a settled one is what came of it: its times when it was
                 answered, else its sample
    open_count   packets that are not settled
    duplicates   further copies of replies, by the packet's token
    """

    peer: object
    timeout_ns: int
    payload_bytes: int
    tokens: Sequence[int]
    first_number: int
    first_ns: int
    interval_ns: int
    flow: int = 0
    requests: Any = None
    packets: list[Probe | Timed | PingSample] = field(default_factory=list)
    open_count: int = 0
    is_cancelled: bool = False
    duplicates: dict[int, int] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Every packet is settled."""
        return self.open_count == 0

    def has(self, number: int) -> bool:
        """One of its packets that were taken bears this number."""
        return (number - self.first_number) & 0xFFFF < len(self.packets)

    def has_sent(self, token: int) -> bool:
        """One of its packets that have left bears this token."""
        if token not in self.tokens:
            return False
        if self.done:
            return True
        sequence = self.tokens.index(token)
        packet = self.packets[sequence] if sequence < len(self.packets) else None
        return packet is not None and not (isinstance(packet, Probe) and packet.before is NOT_SENT)

    def first_probe(self) -> Probe | None:
        """The packet to begin with; None of a round of none."""
        if not self.tokens:
            return None
        made = Probe(self, 0, self.first_number, self.tokens[0], self.first_ns)
        self.packets.append(made)
        return made

    def samples(self) -> tuple[PingSample, ...]:
        """One sample per packet, in the order of their sequence, of a round that is done."""
        packets = self.packets
        if not self.duplicates and set(map(type, packets)) == {tuple}:  # nearly always
            return tuple(map(answered, range(len(packets)), *zip(*packets, strict=True)))
        assert not any(isinstance(packet, Probe) for packet in packets), "the round is done"
        return self.samples_so_far()

    def samples_so_far(self) -> tuple[PingSample, ...]:
        """The samples of the packets that are settled, in the order of their sequence."""
        samples = []
        for sequence, (packet, token) in enumerate(zip(self.packets, self.tokens, strict=False)):
            if isinstance(packet, Probe):
                continue
            sample = answered(sequence, *packet) if isinstance(packet, tuple) else packet
            samples.append(replace(sample, duplicates=self.duplicates[token]) if token in self.duplicates else sample)
        return tuple(samples)
