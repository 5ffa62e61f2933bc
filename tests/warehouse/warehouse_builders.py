"""Measurements for the tests of the warehouse: small, valid, and told apart by what a test says of them."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import itertools
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from records.batch import BatchName, Line, encode_line
from records.claims import ServingResult
from records.link import Grain, LinkEstimate
from records.measurement import (
    AgentStatus,
    Hop,
    HttpResult,
    InferenceResult,
    MplsLabel,
    PingResult,
    PingSample,
    ThroughputResult,
    TracerouteResult,
)
from records.stamp import StampResult, StampSample
from routing.columns import LinkColumns
from warehouse import queries
from warehouse.connect import Warehouse
from warehouse.ingest import Batch, parse
from warehouse.store import Outcome, store

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BOOT = "00aa00aa00aa00aa"
SECOND = 1_000_000_000
_SEQUENCES = itertools.count()


def at_ns(at: datetime) -> int:
    """A time in ns since 1970, exactly."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def head(n: int, at: datetime, **other: Any) -> dict[str, Any]:
    """What every measurement says of itself."""
    base = {"agent": "sin-1", "src": "sin", "dst": "fra", "medium": "internet", "target": "192.0.2.7", "engine": "test/1"}
    return {"id": f"{BOOT}-{n}", "started_at_ns": at_ns(at), **base, **other}


def ping(n: int, rtts_ns: Sequence[int | None], at: datetime = NOW - timedelta(minutes=1), **other: Any) -> PingResult:
    """A round with one packet every 10 ms; None is a packet that got no answer."""
    samples = tuple(
        PingSample(sequence=i, outcome="timeout", sent_at_ns=at_ns(at) + i * 10_000_000)
        if rtt is None
        else PingSample(sequence=i, outcome="reply", sent_at_ns=at_ns(at) + i * 10_000_000, rtt_ns=rtt, ts_source="kernel_txrx")
        for i, rtt in enumerate(rtts_ns)
    )
    return PingResult(**{**head(n, at), "method": "icmp", "timeout_ns": 2 * SECOND, "payload_bytes": 56, "samples": samples, **other})


def trace(n: int, at: datetime = NOW - timedelta(minutes=1), **other: Any) -> TracerouteResult:
    """A path of three hops, the second silent, the third with a label stack."""
    hops = (
        Hop(ttl=1, address="10.0.0.1", rtt_ns=1_000_000, replies=1, ts_source="kernel_rx", icmp_type=11, icmp_code=0, reply_ttl=64),
        Hop(ttl=2, address=None, rtt_ns=None, probes=2),
        Hop(
            ttl=3,
            address="192.0.2.7",
            rtt_ns=9_000_000,
            replies=1,
            mpls=(MplsLabel(label=16, traffic_class=0, bottom=False, ttl=1), MplsLabel(label=17, traffic_class=1, bottom=True, ttl=1)),
        ),
    )
    return TracerouteResult(**{**head(n, at), "protocol": "icmp", "flow": 0, "hops": hops, "reached": True, "path_hash": "ab12", **other})


def transfer(n: int, bps: int | None, at: datetime = NOW - timedelta(minutes=1), **other: Any) -> ThroughputResult:
    """A throughput test of a second; None is one that failed."""
    outcome: dict[str, Any] = {"stop_reason": "time"} if bps is not None else {"stop_reason": "error", "error": "connection refused"}
    values = {"tool": "iperf3", "direction": "up", "transferred_bytes": (bps or 0) // 8, "duration_ns": SECOND, "throughput_bps": bps}
    return ThroughputResult(**{**head(n, at), **values, **outcome, **other})


def request(
    n: int, ttft_ns: int | None, gaps_ns: Sequence[int] = (), at: datetime = NOW - timedelta(minutes=1), **other: Any
) -> InferenceResult:
    """An inference request; ttft None is one that timed out."""
    outcome = {"outcome": "ok", "ttft_ns": ttft_ns} if ttft_ns is not None else {"outcome": "timeout", "error": "no token in 5 s"}
    return InferenceResult(**{**head(n, at), "model": "tiny", "connection": "cold", "token_gaps_ns": tuple(gaps_ns), **outcome, **other})


def visit(n: int, rtt_ns: int | None, at: datetime = NOW - timedelta(minutes=1), **other: Any) -> HttpResult:
    """A connection with TLS; rtt None is one that was refused."""
    went = (
        {"outcome": "ok", "tcp_ns": rtt_ns, "tcp_rtt_ns": rtt_ns, "tls_ns": 2 * rtt_ns, "tls_verified": True} if rtt_ns is not None else {}
    )
    refused = {"outcome": "refused", "failed_phase": "tcp", "failure_source": "target", "error": "connection refused"}
    return HttpResult(**{**head(n, at), "protocol": "tls", **(went or refused), **other})


def stamped(n: int, rtts_ns: Sequence[int | None], at: datetime = NOW - timedelta(minutes=1), **other: Any) -> StampResult:
    """A STAMP round with one packet every 10 ms, a third of each RTT on the way there; None is a packet lost on the way back."""
    samples = tuple(
        StampSample(sequence=i, outcome="timeout", sent_at_ns=at_ns(at) + i * 10_000_000)
        if rtt is None
        else StampSample(
            sequence=i,
            outcome="reply",
            sent_at_ns=at_ns(at) + i * 10_000_000,
            rtt_ns=rtt,
            ts_source="kernel_txrx",
            residence_ns=20_000,
            forward_ns=rtt // 3,
            backward_ns=rtt - rtt // 3,
            reflector_sequence=i,
        )
        for i, rtt in enumerate(rtts_ns)
    )
    base: dict[str, Any] = {
        "mode": "unauthenticated",
        "reflector": "stateful",
        "timeout_ns": SECOND,
        "packet_bytes": 44,
        "samples": samples,
    }
    lost = {"forward_lost": 0, "backward_lost": list(rtts_ns).count(None), "clock_error_ns": 100_000}
    return StampResult(**{**head(n, at), **base, **lost, "samples": samples, **other})


def reading(n: int, at: datetime = NOW - timedelta(minutes=1), **other: Any) -> ServingResult:
    """A reading of a server's metrics."""
    said = {"outcome": "ok", "server": "vllm", "requests_running": 4, "requests_waiting": 3, "kv_cache_ratio": 0.25}
    return ServingResult(**{**head(n, at), **said, **other})


def report(at: datetime, *, grade: str = "ok", produced: dict[str, int] | None = None, **other: Any) -> AgentStatus:
    """What an agent says of itself."""
    base: dict[str, Any] = {"agent": "sin-1", "site": "sin", "boot": BOOT, "at_ns": at_ns(at), "version": "0.1.0", "uptime_ns": SECOND}
    counts: dict[str, Any] = {"produced": produced or {}, "skipped_rounds": 0, "spool_bytes": 0, "dropped_measurements": 0}
    reasons = ("loop lag 900 ms",) if grade == "degraded" else ()
    return AgentStatus(**{**base, **counts, "grade": grade, "reasons": reasons, **other})


def content(lines: Iterable[Line]) -> bytes:
    """Lines as an agent writes them, not compressed."""
    return b"".join(map(encode_line, lines))


def batch(
    lines: Iterable[Line], *, agent: str = "sin-1", boot: str = BOOT, sequence: int | None = None, received_at: datetime = NOW
) -> Batch:
    """A parsed batch; without a sequence it gets one of its own."""
    number = next(_SEQUENCES) if sequence is None else sequence
    return parse(content(lines), BatchName(agent, boot, number), received_at=received_at)


def put(wh: Warehouse, *lines: Line, received_at: datetime = NOW) -> list[Outcome]:
    """Store lines, one batch for each agent among them."""
    agents = {line.agent: None for line in lines}
    batches = [batch([line for line in lines if line.agent == agent], agent=agent, received_at=received_at) for agent in agents]
    return store(wh, batches)


def post(lines: Iterable[Line], *, agent: str = "sin-1", boot: str = BOOT, sequence: int = 0, token: str | None = None) -> dict[str, Any]:
    """Keyword arguments for an HTTP client's `post` of one batch."""
    headers = {"Isochrone-Agent": agent, "Isochrone-Boot": boot, "Isochrone-Sequence": str(sequence), "Content-Encoding": "gzip"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return {"url": "/api/v1/batches", "headers": headers, "content": gzip.compress(content(lines))}


@contextlib.contextmanager
def catalog_in_use(kept: Path) -> Iterator[None]:
    """Another program holds the SQLite catalog meanwhile; in a process of its own, for POSIX locks keep no two libraries of one apart."""
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute('BEGIN EXCLUSIVE'); print(); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(kept / "catalog.sqlite")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"\n"
        yield
        other.communicate()


def as_objects(wh: Warehouse, *, now: datetime = NOW, window: timedelta | None = None, grain: Grain | None = None) -> list[LinkEstimate]:
    """What `queries.link_columns` says, link by link."""
    rows, rates = queries.link_columns(wh, now=now, window=window, grain=grain)
    found = LinkColumns(**{each.name: getattr(rows, each.name) for each in dataclasses.fields(rows)})
    return [dataclasses.replace(link, throughput_bps=rates.get(link.key)) for link in found]
