-- Question: how was each link, minute by minute, before it is watched? Grain: src, dst, medium, minute (slot 0 begins at $since).
-- Units: ms; the median is that of the log buckets, within 1 %, of the fragment with the most replies.
SELECT
    src, dst, medium, (epoch_us(bucket_at) - epoch_us($since)) // 60_000_000 AS slot,
    arg_max(
        rtt_bucket_value_ns(
            list_filter(buckets, lambda b, i: 2 * list_sum(list_transform(buckets[:i], lambda c: c.n)) >= reply_count)[1].bucket
        ) / 1e6,
        reply_count
    ) FILTER (reply_count > 0) AS rtt_p50_ms,
    CAST(sum(sent_count) AS BIGINT) AS sent_count,
    CAST(sum(lost_count) AS BIGINT) AS lost_count
FROM rollup_minute
WHERE probe_type = 'ping' AND NOT is_degraded_agent AND bucket_at >= $since AND bucket_at < $until
GROUP BY ALL
ORDER BY slot, src, dst, medium;
