-- Question: how did one link's RTT and loss go over time, from roll-ups? Grain: $bucket_count buckets of $width from $since on; empty ones
-- are there. As ping_series, for wide buckets: counts, least and greatest are exact, quantiles within 1 % (nearest rank over the added log
-- buckets). Units: ms. NULL: no reply in the bucket.
WITH
-- include rollup/rolled
,
part AS (
    SELECT * FROM rolled
    WHERE src = $src AND dst = $dst AND medium = $medium AND probe_type = 'ping' AND NOT is_degraded_agent
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
