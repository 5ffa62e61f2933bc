"""Measurements: one run of one probe type from one agent to one target, as frozen records.

A record is also the wire format: its JSON object has the same field names (see records/batch.py). Integers of
ns, bits and bytes; None is unknown. Construction checks what can be checked without I/O, so a lost packet with an
RTT cannot be written down, on the agent or at the collector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from records.base import FailureSource, Measurement, TsSource
from records.hop import Hop, MplsLabel
from records.ping import PingOutcome, PingResult, PingSample

__all__ = [
    "PROBE_TYPES",
    "AgentStatus",
    "FailureSource",
    "Hop",
    "HttpOutcome",
    "HttpPhase",
    "HttpProtocol",
    "HttpResult",
    "InferenceResult",
    "Measurement",
    "MplsLabel",
    "PingOutcome",
    "PingResult",
    "PingSample",
    "ThroughputMethod",
    "ThroughputResult",
    "TracerouteResult",
    "TsSource",
    "path_change",
    "path_hash",
    "reverse_hop_count",
]

#: Name of every probe type, in the order people read them.
PROBE_TYPES = ("ping", "traceroute", "throughput", "inference", "http", "stamp", "serving")

#: How far an http measurement goes: the TCP hand-shake, TLS over it, and one HTTP request over either.
HttpProtocol = Literal["tcp", "tls", "http", "https"]
HttpPhase = Literal["dns", "tcp", "tls", "http"]
HttpOutcome = Literal[
    "ok",
    "no_such_name",
    "resolver_failed",
    "refused",
    "unreachable",
    "timeout",
    "reset",
    "tls_failed",
    "protocol_error",
    "agent_failed",
]


def path_hash(addresses: Iterable[str | None]) -> str:
    """16 hexadecimal digits that name a path: equal for equal addresses in equal order, silent hops included."""
    return hashlib.sha256("\n".join(address or "*" for address in addresses).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracerouteResult(Measurement):
    """The path of one flow at one time (Paris style: every probe packet of it takes the same way).

    protocol   icmp, udp or tcp
    flow       identifies the flow among those of the target, from 0; rotated over rounds to see ECMP
    hops       by TTL from 1 up to the target or to the last TTL tried
    reached    the target itself answered
    path_hash  of the hop addresses in order, silent ones included; equal hashes, equal paths
    error      why a packet did not leave: the errno's name, such as ``ENETUNREACH``, or the resolver's, such as ``EAI_NONAME``
    """

    protocol: Literal["icmp", "udp", "tcp"]
    flow: int
    hops: tuple[Hop, ...]
    reached: bool
    path_hash: str
    error: str | None = None


#: transfer: a full test; bbr, delivery_rate: a short transfer, read from the sender's congestion control; train: UDP packets in trains.
ThroughputMethod = Literal["transfer", "bbr", "delivery_rate", "train"]


def reverse_hop_count(reply_ttl: int | None) -> int | None:
    """How long the way back of an answer was, guessed; 1 from the first router. None: unknown.

    A host starts a packet with a TTL of 32, 64, 128 or 255, and each router on the way takes one off; the guess is that it
    started with the least of these that it can have been. Compared with the hop's own TTL it tells an asymmetric path.

    >>> [reverse_hop_count(ttl) for ttl in (64, 60, 250, None)]
    [1, 5, 6, None]
    """
    if reply_ttl is None or not 0 < reply_ttl <= 255:
        return None
    return next(start for start in (32, 64, 128, 255) if reply_ttl <= start) - reply_ttl + 1


def path_change(before: TracerouteResult, after: TracerouteResult) -> int | None:
    """The first TTL at which one trace of a flow certainly went another way than the one before it; None: none is known.

    A silent hop says nothing, whoever was there before, so it is no change though the hashes differ. Paths of different length
    differ where the shorter one reached its target.
    """
    for one, other in zip(before.hops, after.hops, strict=False):
        if one.address is not None and other.address is not None and one.address != other.address:
            return one.ttl
    short, long = sorted((before, after), key=lambda path: len(path.hops))
    return len(short.hops) if short.reached and len(long.hops) > len(short.hops) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputResult(Measurement):
    """Achieved rate of a bulk transfer, or an estimate of it from a few packets.

    tool             iperf3 or builtin; ndt7 or other where somebody else measured
    direction        up: from the agent to the target; down: the other way
    transferred_bytes, duration_ns   payload acknowledged or received, and over which time; None where somebody else
                     measured and does not say
    throughput_bps   achieved payload bits per second; None when the test failed or was skipped
    retransmits      segments sent again; None where the sender's counters are not ours to read
    tcp_rtt_ns       smoothed RTT of the connection at the end (TCP_INFO), in ns: the latency under load
    tcp_min_rtt_ns   its least RTT
    congestion_control   such as bbr or cubic
    stop_reason      time, bytes (the byte budget), error, or skipped (a budget is spent: nothing was sent)
    error            what failed or why it was skipped, in one sentence
    failure_source   whose failure it was; None: nothing failed
    method           transfer, or how it was estimated
    is_estimate      throughput_bps is an estimate of what a transfer would achieve
    protocol         tcp or udp
    streams          connections at the same time
    is_bidirectional the other direction was measured at the same time
    spent_bytes      all that the test sent or received for it, readings that were thrown away included: what budgets count
    idle_rtt_ns      median RTT before the test; loaded_rtt_ns during it, loaded_rtt_p95_ns its 95th percentile
    rtt_source       what read those two: ping (packets beside the transfer) or tcp_info (the transfer's own connection)
    udp_packets, udp_lost_packets, udp_jitter_ns   of a UDP test, by the receiver; jitter by RFC 3550
    """

    tool: Literal["iperf3", "builtin", "ndt7", "other"]
    direction: Literal["up", "down"]
    transferred_bytes: int | None
    duration_ns: int | None
    throughput_bps: int | None
    stop_reason: Literal["time", "bytes", "error", "skipped"]
    retransmits: int | None = None
    tcp_rtt_ns: int | None = None
    tcp_min_rtt_ns: int | None = None
    congestion_control: str | None = None
    error: str | None = None
    failure_source: FailureSource | None = None
    method: ThroughputMethod = "transfer"
    is_estimate: bool = False
    protocol: Literal["tcp", "udp"] = "tcp"
    streams: int = 1
    is_bidirectional: bool = False
    spent_bytes: int | None = None
    idle_rtt_ns: int | None = None
    loaded_rtt_ns: int | None = None
    loaded_rtt_p95_ns: int | None = None
    rtt_source: Literal["ping", "tcp_info"] | None = None
    udp_packets: int | None = None
    udp_lost_packets: int | None = None
    udp_jitter_ns: int | None = None

    def __post_init__(self) -> None:
        if (self.stop_reason in {"error", "skipped"}) != (self.throughput_bps is None):
            raise ValueError("a failed test has no throughput and a test that ran has one")
        if self.is_estimate != (self.method != "transfer"):
            raise ValueError(f"method {self.method!r} with is_estimate {self.is_estimate}: a transfer is no estimate and all else is one")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult(Measurement):
    """One streaming request to an OpenAI-compatible endpoint, split by phase.

    The clock of every phase is monotonic and starts where the one before ended: dns, tcp, tls, upload (request
    handed to the kernel), then every later time from the *start of the request's upload*. What arrives is timed by the
    kernel's stamp of the packet where it gives one (`ts_source`), so that a busy process does not add to it. TTFT is the
    first event with non-empty content; a role-only chunk is no token.

    outcome          ok, http_error, timeout, connect_failed or protocol_error
    connection       cold (this request opened it) or warm
    http_version     1.1 or 2; None: no connection
    dns_ns .. tls_ns None when the phase did not happen (an address needs no DNS, plain HTTP no TLS, warm neither)
    tls_version      of the connection, such as TLSv1.3; None without TLS
    head_ns          first byte of the answer, its head
    ttfb_ns          first byte of the response's body stream
    ttft_ns          first non-empty token of any kind; None when none came
    first_content_ns, first_reasoning_ns, first_tool_call_ns   the first token of each kind; None when there was none
    e2e_ns           last byte
    output_tokens    non-empty chunks received; prompt_tokens and completion_tokens as the server reports them
    token_gaps_ns    time between neighbouring tokens
    token_arrivals   how many times, at least, tokens came apart from those before; 1: all came together
    is_streamed      tokens were sent apart (True) or held back and sent together (False); None: what arrived proves neither,
                     see probes.inference.streaming
    finish_reason    why the model stopped, in the server's word, such as stop or length
    retry_after_ns   how long a 429 or 503 asks to wait
    ts_source        how arrivals were timed: kernel_rx or user
    late_ns          the most that this process read an arrival later than the kernel had it; None without kernel stamps
    response_segments   TCP segments with data that the answer came in (TCP_INFO)
    tcp_rtt_ns, tcp_min_rtt_ns   of the same connection (TCP_INFO): what of the wait was network
    tcp_retransmits  segments this side sent again since the connection began
    """

    model: str
    outcome: Literal["ok", "http_error", "timeout", "connect_failed", "protocol_error"]
    connection: Literal["cold", "warm"]
    http_version: str | None = None
    http_status: int | None = None
    address: str | None = None
    dns_ns: int | None = None
    tcp_ns: int | None = None
    tls_ns: int | None = None
    tls_version: str | None = None
    upload_ns: int | None = None
    head_ns: int | None = None
    ttfb_ns: int | None = None
    ttft_ns: int | None = None
    first_content_ns: int | None = None
    first_reasoning_ns: int | None = None
    first_tool_call_ns: int | None = None
    e2e_ns: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    completion_tokens: int | None = None
    token_gaps_ns: tuple[int, ...] = ()
    token_arrivals: int | None = None
    is_streamed: bool | None = None
    finish_reason: str | None = None
    retry_after_ns: int | None = None
    ts_source: TsSource | None = None
    late_ns: int | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    response_segments: int | None = None
    tcp_rtt_ns: int | None = None
    tcp_min_rtt_ns: int | None = None
    tcp_retransmits: int | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.outcome == "ok" and self.ttft_ns is None:
            raise ValueError("an answered request has a time to first token")
        if self.outcome != "ok" and self.error is None:
            raise ValueError(f"outcome {self.outcome!r} needs an error that says why")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResult(Measurement):
    """One TCP connection of its own, from the look-up of a name to the end of an HTTP answer, split by phase.

    tcp_rtt_ns is the RTT: the kernel's own of the hand-shake (TCP_INFO), which no busy process can delay. Every
    other time is of this process's monotonic clock, and each phase starts where the one before it ended; ttfb_ns and
    e2e_ns are taken from the start of the request's upload to the kernel's stamp of the packet, where it gives one (ts_source).

    protocol        how far it was to go: tcp, tls, http (tcp and a request), https (tls and a request)
    outcome         ok: every phase asked for ended; any HTTP status is an answer
    failed_phase, failure_source, error   which phase failed, whose failure it was, and what happened in one sentence;
                    None exactly when the outcome is ok
    address         the IP address connected to, or the last one that was tried; None where there is none
    dns_ns          None when nothing was looked up (an address, or a look-up that an earlier connection made)
    tcp_ns          user-space time of the hand-shake; of the address that answered
    tcp_rtt_ns      None without a sample: no connection, no TCP_INFO on this system, or a SYN that was sent again, so that it is
                    not known which one was answered (Karn's rule, RFC 6298)
    tcp_retransmits segments sent again up to the end of the hand-shake: a SYN that was lost
    tcp_min_rtt_ns  least RTT of the connection at its end; None as tcp_rtt_ns
    tls_ns          TLS hand-shake, in full or resumed
    tls_resumed     a session of an earlier connection was offered and the server took it (True) or not (False);
                    None: none was offered
    tls_verified    the certificate and the name were accepted; a certificate that is not does not stop the timing
    tls_error       why it was not accepted
    http_status, upload_ns, ttfb_ns, e2e_ns   of the request; e2e_ns to the last byte that was read
    ts_source       how ttfb_ns and e2e_ns were timed: kernel_rx or user; None: nothing came
    is_cut_off      reading stopped at the limit of bytes, before the answer's end
    total_ns        from the first thing done to the last
    """

    protocol: HttpProtocol
    outcome: HttpOutcome
    failed_phase: HttpPhase | None = None
    failure_source: FailureSource | None = None
    error: str | None = None
    address: str | None = None
    dns_ns: int | None = None
    tcp_ns: int | None = None
    tcp_rtt_ns: int | None = None
    tcp_min_rtt_ns: int | None = None
    tcp_retransmits: int | None = None
    tls_ns: int | None = None
    tls_version: str | None = None
    tls_cipher: str | None = None
    tls_alpn: str | None = None
    tls_resumed: bool | None = None
    tls_verified: bool | None = None
    tls_error: str | None = None
    http_status: int | None = None
    upload_ns: int | None = None
    ttfb_ns: int | None = None
    e2e_ns: int | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    ts_source: TsSource | None = None
    is_cut_off: bool | None = None
    total_ns: int | None = None

    def __post_init__(self) -> None:
        told = (self.failed_phase, self.failure_source, self.error)
        if self.outcome == "ok" and any(part is not None for part in told):
            raise ValueError("outcome 'ok' with a failed phase, a source or an error: nothing failed")
        if self.outcome != "ok" and any(part is None for part in told):
            raise ValueError(f"outcome {self.outcome!r} needs a failed phase, a source and an error that says why")
        if self.outcome == "ok" and self.tcp_ns is None:
            raise ValueError("a connection that was made took some time: give tcp_ns")
        if self.tcp_retransmits and self.tcp_rtt_ns is not None:
            raise ValueError("a hand-shake whose SYN was sent again has no RTT: which one was answered is not known")
        if (self.tls_verified is False) != (self.tls_error is not None):
            raise ValueError("a certificate that is not accepted says why, and no other does")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """What an agent says of itself, every few seconds.

    produced         measurements made since boot by probe type: what must, in the end, be in the warehouse
    skipped_rounds   rounds that were due while the loop was late; they are skipped, never caught up
    spool_bytes      waiting on the agent's disk; dropped_measurements were lost to the spool's bound
    loop_lag_p99_ns  how late the agent's loop ran since the last status
    clock_error_ns   the kernel's own estimate of the wall clock's error (adjtimex); None when unsynchronised
    grade            ok, or degraded with the reasons: rows of a degraded agent are marked
    round_lag_p99_ns how late rounds were started since the last status; None without one
    steal_ratio      share of processor time the hypervisor gave to others, since the last status; None: not known
    stamps           RTTs since boot by how they were timed (`TsSource`)
    failures         measurements since boot that show a failure, by whose it was (`FailureSource`)
    opted_out_rounds rounds since boot not measured because the target opted out
    shifts           times since boot that the RTT of a target moved
    config_generation of the pushed configuration that runs; None: its own file alone
    config_refused   the pushed configuration that was refused last, and why; None: none since the last good one
    schedule         how often it means to measure, ns by probe type; types that are not configured are not in it
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
    round_lag_p99_ns: int | None = None
    steal_ratio: float | None = None
    stamps: dict[str, int] | None = None
    failures: dict[str, int] | None = None
    opted_out_rounds: int | None = None
    shifts: int | None = None
    config_generation: int | None = None
    config_refused: str | None = None
    schedule: dict[str, int] | None = None
