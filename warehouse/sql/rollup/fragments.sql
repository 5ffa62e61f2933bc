-- Question: what do the rows committed after snapshot $mark, up to $upper, add to rollup_minute? Grain: as rollup_minute. Units: ns.
-- Which rows count is said as in valid_ping, but that those of a degraded agent are kept apart: a link may have no others.
WITH sample AS (
    SELECT
        'ping' AS probe_type, agent, boot, src, dst, medium, sent_at AS sample_at, rtt_ns AS value_ns,
        outcome <> 'send_failed' AS is_sent, outcome IN ('timeout', 'unreachable') AS is_lost
    FROM ping_sample
    WHERE snapshot_id > $mark AND snapshot_id <= $upper AND NOT is_duplicate_id AND epoch_us(sent_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT 'http', agent, boot, src, dst, medium, started_at, tcp_rtt_ns, true, NULL
    FROM http
    WHERE snapshot_id > $mark AND snapshot_id <= $upper AND NOT is_duplicate_id AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT 'inference', agent, boot, src, dst, medium, started_at, if(outcome = 'ok', ttft_ns, NULL), true, NULL
    FROM inference
    WHERE snapshot_id > $mark AND snapshot_id <= $upper AND NOT is_duplicate_id AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
),
graded AS (
    SELECT s.*, d.agent IS NOT NULL AS is_degraded_agent, minute_of(s.sample_at) AS bucket_at
    FROM sample AS s
    LEFT JOIN agent_degraded AS d
        ON d.agent = s.agent AND d.boot = s.boot AND s.sample_at > d.degraded_from_at AND s.sample_at <= d.degraded_until_at
),
head AS (
    SELECT
        src, dst, medium, probe_type, is_degraded_agent, bucket_at,
        count(*) FILTER (is_sent) AS sent_count,
        CASE WHEN any_value(probe_type) = 'ping' THEN count(*) FILTER (is_lost) END AS lost_count,
        count(value_ns) AS reply_count,
        min(value_ns) AS min_ns, max(value_ns) AS max_ns, CAST(sum(value_ns) AS BIGINT) AS sum_ns,
        max(sample_at) AS newest_at
    FROM graded
    GROUP BY ALL
),
bucket AS (
    SELECT src, dst, medium, probe_type, is_degraded_agent, bucket_at, rtt_bucket(value_ns) AS bucket, count(*) AS n
    FROM graded
    WHERE value_ns IS NOT NULL
    GROUP BY ALL
),
histogram AS (
    SELECT src, dst, medium, probe_type, is_degraded_agent, bucket_at, list({'bucket': bucket, 'n': n} ORDER BY bucket) AS buckets
    FROM bucket
    GROUP BY ALL
)
SELECT
    src, dst, medium, probe_type, is_degraded_agent, bucket_at,
    sent_count, lost_count, reply_count, min_ns, max_ns, sum_ns, newest_at, coalesce(buckets, []) AS buckets
FROM head
LEFT JOIN histogram USING (src, dst, medium, probe_type, is_degraded_agent, bucket_at)
ORDER BY src, dst, medium, probe_type, bucket_at;
