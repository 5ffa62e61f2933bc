-- Part of statements: rows of roll-ups that add up to [$since, $until), both whole minutes, and to what was committed after snapshot $after.
-- Days of [$day_from, $day_until) that nothing late has touched come from rollup_day; hours before and after these, and those of touched
-- days, from rollup_hour; what is before and after the hours of [$hour_from, $hour_until), and touched hours, from rollup_minute; what came
-- after the newest pass from the raw rows. Parts that are known to be empty are left out (see warehouse.grain).
-- part fresh
sample AS (
    -- include rollup/sample
),
fresh AS (
    -- include rollup/graded
),
-- end fresh
rolled AS (
    -- part days
    SELECT * FROM rollup_day
    WHERE bucket_at >= $day_from AND bucket_at < $day_until AND bucket_at NOT IN (SELECT unnest($touched_days))
    -- end days
    -- part hours
    UNION ALL
    SELECT * FROM rollup_hour
    WHERE bucket_at >= $hour_from AND bucket_at < $day_from AND bucket_at NOT IN (SELECT unnest($touched_hours))
    -- end hours
    -- part hours_tail
    UNION ALL
    SELECT * FROM rollup_hour
    WHERE bucket_at >= $day_until AND bucket_at < $hour_until AND bucket_at NOT IN (SELECT unnest($touched_hours))
    -- end hours_tail
    -- part hours_touched
    UNION ALL
    SELECT * FROM rollup_hour
    WHERE bucket_at >= $touched_days_from AND bucket_at < $touched_days_until
        AND day_of(bucket_at) IN (SELECT unnest($touched_days)) AND bucket_at NOT IN (SELECT unnest($touched_hours))
    -- end hours_touched
    -- part head
    UNION ALL
    SELECT * FROM rollup_minute WHERE bucket_at >= $since AND bucket_at < $head_until
    -- end head
    -- part tail
    UNION ALL
    SELECT * FROM rollup_minute WHERE bucket_at >= $tail_from AND bucket_at < $until
    -- end tail
    -- part touched
    UNION ALL
    SELECT * FROM rollup_minute
    WHERE bucket_at >= $touched_from AND bucket_at < $touched_until AND hour_of(bucket_at) IN (SELECT unnest($touched_hours))
    -- end touched
    -- part fresh
    UNION ALL
    SELECT
        src, dst, medium, probe_type, is_degraded_agent, bucket_at,
        if(is_sent, 1, 0) AS sent_count, if(is_lost, 1, 0) AS lost_count, if(value_ns IS NULL, 0, 1) AS reply_count,
        value_ns AS min_ns, value_ns AS max_ns, value_ns AS sum_ns, sample_at AS newest_at,
        CASE WHEN value_ns IS NULL THEN [] ELSE [{'bucket': rtt_bucket(value_ns), 'n': 1::BIGINT}] END AS buckets
    FROM fresh
    -- end fresh
)
