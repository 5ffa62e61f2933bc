-- Question: as link_moments, from roll-ups; [$since, $until), both whole minutes. Grain: src, dst, medium, time bucket, RTT bucket.
-- Units: s since 1970, buckets of records/histogram.py. $width_s is a minute where no hour is read whole, else an hour: see link_rollup.
WITH asked AS (
    SELECT * FROM $links AS t (src, dst, medium)
),
-- include rollup/rolled
,
part AS (
    SELECT src, dst, medium, is_degraded_agent, bucket_at, buckets
    FROM rolled SEMI JOIN asked USING (src, dst, medium)
    WHERE probe_type = 'ping' AND reply_count > 0
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
