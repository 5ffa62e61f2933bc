-- Question: how is each link, from roll-ups? Grain: src, dst, medium, probe type; [$since, $until), both whole minutes. Units: ns.
-- As link_pings and link_http, for windows of many packets: counts and the least RTT are exact, quantiles within 1 % (nearest rank over
-- the added log buckets). A degraded agent's packets count only where a link has no others; the link then says is_ungraded.
WITH
-- include rollup/rolled
,
part AS (
    SELECT * FROM rolled WHERE probe_type <> 'inference'
),
-- Links by a number: adding up buckets by four texts takes three times as long.
link AS (
    SELECT src, dst, medium, probe_type, bool_and(is_degraded_agent) AS is_ungraded, row_number() OVER () AS link
    FROM part
    WHERE probe_type = 'ping' OR reply_count > 0
    GROUP BY ALL
),
counted AS (
    SELECT l.link, p.sent_count, p.lost_count, p.reply_count, p.min_ns, p.max_ns, p.newest_at, p.buckets
    FROM part AS p
    JOIN link AS l ON l.src = p.src AND l.dst = p.dst AND l.medium = p.medium AND l.probe_type = p.probe_type
    WHERE p.is_degraded_agent = l.is_ungraded AND (p.probe_type = 'ping' OR p.reply_count > 0)
),
head AS (
    SELECT
        link, min(min_ns) AS least_ns, max(max_ns) AS most_ns,
        CAST(sum(sent_count) AS BIGINT) AS sent_count, CAST(sum(lost_count) AS BIGINT) AS lost_count,
        CAST(sum(reply_count) AS BIGINT) AS reply_count, max(newest_at) AS newest_at
    FROM counted
    GROUP BY link
),
bucket AS (
    SELECT link, b.bucket AS bucket, CAST(sum(b.n) AS BIGINT) AS n FROM counted, unnest(buckets) AS t (b) GROUP BY ALL
),
ranked AS (
    SELECT
        *, CAST(sum(n) OVER (PARTITION BY link ORDER BY bucket) AS BIGINT) AS seen, CAST(sum(n) OVER (PARTITION BY link) AS BIGINT) AS total
    FROM bucket
),
quantile AS (
    SELECT
        link,
        min(bucket) FILTER (seen >= total - (total * 100 - total * 50) // 100) AS q50,
        min(bucket) FILTER (seen >= total - (total * 100 - total * 95) // 100) AS q95,
        min(bucket) FILTER (seen >= total - (total * 100 - total * 99) // 100) AS q99,
        list_sort(list([bucket::BIGINT, n])) AS buckets
    FROM ranked
    GROUP BY link
)
SELECT
    l.src, l.dst, l.medium, l.probe_type,
    h.least_ns AS rtt_min_ns,
    -- The value a bucket stands for, but never beyond the least and the greatest, which are known exactly.
    CASE WHEN q.q50 IS NOT NULL THEN [
        least(greatest(CAST(round(rtt_bucket_value_ns(q.q50)) AS BIGINT), h.least_ns), h.most_ns),
        least(greatest(CAST(round(rtt_bucket_value_ns(q.q95)) AS BIGINT), h.least_ns), h.most_ns),
        least(greatest(CAST(round(rtt_bucket_value_ns(q.q99)) AS BIGINT), h.least_ns), h.most_ns)
    ] END AS rtt_quantiles_ns,
    h.sent_count, h.lost_count, h.reply_count, h.newest_at AS newest_sent_at, h.newest_at AS newest_started_at, l.is_ungraded, q.buckets
FROM head AS h
JOIN link AS l USING (link)
LEFT JOIN quantile AS q USING (link)
ORDER BY l.src, l.dst, l.medium, l.probe_type;
