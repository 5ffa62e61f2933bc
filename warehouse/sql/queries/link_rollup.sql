-- Question: how is each link, from roll-ups? Grain: src, dst, medium, probe type; [$since, $until), both whole minutes. Units: ns.
-- As link_pings and link_http, for windows of many packets: counts and the least RTT are exact, quantiles within 1 % (nearest rank over
-- the added log buckets). A degraded agent's packets count only where a link has no others; the link then says is_ungraded.
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
    WHERE p.snapshot_id > $mark AND p.sent_at >= $since AND p.sent_at < $until
        AND NOT p.is_duplicate_id AND epoch_us(p.sent_at) <= epoch_us(p.received_at) + 86_400_000_000
    UNION ALL
    SELECT
        'http', p.src, p.dst, p.medium, p.started_at, minute_of(p.started_at), p.tcp_rtt_ns, true, false, d.agent IS NOT NULL
    FROM http AS p
    LEFT JOIN agent_degraded AS d
        ON d.agent = p.agent AND d.boot = p.boot AND p.started_at > d.degraded_from_at AND p.started_at <= d.degraded_until_at
    WHERE p.snapshot_id > $mark AND p.started_at >= $since AND p.started_at < $until
        AND NOT p.is_duplicate_id AND epoch_us(p.started_at) <= epoch_us(p.received_at) + 86_400_000_000
),
part AS (
    -- part hours
    SELECT src, dst, medium, probe_type, is_degraded_agent, sent_count, lost_count, reply_count, min_ns, max_ns, newest_at, buckets
    FROM rollup_hour
    WHERE bucket_at >= $hour_from AND bucket_at < $hour_until AND bucket_at NOT IN (SELECT hour_at FROM rollup_touched)
    -- end
    -- part head
    UNION ALL
    SELECT src, dst, medium, probe_type, is_degraded_agent, sent_count, lost_count, reply_count, min_ns, max_ns, newest_at, buckets
    FROM rollup_minute
    WHERE bucket_at >= $since AND bucket_at < $head_until
    -- end
    -- part tail
    UNION ALL
    SELECT src, dst, medium, probe_type, is_degraded_agent, sent_count, lost_count, reply_count, min_ns, max_ns, newest_at, buckets
    FROM rollup_minute
    WHERE bucket_at >= $tail_from AND bucket_at < $until
    -- end
    -- part touched
    UNION ALL
    SELECT src, dst, medium, probe_type, is_degraded_agent, sent_count, lost_count, reply_count, min_ns, max_ns, newest_at, buckets
    FROM rollup_minute
    WHERE bucket_at >= $touched_from AND bucket_at < $touched_until
        AND hour_of(bucket_at) IN (SELECT hour_at FROM rollup_touched)
    -- end
    UNION ALL
    SELECT
        src, dst, medium, probe_type, is_degraded_agent, if(is_sent, 1, 0), if(is_lost, 1, 0), if(value_ns IS NULL, 0, 1), value_ns, value_ns, sample_at,
        CASE WHEN value_ns IS NULL THEN [] ELSE [{'bucket': rtt_bucket(value_ns), 'n': 1::BIGINT}] END
    FROM fresh
),
graded AS (
    SELECT src, dst, medium, probe_type, bool_and(is_degraded_agent) AS is_ungraded
    FROM part
    WHERE probe_type = 'ping' OR (probe_type = 'http' AND reply_count > 0)
    GROUP BY ALL
),
counted AS (
    SELECT p.*
    FROM part AS p
    JOIN graded AS g ON g.src = p.src AND g.dst = p.dst AND g.medium = p.medium AND g.probe_type = p.probe_type
    WHERE p.is_degraded_agent = g.is_ungraded AND (p.probe_type = 'ping' OR p.reply_count > 0)
),
head AS (
    SELECT
        src, dst, medium, probe_type,
        min(min_ns) AS least_ns, max(max_ns) AS most_ns,
        CAST(sum(sent_count) AS BIGINT) AS sent_count, CAST(sum(lost_count) AS BIGINT) AS lost_count,
        CAST(sum(reply_count) AS BIGINT) AS reply_count,
        max(newest_at) AS newest_at, any_value(is_degraded_agent) AS is_ungraded
    FROM counted
    GROUP BY ALL
),
bucket AS (
    SELECT src, dst, medium, probe_type, b.bucket AS bucket, CAST(sum(b.n) AS BIGINT) AS n
    FROM counted, unnest(buckets) AS t (b)
    GROUP BY ALL
),
ranked AS (
    SELECT
        *,
        CAST(sum(n) OVER (PARTITION BY src, dst, medium, probe_type ORDER BY bucket) AS BIGINT) AS seen,
        CAST(sum(n) OVER (PARTITION BY src, dst, medium, probe_type) AS BIGINT) AS total
    FROM bucket
),
quantile AS (
    SELECT
        src, dst, medium, probe_type,
        min(bucket) FILTER (seen >= total - (total * 100 - total * 50) // 100) AS q50,
        min(bucket) FILTER (seen >= total - (total * 100 - total * 95) // 100) AS q95,
        min(bucket) FILTER (seen >= total - (total * 100 - total * 99) // 100) AS q99,
        list_sort(list([bucket::BIGINT, n])) AS buckets
    FROM ranked
    GROUP BY ALL
)
SELECT
    h.src, h.dst, h.medium, h.probe_type,
    h.least_ns AS rtt_min_ns,
    -- The value a bucket stands for, but never beyond the least and the greatest, which are known exactly.
    CASE WHEN q.q50 IS NOT NULL THEN [
        least(greatest(CAST(round(rtt_bucket_value_ns(q.q50)) AS BIGINT), h.least_ns), h.most_ns),
        least(greatest(CAST(round(rtt_bucket_value_ns(q.q95)) AS BIGINT), h.least_ns), h.most_ns),
        least(greatest(CAST(round(rtt_bucket_value_ns(q.q99)) AS BIGINT), h.least_ns), h.most_ns)
    ] END AS rtt_quantiles_ns,
    h.sent_count, h.lost_count, h.reply_count, h.newest_at AS newest_sent_at, h.newest_at AS newest_started_at, h.is_ungraded, q.buckets
FROM head AS h
LEFT JOIN quantile AS q USING (src, dst, medium, probe_type)
ORDER BY src, dst, medium, probe_type;
