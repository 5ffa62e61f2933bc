-- Question: which links are not what they were? Grain: src, dst, medium; the minutes of [$since, $until) against those of [$before, $since).
-- Units: ms, ratios. Medians of the minutes' means, so that one bad minute changes nothing; links with fewer than $least minutes in
-- either part are left out. From the minutes rolled up.
WITH minute AS (
    SELECT
        src, dst, medium, bucket_at, bucket_at >= $since AS is_now,
        sum(sum_ns) / nullif(sum(reply_count), 0) / 1e6 AS mean_ms,
        min(min_ns) / 1e6 AS least_ms,
        sum(lost_count) AS lost, sum(sent_count) AS sent
    FROM rollup_minute
    WHERE probe_type = 'ping' AND NOT is_degraded_agent AND bucket_at >= $before AND bucket_at < $until
    GROUP BY ALL
),
part AS (
    SELECT
        src, dst, medium,
        median(mean_ms) FILTER (is_now) AS now_ms,
        median(mean_ms) FILTER (NOT is_now) AS was_ms,
        mad(mean_ms) FILTER (NOT is_now) AS was_mad_ms,
        count(mean_ms) FILTER (is_now) AS now_minutes,
        count(mean_ms) FILTER (NOT is_now) AS was_minutes,
        sum(lost) FILTER (is_now) / nullif(sum(sent) FILTER (is_now), 0) AS now_loss,
        sum(lost) FILTER (NOT is_now) / nullif(sum(sent) FILTER (NOT is_now), 0) AS was_loss
    FROM minute
    GROUP BY src, dst, medium
)
SELECT src, dst, medium, was_ms, now_ms, now_ms - was_ms AS change_ms, was_mad_ms, was_loss, now_loss, now_minutes, was_minutes,
    CAST(NULL AS BIGINT) AS was_hours
FROM part
WHERE now_minutes >= $least AND was_minutes >= $least
ORDER BY abs(now_ms - was_ms) DESC, src, dst, medium;
