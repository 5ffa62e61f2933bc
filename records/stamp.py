"""A STAMP measurement (RFC 8762): a round of test packets with the times of both ends, as frozen records.

Two ends with two clocks say three kinds of things. What needs no common clock is always known: the round-trip time
without the reflector's residence, and the variation of delay by direction, in which the clocks' difference cancels. What
needs one is known only with a bound of its error. And loss by direction needs a reflector that counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from records.measurement import Measurement, PingOutcome, TsSource

__all__ = ["StampMode", "StampReflectorKind", "StampResult", "StampSample"]

StampMode = Literal["unauthenticated", "authenticated"]

#: stateful: numbers its replies by itself, so that a gap tells the direction of a loss; stateless: copies ours (RFC 8762, section 4.3).
StampReflectorKind = Literal["stateful", "stateless"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StampSample:
    """One test packet and what became of it. T1 sent, T2 received there, T3 sent there, T4 received here.

    sequence            its number in the round, from 0
    outcome             reply, timeout, unreachable (an ICMP error came back) or send_failed (it never left)
    sent_at_ns          T1, Unix time, UTC, ns
    rtt_ns              (T4 - T1) - (T3 - T2): round-trip time without the reflector's residence; a number exactly for a reply
    ts_source           how T1 and T4 were timed; None exactly when there is no RTT
    residence_ns        T3 - T2, by the reflector's own clock; None where it is not believable
    forward_ns, backward_ns   one-way delays T2 - T1 and T4 - T3; None unless both ends state their clock's error
    forward_pdv_ns, backward_pdv_ns   delay above the least of the round in that direction (PDV, RFC 5481): free of the
                        clocks' difference. Neighbours' differences are the IPDV (RFC 3393). None without kernel stamps
    reflector_sequence  the reflector's own number of the reply
    forward_ttl         TTL or hop limit with which our packet reached the reflector; reply_ttl that of the reply here
    sched_lag_ns        how much later than planned the packet was handed to the kernel
    duplicates, late    further copies of the reply; a reply after the time-out
    icmp_type, icmp_code, responder   of the ICMP error and who sent it, for `unreachable`
    error               errno name of a failed send
    """

    sequence: int
    outcome: PingOutcome
    sent_at_ns: int
    rtt_ns: int | None = None
    ts_source: TsSource | None = None
    residence_ns: int | None = None
    forward_ns: int | None = None
    backward_ns: int | None = None
    forward_pdv_ns: int | None = None
    backward_pdv_ns: int | None = None
    reflector_sequence: int | None = None
    forward_ttl: int | None = None
    reply_ttl: int | None = None
    sched_lag_ns: int | None = None
    duplicates: int = 0
    late: bool = False
    icmp_type: int | None = None
    icmp_code: int | None = None
    responder: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.outcome == "reply") != (self.rtt_ns is not None):
            raise ValueError(f"outcome {self.outcome!r} with rtt_ns {self.rtt_ns!r}: a reply has an RTT and nothing else has one")
        if (self.rtt_ns is None) != (self.ts_source is None):
            raise ValueError("ts_source says how rtt_ns was timed: give both or neither")
        if (self.forward_ns is None) != (self.backward_ns is None):
            raise ValueError("one-way delays come from the same two clocks: both are known or neither is")
        if min((value for value in (self.rtt_ns, self.forward_pdv_ns, self.backward_pdv_ns) if value is not None), default=0) < 0:
            raise ValueError("a round-trip time or a delay variation above the least one is negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class StampResult(Measurement):
    """A round of STAMP test packets to one reflector.

    mode             unauthenticated or authenticated (HMAC-SHA-256)
    reflector        stateful or stateless, as told or as its numbers prove; None: not known
    timeout_ns       a reply later than this counts as lost
    packet_bytes     UDP payload of a packet, the same in both directions
    samples          one for each packet, in order
    forward_lost, backward_lost   packets lost on the way there and on the way back; None: the reflector does not tell
    undirected_lost  lost packets of which the direction cannot be told (after the last reply nothing tells them apart)
    clock_error_ns   stated error of both clocks together: a bound of the error of forward_ns and backward_ns; None: one end
                     states none, and there are no one-way delays
    unverified       replies that were dropped because their HMAC is not that of the key
    """

    mode: StampMode
    reflector: StampReflectorKind | None
    timeout_ns: int
    packet_bytes: int
    samples: tuple[StampSample, ...]
    forward_lost: int | None = None
    backward_lost: int | None = None
    undirected_lost: int = 0
    clock_error_ns: int | None = None
    unverified: int = 0

    def __post_init__(self) -> None:
        if (self.forward_lost is None) != (self.backward_lost is None):
            raise ValueError("loss by direction comes from the reflector's numbers: both directions are known or neither is")
        if self.clock_error_ns is None and any(sample.forward_ns is not None for sample in self.samples):
            raise ValueError("a one-way delay without a stated clock error says nothing")
