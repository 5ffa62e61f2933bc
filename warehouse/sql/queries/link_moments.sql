-- Question: what did some links' RTT look like at each moment? Grain: src, dst, medium, time bucket, RTT bucket; packets sent in ($since, $now].
-- Units: s since 1970, buckets of records/histogram.py. The links are the rows of $links. Answered probe packets only.
-- Time buckets are as wide as leaves at most some hundreds of them in the window, the same for every link: 1, 5 or 15 minutes, or an hour.
-- As in link_pings a degraded agent's packets count only where a link has no others.
WITH asked AS (
    SELECT * FROM $links AS t (src, dst, medium)
),
packet AS (
    SELECT p.src, p.dst, p.medium, p.rtt_ns, p.sent_at, p.is_degraded_agent
    FROM marked_ping AS p
    SEMI JOIN asked USING (src, dst, medium)
    WHERE p.sent_at > $since AND p.sent_at <= $now AND p.rtt_ns IS NOT NULL AND NOT p.is_from_future AND NOT p.is_duplicate_id
),
graded AS (
    SELECT src, dst, medium, bool_and(is_degraded_agent) AS is_ungraded FROM packet GROUP BY ALL
),
span AS (
    SELECT (epoch_us(max(sent_at)) - epoch_us(min(sent_at))) // 1_000_000 AS span_s FROM packet
),
width AS (
    SELECT CAST(CASE WHEN span_s <= 18_000 THEN 60 WHEN span_s <= 90_000 THEN 300 WHEN span_s <= 270_000 THEN 900 ELSE 3600 END AS BIGINT) AS width_s
    FROM span
)
SELECT
    p.src, p.dst, p.medium,
    epoch_us(p.sent_at) // (w.width_s * 1_000_000) * w.width_s AS at_s,
    CAST(rtt_bucket(p.rtt_ns) AS BIGINT) AS bucket,
    count(*) AS n
FROM packet AS p
JOIN graded AS g USING (src, dst, medium)
CROSS JOIN width AS w
WHERE p.is_degraded_agent = g.is_ungraded
GROUP BY ALL
ORDER BY src, dst, medium, at_s, bucket;
