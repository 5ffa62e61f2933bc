"""A round's probe packets, and what is known of each: what the session keeps of them while they are under way.

A busy engine makes 20,000 of these a second, so a packet has only what every packet needs; the rest is in its sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from probes.ping.failure import source_of
from probes.ping.timing import Reading, Sent
from records.ping import PingSample

__all__ = ["NOT_SENT", "Probe", "Round", "host_of"]

#: The clocks of a packet that has not left.
NOT_SENT = Reading(0, 0)


def host_of(peer: object) -> str:
    """The address in a round's `peer`, which is that or, with UDP, (address, port)."""
    return str(peer[0] if isinstance(peer, tuple) else peer)


class Probe(Sent):
    """One probe packet. It is planned while `before` is NOT_SENT, then in flight, and settled when it has a `sample`."""

    __slots__ = ("due_ns", "number", "round", "sample", "sequence", "token")

    def __init__(self, of: Round, sequence: int, number: int, token: int, due_ns: int) -> None:
        self.before = NOT_SENT
        self.kernel_ns = None
        self.round = of
        self.sequence = sequence
        self.number = number
        self.token = token
        self.due_ns = due_ns
        self.sample: PingSample | None = None

    @property
    def is_in_flight(self) -> bool:
        """It has left, and nothing has come of it yet."""
        return self.sample is None and self.before is not NOT_SENT

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
        probes, tokens = of.probes, of.tokens
        if sequence != len(probes) or sequence == len(tokens) or of.is_cancelled:
            return None
        due_ns = of.first_ns + sequence * of.interval_ns
        made = Probe(of, sequence, (of.first_number + sequence) & 0xFFFF, tokens[sequence], due_ns)
        probes.append(made)
        return due_ns, made


@dataclass(slots=True, eq=False)
class Round:
    """A count of probe packets to one target. `peer` is whatever names the target and its replies' source alike.

    tokens       one for each packet
    flow         which of the flows to that target its packets belong to
    first_ns     monotonic time at which the first is due, `interval_ns` before the second
    requests     for the engine: what it prepared for all packets of the round
    probes       the packets that were taken so far, in order
    open_count   packets without a sample
    duplicates   further copies of replies, by the packet's sequence
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
    probes: list[Probe] = field(default_factory=list)
    open_count: int = 0
    is_cancelled: bool = False
    duplicates: dict[int, int] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Every packet has its sample."""
        return self.open_count == 0

    def first_probe(self) -> Probe | None:
        """The packet to begin with; None of a round of none."""
        if not self.tokens:
            return None
        made = Probe(self, 0, self.first_number, self.tokens[0], self.first_ns)
        self.probes.append(made)
        return made

    def samples(self) -> tuple[PingSample, ...]:
        """One sample per packet, in the order of their sequence, of a round that is done."""
        samples = [probe.sample for probe in self.probes]
        assert None not in samples, "a packet in flight has no sample yet"
        for sequence, count in self.duplicates.items():
            sample = samples[sequence]
            assert sample is not None, "only what was answered is answered again"
            samples[sequence] = replace(sample, duplicates=count)
        return tuple([sample for sample in samples if sample is not None])
