-- Question: how did one link's RTT and loss go over time, from roll-ups? Grain: $bucket_count buckets of $width from $since on; empty ones
-- are there. As ping_series, for wide buckets: counts, least and greatest are exact, quantiles within 1 % (nearest rank over the added log
-- buckets). Units: ms. NULL: no reply in the bucket.
-- Hours of [$hour_from, $hour_until) that nothing late has touched come from rollup_hour, what is before and after them from
-- rollup_minute ([$since, $head_until), [$tail_from, $until)), touched hours too ([$touched_from, $touched_until)), and what was committed
-- after snapshot $mark from the raw rows.
WITH fresh AS (
    SELECT
        'ping' AS probe_type, p.src, p.dst, p.medium, p.sent_at AS sample_at, minute_of(p.sent_at) AS bucket_at, p.rtt_ns AS value_ns,
        p.outcome <> 'send_failed' AS is_sent, p.outcome IN ('timeout', 'unreachable') AS is_lost, d.agent IS NOT NULL AS is_degraded_agent
    FROM ping_sample AS p
    LEFT JOIN agent_degraded AS d
        ON d.agent = p.agent AND d.boot = p.boot AND p.sent_at > d.degraded_from_at AND p.sent_at <= d.degraded_until_at
    WHERE p.snapshot_id > $mark AND p.src = $src AND p.dst = $dst AND p.medium = $medium AND p.sent_at >= $since AND p.sent_at < $until
        AND NOT p.is_duplicate_id AND epoch_us(p.sent_at) <= epoch_us(p.received_at) + 86_400_000_000
),
part AS (
    -- part hours
    SELECT probe_type, bucket_at, sent_count, lost_count, reply_count, min_ns, max_ns, newest_at, buckets
    FROM rollup_hour
    WHERE src = $src AND dst = $dst AND medium = $medium AND probe_type = 'ping' AND NOT is_degraded_agent AND bucket_at >= $hour_from AND bucket_at < $hour_until AND bucket_at NOT IN (SELECT hour_at FROM rollup_touched)
    -- end
    -- part head
    UNION ALL
    SELECT probe_type, bucket_at, sent_count, lost_count, reply_count, min_ns, max_ns, newest_at, buckets
    FROM rollup_minute
    WHERE src = $src AND dst = $dst AND medium = $medium AND probe_type = 'ping' AND NOT is_degraded_agent AND bucket_at >= $since AND bucket_at < $head_until
    -- end
    -- part tail
    UNION ALL
    SELECT probe_type, bucket_at, sent_count, lost_count, reply_count, min_ns, max_ns, newest_at, buckets
    FROM rollup_minute
    WHERE src = $src AND dst = $dst AND medium = $medium AND probe_type = 'ping' AND NOT is_degraded_agent AND bucket_at >= $tail_from AND bucket_at < $until
    -- end
    -- part touched
    UNION ALL
    SELECT probe_type, bucket_at, sent_count, lost_count, reply_count, min_ns, max_ns, newest_at, buckets
    FROM rollup_minute
    WHERE src = $src AND dst = $dst AND medium = $medium AND probe_type = 'ping' AND NOT is_degraded_agent AND bucket_at >= $touched_from AND bucket_at < $touched_until
        AND hour_of(bucket_at) IN (SELECT hour_at FROM rollup_touched)
    -- end
    UNION ALL
    SELECT
        probe_type, bucket_at, if(is_sent, 1, 0), if(is_lost, 1, 0), if(value_ns IS NULL, 0, 1), value_ns, value_ns, sample_at,
        CASE WHEN value_ns IS NULL THEN [] ELSE [{'bucket': rtt_bucket(value_ns), 'n': 1::BIGINT}] END
    FROM fresh
    WHERE NOT is_degraded_agent
),
placed AS (
    SELECT *, (epoch_us(bucket_at) - epoch_us($since)) // epoch_us($width) AS slot FROM part
),
head AS (
    SELECT
        slot, CAST(sum(sent_count) AS BIGINT) AS sent, CAST(sum(lost_count) AS BIGINT) AS lost, min(min_ns) AS least_ns, max(max_ns) AS most_ns
    FROM placed
    GROUP BY slot
),
bucket AS (
    SELECT slot, b.bucket AS bucket, CAST(sum(b.n) AS BIGINT) AS n FROM placed, unnest(buckets) AS t (b) GROUP BY ALL
),
ranked AS (
    SELECT
        *, CAST(sum(n) OVER (PARTITION BY slot ORDER BY bucket) AS BIGINT) AS seen, CAST(sum(n) OVER (PARTITION BY slot) AS BIGINT) AS total
    FROM bucket
),
quantile AS (
    SELECT
        slot,
        min(bucket) FILTER (seen >= total - (total * 100 - total * 5) // 100) AS q5,
        min(bucket) FILTER (seen >= total - (total * 100 - total * 25) // 100) AS q25,
        min(bucket) FILTER (seen >= total - (total * 100 - total * 50) // 100) AS q50,
        min(bucket) FILTER (seen >= total - (total * 100 - total * 75) // 100) AS q75,
        min(bucket) FILTER (seen >= total - (total * 100 - total * 95) // 100) AS q95
    FROM ranked
    GROUP BY slot
)
SELECT
    $since + s.slot * $width AS bucket_at,
    coalesce(h.sent, 0) AS sent,
    coalesce(h.lost, 0) AS lost,
    h.least_ns / 1e6 AS min_ms,
    least(greatest(CAST(round(rtt_bucket_value_ns(q.q5)) AS BIGINT), h.least_ns), h.most_ns) / 1e6 AS p5_ms,
    least(greatest(CAST(round(rtt_bucket_value_ns(q.q25)) AS BIGINT), h.least_ns), h.most_ns) / 1e6 AS p25_ms,
    least(greatest(CAST(round(rtt_bucket_value_ns(q.q50)) AS BIGINT), h.least_ns), h.most_ns) / 1e6 AS p50_ms,
    least(greatest(CAST(round(rtt_bucket_value_ns(q.q75)) AS BIGINT), h.least_ns), h.most_ns) / 1e6 AS p75_ms,
    least(greatest(CAST(round(rtt_bucket_value_ns(q.q95)) AS BIGINT), h.least_ns), h.most_ns) / 1e6 AS p95_ms,
    h.most_ns / 1e6 AS max_ms,
    $grain AS grain
FROM range($bucket_count) AS s (slot)
LEFT JOIN head AS h ON h.slot = s.slot
LEFT JOIN quantile AS q ON q.slot = s.slot
ORDER BY s.slot;
