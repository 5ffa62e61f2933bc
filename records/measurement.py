"""Measurements: one run of one probe type from one agent to one target, as frozen records.

A record is also the wire format: its JSON object has the same field names (see records/batch.py). Integers of
ns, bits and bytes; None is unknown. Construction checks what can be checked without I/O, so a lost packet with an
RTT cannot be written down, on the agent or at the collector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from records.link import Medium

__all__ = [
    "PROBE_TYPES",
    "AgentStatus",
    "Hop",
    "InferenceResult",
    "Measurement",
    "MplsLabel",
    "PingOutcome",
    "PingResult",
    "PingSample",
    "ThroughputResult",
    "TracerouteResult",
    "TsSource",
]

PingOutcome = Literal["reply", "timeout", "unreachable", "send_failed"]

#: How an RTT was timed: kernel stamps on both ends, on receive only, by the application's clock, or by the
#: kernel's TCP stack. Only the first two are free of the scheduler's delays.
TsSource = Literal["kernel_txrx", "kernel_rx", "user", "tcp_info"]

#: Name of every probe type, in the order people read them.
PROBE_TYPES = ("ping", "traceroute", "throughput", "inference")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What every measurement says of itself.

    id          unique for ever: the agent's boot id and a counter, ``<boot>-<n>``
    agent       the daemon that measured
    src, dst    site ids: the agent's site and the target's
    medium      what the two sites are joined by (internet, backbone, direct-connect)
    target      the address or URL measured, as configured (never with credentials)
    started_at_ns   Unix time, UTC, ns; says when, never used for an RTT
    engine      name and version of what measured, such as ``isochrone-icmp/1``
    """

    id: str
    agent: str
    src: str
    dst: str
    medium: Medium
    target: str
    started_at_ns: int
    engine: str


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
    error         errno name of a failed send, such as ``ENETUNREACH``
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

    def __post_init__(self) -> None:
        if (self.outcome == "reply") != (self.rtt_ns is not None):
            raise ValueError(f"outcome {self.outcome!r} with rtt_ns {self.rtt_ns!r}: a reply has an RTT and nothing else has one")
        if (self.rtt_ns is None) != (self.ts_source is None):
            raise ValueError("ts_source says how rtt_ns was timed: give both or neither")
        if self.rtt_ns is not None and self.rtt_ns < 0:
            raise ValueError(f"rtt_ns {self.rtt_ns} is negative: RTTs come from a clock that never steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class PingResult(Measurement):
    """A round of probe packets to one target (RFC 2681 samples).

    method         icmp, tcp (connect) or udp (echo to our own reflector)
    timeout_ns     a reply later than this counts as lost
    payload_bytes  octets after the ICMP or UDP header; None for tcp
    """

    method: Literal["icmp", "tcp", "udp"]
    timeout_ns: int
    samples: tuple[PingSample, ...]
    payload_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MplsLabel:
    """One entry of an MPLS label stack in an ICMP extension (RFC 4950)."""

    label: int
    traffic_class: int
    bottom: bool
    ttl: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One TTL of a path. A silent hop is present with no address; it is never removed.

    ttl          hop number, from 1
    address      who answered; None when nobody did
    rtt_ns       of the probe packet that was answered; None exactly when nobody answered
    probes, replies   how many probe packets carried this TTL and how many were answered; a difference is the
                 router's reluctance to answer and is never the path's loss
    icmp_type, icmp_code, reply_ttl   of the answer
    mpls         label stack quoted by the router, outermost first
    """

    ttl: int
    address: str | None
    rtt_ns: int | None
    probes: int = 1
    replies: int = 0
    ts_source: TsSource | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    reply_ttl: int | None = None
    mpls: tuple[MplsLabel, ...] = ()

    def __post_init__(self) -> None:
        if (self.address is None) != (self.rtt_ns is None):
            raise ValueError("a hop with an address has an RTT and a silent hop has neither")


@dataclass(frozen=True, slots=True, kw_only=True)
class TracerouteResult(Measurement):
    """The path of one flow at one time (Paris style: every probe packet of it takes the same way).

    protocol   icmp, udp or tcp
    flow       identifies the flow among those of the target, from 0; rotated over rounds to see ECMP
    hops       by TTL from 1 up to the target or to the last TTL tried
    reached    the target itself answered
    path_hash  of the hop addresses in order, silent ones included; equal hashes, equal paths
    """

    protocol: Literal["icmp", "udp", "tcp"]
    flow: int
    hops: tuple[Hop, ...]
    reached: bool
    path_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputResult(Measurement):
    """Achieved rate of a bulk TCP transfer.

    tool             iperf3 or builtin
    direction        up: from the agent to the target; down: the other way
    transferred_bytes, duration_ns   payload acknowledged or received, and over which time
    throughput_bps   achieved payload bits per second; None when the test failed
    retransmits      segments sent again; None where the sender's counters are not ours to read
    tcp_rtt_ns       smoothed RTT of the connection at the end (TCP_INFO), in ns: the latency under load
    tcp_min_rtt_ns   its least RTT
    congestion_control   such as bbr or cubic
    stop_reason      time, bytes (the byte budget) or error
    error            what failed, in one sentence
    """

    tool: Literal["iperf3", "builtin"]
    direction: Literal["up", "down"]
    transferred_bytes: int
    duration_ns: int
    throughput_bps: int | None
    stop_reason: Literal["time", "bytes", "error"]
    retransmits: int | None = None
    tcp_rtt_ns: int | None = None
    tcp_min_rtt_ns: int | None = None
    congestion_control: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.stop_reason == "error") != (self.throughput_bps is None):
            raise ValueError("a failed test has no throughput and a test that ran has one")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult(Measurement):
    """One streaming request to an OpenAI-compatible endpoint, split by phase.

    The clock of every phase is monotonic and starts where the one before ended: dns, tcp, tls, upload (request
    handed to the kernel), then `ttfb_ns` and `ttft_ns` from the *start of the request's upload*. TTFT is the
    first event with non-empty content; a role-only chunk is no token.

    outcome          ok, http_error, timeout, connect_failed or protocol_error
    connection       cold (this request opened it) or warm
    dns_ns .. tls_ns None when the phase did not happen (an address needs no DNS, plain HTTP no TLS, warm neither)
    ttfb_ns          first byte of the response's body stream
    ttft_ns          first non-empty token; None when none came
    e2e_ns           last byte
    output_tokens    non-empty chunks received; prompt_tokens as the server reports them
    token_gaps_ns    time between neighbouring tokens
    is_streamed      tokens arrived apart; False when the whole answer came in one piece
    tcp_rtt_ns, tcp_min_rtt_ns   of the same connection (TCP_INFO): what of the wait was network
    """

    model: str
    outcome: Literal["ok", "http_error", "timeout", "connect_failed", "protocol_error"]
    connection: Literal["cold", "warm"]
    http_status: int | None = None
    address: str | None = None
    dns_ns: int | None = None
    tcp_ns: int | None = None
    tls_ns: int | None = None
    upload_ns: int | None = None
    ttfb_ns: int | None = None
    ttft_ns: int | None = None
    e2e_ns: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    token_gaps_ns: tuple[int, ...] = ()
    is_streamed: bool | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    tcp_rtt_ns: int | None = None
    tcp_min_rtt_ns: int | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.outcome == "ok" and self.ttft_ns is None:
            raise ValueError("an answered request has a time to first token")
        if self.outcome != "ok" and self.error is None:
            raise ValueError(f"outcome {self.outcome!r} needs an error that says why")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """What an agent says of itself, every few seconds.

    produced         measurements made since boot by probe type: what must, in the end, be in the warehouse
    skipped_rounds   rounds that were due while the loop was late; they are skipped, never caught up
    spool_bytes      waiting on the agent's disk; dropped_measurements were lost to the spool's bound
    loop_lag_p99_ns  how late the agent's loop ran since the last status
    clock_error_ns   the kernel's own estimate of the wall clock's error (adjtimex); None when unsynchronised
    grade            ok, or degraded with the reasons: rows of a degraded agent are marked
    """

    agent: str
    site: str
    boot: str
    at_ns: int
    version: str
    uptime_ns: int
    produced: dict[str, int]
    skipped_rounds: int
    spool_bytes: int
    dropped_measurements: int
    loop_lag_p99_ns: int | None = None
    clock_error_ns: int | None = None
    grade: Literal["ok", "degraded"] = "ok"
    reasons: tuple[str, ...] = ()
