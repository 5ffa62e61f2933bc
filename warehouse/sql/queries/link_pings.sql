-- Question: how is each link, from its probe packets? Grain: src, dst, medium; packets sent in ($since, $now].
-- Units: ns. Least RTT and quantiles are exact (nearest rank over every packet); buckets are those of records/histogram.py.
-- A degraded agent's packets count only where a link has no others; the link then says is_ungraded.
WITH packet AS (
    SELECT src, dst, medium, outcome, rtt_ns, sent_at, is_degraded_agent
    FROM marked_ping
    WHERE sent_at > $since AND sent_at <= $now AND NOT is_from_future AND NOT is_duplicate_id
),
graded AS (
    SELECT src, dst, medium, bool_and(is_degraded_agent) AS is_ungraded FROM packet GROUP BY ALL
),
bucket AS (
    -- Few rows remain after this step, whatever the window holds.
    SELECT p.src, p.dst, p.medium, rtt_bucket(p.rtt_ns) AS bucket, count(*) AS n
    FROM packet AS p JOIN graded AS g USING (src, dst, medium)
    WHERE p.rtt_ns IS NOT NULL AND p.is_degraded_agent = g.is_ungraded
    GROUP BY ALL
),
histogram AS (
    SELECT src, dst, medium, list_sort(list([bucket::BIGINT, n])) AS buckets FROM bucket GROUP BY ALL
)
SELECT l.*, h.buckets
FROM (
    SELECT
        p.src, p.dst, p.medium,
        min(p.rtt_ns) AS rtt_min_ns,
        quantile_disc(p.rtt_ns, [0.50, 0.95, 0.99]) AS rtt_quantiles_ns,
        count(*) FILTER (p.outcome <> 'send_failed') AS sent_count,
        count(*) FILTER (p.outcome IN ('timeout', 'unreachable')) AS lost_count,
        count(p.rtt_ns) AS reply_count,
        max(p.sent_at) AS newest_sent_at,
        any_value(g.is_ungraded) AS is_ungraded
    FROM packet AS p
    JOIN graded AS g USING (src, dst, medium)
    WHERE p.is_degraded_agent = g.is_ungraded
    GROUP BY p.src, p.dst, p.medium
) AS l
LEFT JOIN histogram AS h USING (src, dst, medium) -- joined to links, not to every packet
ORDER BY src, dst, medium;
