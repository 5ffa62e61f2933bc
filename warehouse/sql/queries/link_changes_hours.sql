-- Question: as link_changes, for a day before of which hours are rolled up. Grain: src, dst, medium. Units: ms, ratios.
-- The medians of the minutes' means of [$since, $until) against those of the hours' means of [$hour_from, $hour_until); links with fewer
-- than $least minutes now or hours before are left out. Hours that something late has touched are added up from their minutes.
WITH minute AS (
    SELECT
        src, dst, medium, bucket_at,
        sum(sum_ns) / nullif(sum(reply_count), 0) / 1e6 AS mean_ms, sum(lost_count) AS lost, sum(sent_count) AS sent
    FROM rollup_minute
    WHERE probe_type = 'ping' AND NOT is_degraded_agent AND bucket_at >= $since AND bucket_at < $until
    GROUP BY ALL
),
present AS (
    SELECT
        src, dst, medium, median(mean_ms) AS now_ms, count(mean_ms) AS now_minutes, sum(lost) / nullif(sum(sent), 0) AS now_loss
    FROM minute
    GROUP BY ALL
),
part AS (
    SELECT src, dst, medium, bucket_at, sum_ns, reply_count, lost_count, sent_count
    FROM rollup_hour
    WHERE probe_type = 'ping' AND NOT is_degraded_agent AND bucket_at >= $hour_from AND bucket_at < $hour_until
        AND bucket_at NOT IN (SELECT hour_at FROM rollup_touched)
    UNION ALL
    SELECT src, dst, medium, hour_of(bucket_at), sum_ns, reply_count, lost_count, sent_count
    FROM rollup_minute
    WHERE probe_type = 'ping' AND NOT is_degraded_agent AND bucket_at >= $touched_from AND bucket_at < $touched_until
        AND hour_of(bucket_at) IN (SELECT hour_at FROM rollup_touched)
),
hour AS (
    SELECT
        src, dst, medium, bucket_at,
        sum(sum_ns) / nullif(sum(reply_count), 0) / 1e6 AS mean_ms, sum(lost_count) AS lost, sum(sent_count) AS sent
    FROM part
    GROUP BY ALL
),
past AS (
    SELECT
        src, dst, medium, median(mean_ms) AS was_ms, mad(mean_ms) AS was_mad_ms, count(mean_ms) AS was_hours,
        sum(lost) / nullif(sum(sent), 0) AS was_loss
    FROM hour
    GROUP BY ALL
)
SELECT
    src, dst, medium, was_ms, now_ms, now_ms - was_ms AS change_ms, was_mad_ms, was_loss, now_loss, now_minutes,
    CAST(NULL AS BIGINT) AS was_minutes, was_hours
FROM present
JOIN past USING (src, dst, medium)
WHERE now_minutes >= $least AND was_hours >= $least
ORDER BY abs(now_ms - was_ms) DESC, src, dst, medium;
