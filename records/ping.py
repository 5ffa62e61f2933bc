"""Ping: a round of probe packets and what became of each, as frozen records; see records.measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from records.base import FailureSource, Measurement, TsSource

__all__ = ["PingOutcome", "PingResult", "PingSample", "answered"]

PingOutcome = Literal["reply", "timeout", "unreachable", "send_failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PingSample:
    """One probe packet of a ping and what became of it.

    sequence      its number in the round, from 0
    outcome       reply, timeout, unreachable (an ICMP error came back) or send_failed (it never left)
    sent_at_ns    Unix time, UTC, ns
    rtt_ns        round-trip time (RFC 2681); a number exactly when the outcome is a reply
    ts_source     how the RTT was timed; None exactly when there is no RTT
    sched_lag_ns  how much later than planned the packet was handed to the kernel; None where not known
    reply_ttl     TTL or hop limit of the reply; None where not known
    duplicates    further copies of the reply; late replies (after the time-out) are counted in `late`
    icmp_type, icmp_code, responder   of the ICMP error and who sent it, for `unreachable`
    error         errno name of a failed send, such as ``ENETUNREACH``; of a time-out, ``ENOBUFS`` where this host dropped
                  packets that came in meanwhile, the reply perhaps among them
    failure_source   whose failure it was, as far as one end can tell; None for a reply and where not known
    """

    sequence: int
    outcome: PingOutcome
    sent_at_ns: int
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
    failure_source: FailureSource | None = None

    def __post_init__(self) -> None:
        if (self.outcome == "reply") != (self.rtt_ns is not None):
            raise ValueError(f"outcome {self.outcome!r} with rtt_ns {self.rtt_ns!r}: a reply has an RTT and nothing else has one")
        if self.failure_source is not None and self.outcome == "reply":
            raise ValueError(f"failure_source {self.failure_source!r} of a reply: nothing failed")
        if (self.rtt_ns is None) != (self.ts_source is None):
            raise ValueError("ts_source says how rtt_ns was timed: give both or neither")
        if self.rtt_ns is not None and self.rtt_ns < 0:
            raise ValueError(f"rtt_ns {self.rtt_ns} is negative: RTTs come from a clock that never steps")


class _Unsealed:
    """A sample while it is being made: the same slots, and writing them is not forbidden yet."""

    __slots__ = tuple(PingSample.__slots__)


def answered(
    sequence: int, sent_at_ns: int, rtt_ns: int, ts_source: TsSource, sched_lag_ns: int | None, reply_ttl: int | None
) -> PingSample:
    """A packet that was answered once, `rtt_ns` not negative: what the constructor makes, in a tenth of its time.

    An engine makes 20,000 a second, and the constructor of a frozen record is the dearest of what it does for one.
    """
    made: Any = _new(_Unsealed)
    made.sequence = sequence
    made.outcome = "reply"
    made.sent_at_ns = sent_at_ns
    made.rtt_ns = rtt_ns
    made.ts_source = ts_source
    made.sched_lag_ns = sched_lag_ns
    made.reply_ttl = reply_ttl
    made.duplicates = 0
    made.late = False
    made.icmp_type = made.icmp_code = made.responder = made.error = made.failure_source = None
    made.__class__ = PingSample  # which Python allows where both have the same slots
    sample: PingSample = made
    return sample


_new = object.__new__


@dataclass(frozen=True, slots=True, kw_only=True)
class PingResult(Measurement):
    """A round of probe packets to one target (RFC 2681 samples).

    method         icmp, tcp (connect) or udp (echo to our own reflector)
    timeout_ns     a reply later than this counts as lost; None where another tool measured and does not say
    payload_bytes  octets after the ICMP or UDP header; None for tcp
    flow           which of the flows to the target its packets were, from 0, where all of a flow look alike to routers that
                   choose among equal paths; None where that is not so
    """

    method: Literal["icmp", "tcp", "udp"]
    timeout_ns: int | None
    samples: tuple[PingSample, ...]
    payload_bytes: int | None = None
    flow: int | None = None
