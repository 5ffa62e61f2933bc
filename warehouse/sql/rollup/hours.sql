-- Question: what do the minutes of the hours in `ready`, which lie in [$least, $most), add up to? Grain: as rollup_hour. Units: ns.
WITH part AS (
    SELECT * EXCLUDE (bucket_at), hour_of(bucket_at) AS bucket_at
    FROM rollup_minute
    WHERE bucket_at >= $least AND bucket_at < $most AND hour_of(bucket_at) IN (SELECT hour_at FROM ready)
),
head AS (
    SELECT
        src, dst, medium, probe_type, is_degraded_agent, bucket_at,
        CAST(sum(sent_count) AS BIGINT) AS sent_count, CAST(sum(lost_count) AS BIGINT) AS lost_count,
        CAST(sum(reply_count) AS BIGINT) AS reply_count,
        min(min_ns) AS min_ns, max(max_ns) AS max_ns, CAST(sum(sum_ns) AS BIGINT) AS sum_ns, max(newest_at) AS newest_at
    FROM part
    GROUP BY ALL
),
bucket AS (
    SELECT src, dst, medium, probe_type, is_degraded_agent, bucket_at, b.bucket AS bucket, CAST(sum(b.n) AS BIGINT) AS n
    FROM part, unnest(buckets) AS t (b)
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
