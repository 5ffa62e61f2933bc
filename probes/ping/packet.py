"""A round's probe packets, and what is known of each: what the session keeps of them while they are under way.

A busy engine makes 20,000 of these a second, so a packet has only what every packet needs; the rest is its `Oddity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from probes.ping.failure import source_of
from probes.ping.timing import Sent
from records.base import TsSource
from records.ping import PingOutcome, PingSample, answered

__all__ = ["Oddity", "Probe", "Round", "host_of"]


def host_of(peer: object) -> str:
    """The address in a round's `peer`, which is that or, with UDP, (address, port)."""
    return str(peer[0] if isinstance(peer, tuple) else peer)


@dataclass(slots=True)
class Oddity:
    """What is unusual about a packet: fields of its sample."""

    duplicates: int = 0
    late: bool = False
    icmp_type: int | None = None
    icmp_code: int | None = None
    responder: str | None = None
    error: str | None = None


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
    sched_lag_ns: int | None = None
    rtt_ns: int | None = None
    ts_source: TsSource | None = None
    reply_ttl: int | None = None
    odd: Oddity | None = None

    def oddity(self) -> Oddity:
        """To note something unusual of it."""
        if self.odd is None:
            self.odd = Oddity()
        return self.odd

    def sample(self) -> PingSample:
        """The settled packet as a record."""
        assert self.outcome is not None, "a packet in flight has no outcome yet"
        sent_at_ns = self.sent_at_ns if self.sent is None else self.sent.sent_at_ns
        odd = self.odd
        if self.outcome == "reply" and odd is None:  # nearly all
            assert self.rtt_ns is not None, "a reply has an RTT"
            assert self.ts_source is not None, "and a way it was timed"
            return answered(self.sequence, sent_at_ns, self.rtt_ns, self.ts_source, self.sched_lag_ns, self.reply_ttl)
        if odd is None:
            odd = Oddity()
        return PingSample(
            sequence=self.sequence,
            outcome=self.outcome,
            sent_at_ns=sent_at_ns,
            rtt_ns=self.rtt_ns,
            ts_source=self.ts_source,
            sched_lag_ns=self.sched_lag_ns,
            reply_ttl=self.reply_ttl,
            duplicates=odd.duplicates,
            late=odd.late,
            icmp_type=odd.icmp_type,
            icmp_code=odd.icmp_code,
            responder=odd.responder,
            error=odd.error,
            failure_source=source_of(
                self.outcome,
                error=odd.error,
                icmp=None if odd.icmp_type is None or odd.icmp_code is None else (odd.icmp_type, odd.icmp_code),
                responder=odd.responder,
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
        probes = self.probes
        sequence = len(probes)
        if sequence == len(self.tokens) or self.is_cancelled:
            return None
        due_ns = self.first_ns + sequence * self.interval_ns
        made = Probe(self, sequence, (self.first_number + sequence) & 0xFFFF, self.tokens[sequence], due_ns)
        probes.append(made)
        return made

    def samples(self) -> tuple[PingSample, ...]:
        """One sample per packet, in the order of their sequence."""
        return tuple([probe.sample() for probe in self.probes])
