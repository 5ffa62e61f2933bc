-- Question: how did one link's RTT and loss go over time? Grain: $bucket_count equal buckets of [$start, $end); empty ones are there.
-- Units: ms; quantiles by nearest rank, exact. NULL: no reply in the bucket.
WITH packet AS (
    SELECT
        -- The end is exclusive, yet rounding may lift the last microseconds of it into a bucket of their own.
        least(CAST(floor(epoch_us(sent_at - $start) * $bucket_count / epoch_us($end - $start)) AS BIGINT), $bucket_count - 1) AS bucket,
        outcome, rtt_ns
    FROM valid_ping
    WHERE src = $src AND dst = $dst AND medium = $medium AND sent_at >= $start AND sent_at < $end
),
value AS (
    SELECT
        bucket,
        count(*) FILTER (outcome <> 'send_failed') AS sent,
        count(*) FILTER (outcome IN ('timeout', 'unreachable')) AS lost,
        min(rtt_ns) AS least,
        quantile_disc(rtt_ns, [0.05, 0.25, 0.50, 0.75, 0.95]) AS q,
        max(rtt_ns) AS most
    FROM packet
    GROUP BY bucket
)
SELECT
    $start + to_microseconds(CAST(b.bucket * epoch_us($end - $start) // $bucket_count AS BIGINT)) AS bucket_at,
    coalesce(v.sent, 0) AS sent,
    coalesce(v.lost, 0) AS lost,
    v.least / 1e6 AS min_ms,
    v.q[1] / 1e6 AS p5_ms,
    v.q[2] / 1e6 AS p25_ms,
    v.q[3] / 1e6 AS p50_ms,
    v.q[4] / 1e6 AS p75_ms,
    v.q[5] / 1e6 AS p95_ms,
    v.most / 1e6 AS max_ms,
    'raw' AS grain
FROM range($bucket_count) AS b (bucket)
LEFT JOIN value AS v ON v.bucket = b.bucket
ORDER BY b.bucket;
