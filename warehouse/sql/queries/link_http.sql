-- Question: how is each link, from the TCP hand-shakes of its connections? Grain: src, dst, medium; connections begun in ($since, $now].
-- Units: ns. As link_pings, for links whose targets answer no ping. A connection says nothing of packet loss: the kernel sends a lost
-- SYN again. A degraded agent's connections count only where a link has no others; the link then says is_ungraded.
WITH connection AS (
    SELECT src, dst, medium, tcp_rtt_ns AS rtt_ns, started_at, is_degraded_agent
    FROM marked_http
    WHERE started_at > $since AND started_at <= $now AND tcp_rtt_ns IS NOT NULL AND NOT is_from_future AND NOT is_duplicate_id
),
graded AS (
    SELECT src, dst, medium, bool_and(is_degraded_agent) AS is_ungraded FROM connection GROUP BY ALL
),
bucket AS (
    SELECT c.src, c.dst, c.medium, rtt_bucket(c.rtt_ns) AS bucket, count(*) AS n
    FROM connection AS c JOIN graded AS g USING (src, dst, medium)
    WHERE c.is_degraded_agent = g.is_ungraded
    GROUP BY ALL
),
histogram AS (
    SELECT src, dst, medium, list_sort(list([bucket::BIGINT, n])) AS buckets FROM bucket GROUP BY ALL
)
SELECT l.*, h.buckets
FROM (
    SELECT
        c.src, c.dst, c.medium,
        min(c.rtt_ns) AS rtt_min_ns,
        quantile_disc(c.rtt_ns, [0.50, 0.95, 0.99]) AS rtt_quantiles_ns,
        count(*) AS reply_count,
        max(c.started_at) AS newest_started_at,
        any_value(g.is_ungraded) AS is_ungraded
    FROM connection AS c
    JOIN graded AS g USING (src, dst, medium)
    WHERE c.is_degraded_agent = g.is_ungraded
    GROUP BY c.src, c.dst, c.medium
) AS l
JOIN histogram AS h USING (src, dst, medium) -- joined to links, not to every packet
ORDER BY src, dst, medium;
