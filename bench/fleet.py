"""A seeded fleet for benchmarks: what agents at every site would have sent, an hour at a time, made inside the warehouse.

Every ordered pair of sites: a ping round of ten packets each 20 s, RTT with a tail above the pair's own floor, 0.2 % loss; a trace each
half hour; a throughput test each six hours; every tenth pair: a connection each minute; five pools: an inference request of every site
each minute; every agent: a report each minute and a batch each five seconds. Seeds make the numbers, the same on any machine.
"""

# ruff: noqa: E501, S608 - SQL with numbers and names of ours

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from packets import register

from warehouse import Warehouse

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
#: Packets of a pair in an hour.
PACKETS_AN_HOUR = 10 * 3600 // 20

_PAIRS = """
pair AS (
    SELECT
        a.i * $sites + b.i AS pair, b.i AS pool, format('p{:03d}', a.i) AS src, format('p{:03d}', b.i) AS dst, 'internet' AS medium,
        format('p{:03d}-1', a.i) AS agent, format('{:016x}', a.i + 1) AS boot, '192.0.2.1' AS target, 'fleet/1' AS engine, 'fleet' AS batch_boot,
        2000000 + CAST(hash(least(a.i, b.i), greatest(a.i, b.i), $seed) % 250000000 AS BIGINT) AS base_ns,
        CAST(hash(a.i, b.i, $seed) % 1000000 AS BIGINT) AS offset_us
    FROM range($sites) AS a (i), range($sites) AS b (i)
    WHERE a.i <> b.i
)"""


def _every(kind: str, seconds: int, columns: str, where: str = "true") -> str:
    """One kind of measurement, every so many seconds of the hour; `columns` beside those that all have."""
    return f"""
INSERT INTO {kind} BY NAME
WITH {_PAIRS},
made AS (
    SELECT
        pair.*, n.i AS n, hash(pair * 100003 + n.i, $hour, $seed) AS h, $hour * {3600 // seconds} + n.i AS number,
        make_timestamptz(CAST($hour_us + n.i * {seconds} * 1000000 + offset_us AS BIGINT)) AS started_at
    FROM pair, range({3600 // seconds}) AS n (i)
    WHERE {where}
)
SELECT
    boot || '-{kind[0]}' || dst || '-' || number AS measurement_id, agent, boot, src, dst, medium, target, engine, started_at, batch_boot,
    $hour * 720 + n * {seconds} // 5 AS batch_sequence, make_timestamptz(epoch_us(started_at) + 3000000) AS received_at,
    false AS is_duplicate_id, {columns}
FROM made
"""


_TRACE = _every(
    "traceroute",
    1800,
    """'icmp' AS protocol, 0 AS flow, true AS reached, format('{:08x}', pair + (h % 4)) AS path_hash,
    [{'ttl': k, 'address': if(k % 5 = 0, NULL, '10.' || (pair + h % 4) % 250 || '.' || k || '.1'),
      'rtt_ns': if(k % 5 = 0, NULL, base_ns * k // 12 + CAST(h % 100000 AS BIGINT)), 'probes': 1, 'replies': if(k % 5 = 0, 0, 1),
      'ts_source': 'kernel_rx', 'icmp_type': if(k % 5 = 0, NULL, 11), 'icmp_code': if(k % 5 = 0, NULL, 0), 'reply_ttl': 60 - k, 'mpls': []}
      FOR k IN range(1, 13)] AS hops""",
)
_THROUGHPUT = _every(
    "throughput",
    3600,
    """'builtin' AS tool, if(h % 2 = 0, 'up', 'down') AS direction, 12500000 AS transferred_bytes, 300000000 AS duration_ns,
    CAST(100000000 + h % 900000000 AS BIGINT) AS throughput_bps, 'time' AS stop_reason, 0 AS retransmits, base_ns AS tcp_rtt_ns,
    base_ns AS tcp_min_rtt_ns, 'bbr' AS congestion_control""",
    "pair % 6 = $hour % 6",
)
_HTTP = _every(
    "http",
    60,
    """'tls' AS protocol, 'ok' AS outcome, base_ns AS tcp_ns, base_ns + CAST(h % 1000000 AS BIGINT) AS tcp_rtt_ns, base_ns AS tcp_min_rtt_ns,
    2 * base_ns AS tls_ns, 'TLSv1.3' AS tls_version, false AS tls_resumed, true AS tls_verified, 3 * base_ns AS ttfb_ns""",
    "pair % 10 = 0",
)
_INFERENCE = _every(
    "inference",
    60,
    """'llama-8b' AS model, if(h % 200 = 0, 'timeout', 'ok') AS outcome, if(h % 3 = 0, 'cold', 'warm') AS connection, 200 AS http_status,
    base_ns + CAST((h >> 8) % 300000 AS BIGINT) AS tcp_ns,
    CASE WHEN h % 200 <> 0 THEN 3 * base_ns + CAST(40000000 * exp(2.0 * ((h >> 12) % 65536) / 65536) AS BIGINT) END AS ttft_ns,
    CASE WHEN h % 200 <> 0 THEN 3 * base_ns + 1100000000 END AS e2e_ns,
    100 AS prompt_tokens, 40 AS output_tokens, [CAST(20000000 + (h >> k) % 5000000 AS BIGINT) FOR k IN range(20)] AS token_gaps_ns,
    true AS is_streamed, 600 AS request_bytes, base_ns + CAST((h >> 24) % 1000000 AS BIGINT) AS tcp_rtt_ns, base_ns AS tcp_min_rtt_ns""",
    "pool < 5",
)
_STATUS = """
INSERT INTO agent_status BY NAME
SELECT
    format('p{:03d}-1', a.i) AS agent, format('p{:03d}', a.i) AS site, format('{:016x}', a.i + 1) AS boot,
    make_timestamptz(CAST($hour_us + n.i * 60000000 AS BIGINT)) AS reported_at, '0.1.0' AS version,
    ($hour * 60 + n.i) * 60000000000 AS uptime_ns, MAP {'ping': ($sites - 1) * ($hour * 180 + n.i * 3)} AS produced, 0 AS skipped_rounds,
    0 AS spool_bytes, 0 AS dropped_measurements, 100000 AS loop_lag_p99_ns, 50000 AS clock_error_ns, 'ok' AS grade, [] AS reasons,
    'fleet' AS batch_boot, $hour * 720 + n.i * 12 AS batch_sequence,
    make_timestamptz(CAST($hour_us + n.i * 60000000 + 1000000 AS BIGINT)) AS received_at
FROM range($sites) AS a (i), range(60) AS n (i) WHERE true
"""
_BATCH = """
INSERT INTO batch BY NAME
SELECT
    format('p{:03d}-1', a.i) AS agent, 'fleet' AS boot, $hour * 720 + n.i AS sequence, sha256('' || a.i || '/' || $hour || '/' || n.i) AS content_sha256,
    'collector' AS source, make_timestamptz(CAST($hour_us + (n.i + 1) * 5000000 AS BIGINT)) AS received_at, ($sites - 1) AS line_count,
    ($sites - 1) AS stored_count, 0 AS rejected_count
FROM range($sites) AS a (i), range(720) AS n (i) WHERE true
"""


def packets_an_hour(sites: int) -> int:
    """Packets that a fleet of so many sites sends in an hour."""
    return sites * (sites - 1) * PACKETS_AN_HOUR


def put_hour(wh: Warehouse, hour: int, packets: Path, *, sites: int, seed: int) -> None:
    """Store what the fleet measured in one hour since START, unless it is there; its packets are in a file (see bench/packets.py)."""
    with wh.cursor() as cursor:
        if cursor.execute("SELECT 1 FROM batch WHERE boot = 'fleet' AND sequence = $first LIMIT 1", {"first": hour * 720}).fetchall():
            return
    at = START + hour * HOUR
    values = {"sites": sites, "seed": seed, "hour": hour, "hour_us": int(at.timestamp()) * 10**6}
    with wh.transaction() as cursor:
        register(cursor, packets)
        for sql in (_TRACE, _THROUGHPUT, _HTTP, _INFERENCE, _STATUS, _BATCH):
            cursor.execute(sql, {name: value for name, value in values.items() if f"${name}" in sql})
