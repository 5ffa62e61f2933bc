-- Question: as link_moments, from roll-ups; [$since, $until), both whole minutes. Grain: src, dst, medium, time bucket, RTT bucket.
-- Units: s since 1970, buckets of records/histogram.py. $width_s is a minute where no hour is read whole, else an hour: see link_rollup.
WITH asked AS (
    SELECT * FROM $links AS t (src, dst, medium)
),
fresh AS (
    SELECT p.src, p.dst, p.medium, minute_of(p.sent_at) AS bucket_at, p.rtt_ns, d.agent IS NOT NULL AS is_degraded_agent
    FROM ping_sample AS p
    SEMI JOIN asked USING (src, dst, medium)
    LEFT JOIN agent_degraded AS d
        ON d.agent = p.agent AND d.boot = p.boot AND p.sent_at > d.degraded_from_at AND p.sent_at <= d.degraded_until_at
    WHERE p.snapshot_id > $mark AND p.sent_at >= $since AND p.sent_at < $until AND p.rtt_ns IS NOT NULL
        AND NOT p.is_duplicate_id AND epoch_us(p.sent_at) <= epoch_us(p.received_at) + 86_400_000_000
),
part AS (
    SELECT src, dst, medium, is_degraded_agent, bucket_at, buckets
    FROM rollup_hour SEMI JOIN asked USING (src, dst, medium)
    WHERE probe_type = 'ping' AND bucket_at >= $hour_from AND bucket_at < $hour_until
        AND bucket_at NOT IN (SELECT hour_at FROM rollup_touched)
    UNION ALL
    SELECT src, dst, medium, is_degraded_agent, bucket_at, buckets
    FROM rollup_minute SEMI JOIN asked USING (src, dst, medium)
    WHERE probe_type = 'ping' AND (
        (bucket_at >= $since AND bucket_at < $head_until)
        OR (bucket_at >= $tail_from AND bucket_at < $until)
        OR (
            bucket_at >= $touched_from AND bucket_at < $touched_until
            AND hour_of(bucket_at) IN (SELECT hour_at FROM rollup_touched)
        )
    )
    UNION ALL
    SELECT src, dst, medium, is_degraded_agent, bucket_at, [{'bucket': rtt_bucket(rtt_ns), 'n': 1::BIGINT}] FROM fresh
),
graded AS (
    SELECT src, dst, medium, bool_and(is_degraded_agent) AS is_ungraded FROM part GROUP BY ALL
)
SELECT
    p.src, p.dst, p.medium,
    epoch_us(p.bucket_at) // ($width_s * 1_000_000) * $width_s AS at_s,
    CAST(b.bucket AS BIGINT) AS bucket,
    CAST(sum(b.n) AS BIGINT) AS n
FROM part AS p
JOIN graded AS g USING (src, dst, medium), unnest(p.buckets) AS t (b)
WHERE p.is_degraded_agent = g.is_ungraded
GROUP BY ALL
ORDER BY src, dst, medium, at_s, bucket;
