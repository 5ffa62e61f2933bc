"""The questions the SQL page offers to start from."""

from __future__ import annotations

__all__ = ["SQL_EXAMPLES", "SQL_IMPORTED"]

#: The example that a warehouse without probe packets starts with.
SQL_IMPORTED = "Imported links"

#: Questions to start from on the SQL page; each uses only documented views and columns.
SQL_EXAMPLES = {
    "Links furthest above the fibre floor": """SELECT src, dst, medium, rtt_p50_ms, fibre_floor_ms,
       rtt_p50_ms / fibre_floor_ms AS inflation, loss_ratio
FROM links
WHERE fibre_floor_ms >= 2
ORDER BY inflation DESC
LIMIT 50""",
    "Both directions of every pair": """SELECT a.src, a.dst, a.medium, a.rtt_p50_ms AS forward_ms, b.rtt_p50_ms AS reverse_ms,
       a.rtt_p50_ms - b.rtt_p50_ms AS difference_ms
FROM links AS a JOIN links AS b ON (b.src, b.dst, b.medium) = (a.dst, a.src, a.medium)
WHERE a.src < a.dst
ORDER BY abs(difference_ms) DESC""",
    "One link, minute by minute": """SELECT time_bucket(INTERVAL 1 MINUTE, sent_at) AS minute_at,
       quantile_disc(rtt_ns, 0.5) / 1e6 AS p50_ms,
       quantile_disc(rtt_ns, 0.95) / 1e6 AS p95_ms,
       count(*) FILTER (outcome = 'timeout') / count(*) AS loss_ratio
FROM valid_ping
WHERE (src, dst, medium) = (SELECT (src, dst, medium) FROM links ORDER BY loss_ratio DESC, src, dst LIMIT 1)
GROUP BY minute_at
ORDER BY minute_at""",
    "Hops that add the most": """SELECT src, dst, ttl, address,
       median(rtt_ms - before_ms) AS added_ms, count(*) AS traces
FROM (
    SELECT *, lag(rtt_ms, 1, 0.0 IGNORE NULLS) OVER (PARTITION BY measurement_id ORDER BY ttl) AS before_ms
    FROM hops
)
WHERE address IS NOT NULL
GROUP BY ALL
ORDER BY added_ms DESC
LIMIT 50""",
    "Time to first token and its network share": """SELECT src, dst, medium, model, count(*) AS requests,
       median(ttft_ns) / 1e6 AS ttft_p50_ms, median(tcp_rtt_ns) / 1e6 AS rtt_p50_ms
FROM valid_inference
WHERE outcome = 'ok'
GROUP BY ALL
ORDER BY ttft_p50_ms""",
    "Hand-shakes to every endpoint, in full and resumed": """SELECT src, dst, rtt_p50_ms, dns_p50_ms, tls_full_p50_ms, tls_resumed_p50_ms,
       tried_count, failed_count
FROM http_links
ORDER BY rtt_p50_ms NULLS LAST""",
    SQL_IMPORTED: """SELECT src, dst, medium, rtt_p50_ns / 1e6 AS rtt_p50_ms, rtt_min_ns / 1e6 AS rtt_min_ms,
       is_faster_than_light, source
FROM imported_links
ORDER BY rtt_p50_ms DESC""",
    "Agents": "SELECT * FROM agents ORDER BY last_seen_at",
    "What was refused, and why": """SELECT reason, count(*) AS rows, any_value(detail) AS example
FROM reject
GROUP BY reason
ORDER BY rows DESC""",
    "What every column means": "SELECT name, column_name, comment FROM data_dictionary",
}
