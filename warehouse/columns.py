"""Records as rows: which columns each table takes from a record, in which Arrow type.

Every list below is the order of the tuples that the functions beside it make. `tables` turns tuples into Arrow tables;
a value that a column cannot hold (an integer beyond 64 bits) raises OverflowError or ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa

from records.batch import BatchName
from records.claims import ServingResult
from records.measurement import (
    AgentStatus,
    HttpResult,
    InferenceResult,
    Measurement,
    PingResult,
    ThroughputResult,
    TracerouteResult,
)
from records.stamp import StampResult

__all__ = [
    "COLUMNS",
    "Row",
    "agent_status_rows",
    "http_rows",
    "inference_rows",
    "ping_rows",
    "serving_rows",
    "stamp_rows",
    "tables",
    "throughput_rows",
    "traceroute_rows",
]

Row = tuple[object, ...]
Columns = dict[str, pa.DataType]

_TEXT, _INT, _BOOL, _REAL = pa.string(), pa.int64(), pa.bool_(), pa.float64()
#: Unix time in ns goes in as an integer and becomes microseconds, which is what DuckDB keeps.
_AT = pa.timestamp("us", tz="UTC")

_MPLS = pa.list_(pa.struct({"label": _INT, "traffic_class": _INT, "bottom": _BOOL, "ttl": _INT}))
_HOPS = pa.list_(
    pa.struct(
        {
            "ttl": _INT,
            "address": _TEXT,
            "rtt_ns": _INT,
            "probes": _INT,
            "replies": _INT,
            "ts_source": _TEXT,
            "icmp_type": _INT,
            "icmp_code": _INT,
            "reply_ttl": _INT,
            "mpls": _MPLS,
        }
    )
)
_STAMP_SAMPLE = {
    "sequence": _INT,
    "outcome": _TEXT,
    "sent_at_ns": _INT,
    "rtt_ns": _INT,
    "ts_source": _TEXT,
    "residence_ns": _INT,
    "forward_ns": _INT,
    "backward_ns": _INT,
    "forward_pdv_ns": _INT,
    "backward_pdv_ns": _INT,
    "reflector_sequence": _INT,
    "forward_ttl": _INT,
    "reply_ttl": _INT,
    "sched_lag_ns": _INT,
    "duplicates": _INT,
    "late": _BOOL,
    "icmp_type": _INT,
    "icmp_code": _INT,
    "responder": _TEXT,
    "error": _TEXT,
}

#: What a throughput test says of itself beyond its rate, under the record's names.
_THROUGHPUT_MORE: Columns = {
    **dict.fromkeys(("failure_source", "method"), _TEXT),
    "is_estimate": _BOOL,
    "protocol": _TEXT,
    "streams": _INT,
    "is_bidirectional": _BOOL,
    **dict.fromkeys(("spent_bytes", "idle_rtt_ns", "loaded_rtt_ns", "loaded_rtt_p95_ns"), _INT),
    "rtt_source": _TEXT,
    **dict.fromkeys(("udp_packets", "udp_lost_packets", "udp_jitter_ns"), _INT),
}

_HEAD: Columns = dict.fromkeys(("measurement_id", "agent", "boot", "src", "dst", "medium", "target", "engine"), _TEXT) | {"started_at": _AT}
_TAIL: Columns = {"batch_boot": _TEXT, "batch_sequence": _INT, "received_at": _AT}

#: The fields of HttpResult beyond the common ones, in the record's order and under its names.
_HTTP: Columns = {
    **dict.fromkeys(("protocol", "outcome", "failed_phase", "failure_source", "error", "address"), _TEXT),
    **dict.fromkeys(("dns_ns", "tcp_ns", "tcp_rtt_ns", "tcp_min_rtt_ns", "tcp_retransmits", "tls_ns"), _INT),
    **dict.fromkeys(("tls_version", "tls_cipher", "tls_alpn"), _TEXT),
    **dict.fromkeys(("tls_resumed", "tls_verified"), _BOOL),
    "tls_error": _TEXT,
    **dict.fromkeys(("http_status", "upload_ns", "ttfb_ns", "e2e_ns", "request_bytes", "response_bytes"), _INT),
    "ts_source": _TEXT,
    "is_cut_off": _BOOL,
    "total_ns": _INT,
}

#: The fields of InferenceResult beyond the common ones, under its names.
_INFERENCE: Columns = {
    **dict.fromkeys(("model", "outcome", "connection", "http_version"), _TEXT),
    "http_status": _INT,
    "address": _TEXT,
    **dict.fromkeys(("dns_ns", "tcp_ns", "tls_ns"), _INT),
    "tls_version": _TEXT,
    **dict.fromkeys(("upload_ns", "head_ns", "ttfb_ns", "ttft_ns", "first_content_ns", "first_reasoning_ns", "first_tool_call_ns"), _INT),
    **dict.fromkeys(("e2e_ns", "prompt_tokens", "output_tokens", "completion_tokens"), _INT),
    "token_gaps_ns": pa.list_(_INT),
    "token_arrivals": _INT,
    "is_streamed": _BOOL,
    "finish_reason": _TEXT,
    "retry_after_ns": _INT,
    "ts_source": _TEXT,
    **dict.fromkeys(("late_ns", "request_bytes", "response_bytes", "response_segments"), _INT),
    **dict.fromkeys(("tcp_rtt_ns", "tcp_min_rtt_ns", "tcp_retransmits"), _INT),
    "error": _TEXT,
}

#: The fields of ServingResult beyond the common ones, under its names.
_SERVING: Columns = {
    **dict.fromkeys(("outcome", "server", "model"), _TEXT),
    **dict.fromkeys(("http_status", "took_ns", "requests_running", "requests_waiting"), _INT),
    "kv_cache_ratio": _REAL,
    **dict.fromkeys(("queue_sum_ns", "queue_count", "prefill_sum_ns", "prefill_count", "ttft_sum_ns", "ttft_count"), _INT),
    **dict.fromkeys(("prompt_tokens_total", "output_tokens_total"), _INT),
    "server_started_at": _AT,
    **dict.fromkeys(("response_bytes", "tcp_rtt_ns"), _INT),
    "error": _TEXT,
}

COLUMNS: dict[str, Columns] = {
    "ping_sample": {
        **_HEAD,
        "method": _TEXT,
        "timeout_ns": _INT,
        "payload_bytes": _INT,
        "flow": _INT,
        **_TAIL,
        "is_round_start": _BOOL,
        "sequence": _INT,
        "outcome": _TEXT,
        "sent_at": _AT,
        "rtt_ns": _INT,
        "ts_source": _TEXT,
        "sched_lag_ns": _INT,
        "reply_ttl": _INT,
        "duplicates": _INT,
        "late": _BOOL,
        "icmp_type": _INT,
        "icmp_code": _INT,
        "responder": _TEXT,
        "error": _TEXT,
        "failure_source": _TEXT,
    },
    "traceroute": {**_HEAD, "protocol": _TEXT, "flow": _INT, "reached": _BOOL, "path_hash": _TEXT, "hops": _HOPS, "error": _TEXT, **_TAIL},
    "throughput": {
        **_HEAD,
        "tool": _TEXT,
        "direction": _TEXT,
        "transferred_bytes": _INT,
        "duration_ns": _INT,
        "throughput_bps": _INT,
        "stop_reason": _TEXT,
        "retransmits": _INT,
        "tcp_rtt_ns": _INT,
        "tcp_min_rtt_ns": _INT,
        "congestion_control": _TEXT,
        "error": _TEXT,
        **_THROUGHPUT_MORE,
        **_TAIL,
    },
    "inference": {
        **_HEAD,
        **_INFERENCE,
        **_TAIL,
    },
    "http": {
        **_HEAD,
        **_HTTP,
        **_TAIL,
    },
    "stamp": {
        **_HEAD,
        **dict.fromkeys(("mode", "reflector"), _TEXT),
        **dict.fromkeys(("timeout_ns", "packet_bytes", "sent_count", "reply_count"), _INT),
        **dict.fromkeys(("forward_lost", "backward_lost", "undirected_lost", "clock_error_ns", "unverified"), _INT),
        "samples": pa.list_(pa.struct(_STAMP_SAMPLE)),
        **_TAIL,
    },
    "serving": {
        **_HEAD,
        **_SERVING,
        **_TAIL,
    },
    "agent_status": {
        **dict.fromkeys(("agent", "site", "boot"), _TEXT),
        "reported_at": _AT,
        "version": _TEXT,
        "uptime_ns": _INT,
        "produced": pa.map_(_TEXT, _INT),
        **dict.fromkeys(("skipped_rounds", "spool_bytes", "dropped_measurements", "loop_lag_p99_ns", "clock_error_ns"), _INT),
        "grade": _TEXT,
        "reasons": pa.list_(_TEXT),
        "round_lag_p99_ns": _INT,
        "steal_ratio": pa.float64(),
        "stamps": pa.map_(_TEXT, _INT),
        "failures": pa.map_(_TEXT, _INT),
        "opted_out_rounds": _INT,
        "shifts": _INT,
        "config_generation": _INT,
        "config_refused": _TEXT,
        "schedule": pa.map_(_TEXT, _INT),
        **_TAIL,
    },
    "reject": {
        **dict.fromkeys(("source", "agent", "boot"), _TEXT),
        **dict.fromkeys(("batch_sequence", "line_number"), _INT),
        **dict.fromkeys(("reason", "detail", "line", "content_sha256"), _TEXT),
        "received_at": _AT,
    },
    "batch": {
        **dict.fromkeys(("agent", "boot"), _TEXT),
        "sequence": _INT,
        **dict.fromkeys(("content_sha256", "source"), _TEXT),
        "received_at": _AT,
        **dict.fromkeys(("line_count", "stored_count", "rejected_count", "redated_ns"), _INT),
    },
    "rtt_matrix": {
        **dict.fromkeys(("src", "dst", "medium"), _TEXT),
        **dict.fromkeys(("rtt_ns", "min_ns", "p50_ns", "p95_ns", "stddev_ns"), _INT),
        "loss_ratio": _REAL,
        "measured_at": _AT,
        "source": _TEXT,
        "line_number": _INT,
        "content_sha256": _TEXT,
        "received_at": _AT,
    },
    "site": {
        **dict.fromkeys(("id", "kind", "name"), _TEXT),
        **dict.fromkeys(("lat", "lon"), _REAL),
        **dict.fromkeys(("country", "provider", "metro"), _TEXT),
        "updated_at": _AT,
    },
}


def _head(m: Measurement) -> Row:
    # The boot of the measurement is the first part of its id; that of the batch may differ after a restart.
    boot = m.id.rpartition("-")[0] or m.id
    return (m.id, m.agent, boot, m.src, m.dst, m.medium, m.target, m.engine, m.started_at_ns // 1000)


def _tail(batch: BatchName, received_at: datetime) -> Row:
    return (batch.boot, batch.sequence, received_at)


def ping_rows(m: PingResult, batch: BatchName, received_at: datetime) -> list[Row]:
    """One row per probe packet."""
    common = (*_head(m), m.method, m.timeout_ns, m.payload_bytes, m.flow, *_tail(batch, received_at))
    return [
        (
            *common,
            index == 0,
            s.sequence,
            s.outcome,
            s.sent_at_ns // 1000,
            s.rtt_ns,
            s.ts_source,
            s.sched_lag_ns,
            s.reply_ttl,
            s.duplicates,
            s.late,
            s.icmp_type,
            s.icmp_code,
            s.responder,
            s.error,
            s.failure_source,
        )
        for index, s in enumerate(m.samples)
    ]


def traceroute_rows(m: TracerouteResult, batch: BatchName, received_at: datetime) -> list[Row]:
    """One row per traced flow, hops nested."""
    hops = [
        {
            "ttl": h.ttl,
            "address": h.address,
            "rtt_ns": h.rtt_ns,
            "probes": h.probes,
            "replies": h.replies,
            "ts_source": h.ts_source,
            "icmp_type": h.icmp_type,
            "icmp_code": h.icmp_code,
            "reply_ttl": h.reply_ttl,
            "mpls": [{"label": e.label, "traffic_class": e.traffic_class, "bottom": e.bottom, "ttl": e.ttl} for e in h.mpls],
        }
        for h in m.hops
    ]
    return [(*_head(m), m.protocol, m.flow, m.reached, m.path_hash, hops, m.error, *_tail(batch, received_at))]


def throughput_rows(m: ThroughputResult, batch: BatchName, received_at: datetime) -> list[Row]:
    """One row per test."""
    return [
        (
            *_head(m),
            m.tool,
            m.direction,
            m.transferred_bytes,
            m.duration_ns,
            m.throughput_bps,
            m.stop_reason,
            m.retransmits,
            m.tcp_rtt_ns,
            m.tcp_min_rtt_ns,
            m.congestion_control,
            m.error,
            *(getattr(m, name) for name in _THROUGHPUT_MORE),
            *_tail(batch, received_at),
        )
    ]


def inference_rows(m: InferenceResult, batch: BatchName, received_at: datetime) -> list[Row]:
    """One row per request."""
    return [(*_head(m), *(getattr(m, name) for name in _INFERENCE), *_tail(batch, received_at))]


def serving_rows(m: ServingResult, batch: BatchName, received_at: datetime) -> list[Row]:
    """One row per reading."""
    began_us = None if m.server_started_at_ns is None else m.server_started_at_ns // 1000
    fields = (began_us if name == "server_started_at" else getattr(m, name) for name in _SERVING)
    return [(*_head(m), *fields, *_tail(batch, received_at))]


def http_rows(m: HttpResult, batch: BatchName, received_at: datetime) -> list[Row]:
    """One row per connection."""
    return [(*_head(m), *(getattr(m, name) for name in _HTTP), *_tail(batch, received_at))]


def stamp_rows(m: StampResult, batch: BatchName, received_at: datetime) -> list[Row]:
    """One row per round, packets nested."""
    outcomes = [sample.outcome for sample in m.samples]
    sent_count = len(outcomes) - outcomes.count("send_failed")
    samples = [{name: getattr(sample, name) for name in _STAMP_SAMPLE} for sample in m.samples]
    counts = (m.timeout_ns, m.packet_bytes, sent_count, outcomes.count("reply"))
    losses = (m.forward_lost, m.backward_lost, m.undirected_lost, m.clock_error_ns, m.unverified)
    return [(*_head(m), m.mode, m.reflector, *counts, *losses, samples, *_tail(batch, received_at))]


def agent_status_rows(s: AgentStatus, batch: BatchName, received_at: datetime) -> list[Row]:
    """One row per report."""
    return [
        (
            s.agent,
            s.site,
            s.boot,
            s.at_ns // 1000,
            s.version,
            s.uptime_ns,
            list(s.produced.items()),
            s.skipped_rounds,
            s.spool_bytes,
            s.dropped_measurements,
            s.loop_lag_p99_ns,
            s.clock_error_ns,
            s.grade,
            s.reasons,
            s.round_lag_p99_ns,
            s.steal_ratio,
            None if s.stamps is None else list(s.stamps.items()),
            None if s.failures is None else list(s.failures.items()),
            s.opted_out_rounds,
            s.shifts,
            s.config_generation,
            s.config_refused,
            None if s.schedule is None else list(s.schedule.items()),
            *_tail(batch, received_at),
        )
    ]


def tables(rows: Mapping[str, Sequence[Row]]) -> dict[str, pa.Table]:
    """Arrow tables of the rows by table name; tables without rows are left out.

    Raises OverflowError or ValueError (pyarrow's errors among them) when a value does not fit its column.
    """
    made = {}
    for name, some in rows.items():
        if not some:
            continue
        columns = COLUMNS[name]
        arrays = [pa.array(values, kind) for values, kind in zip(zip(*some, strict=True), columns.values(), strict=True)]
        made[name] = pa.Table.from_arrays(arrays, names=list(columns))
    return made
