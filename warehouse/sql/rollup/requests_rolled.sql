-- Part of statements: rows of roll-ups of inference requests that add up to ($since, $until]. Days and hours as in rolled.sql; the window's
-- edges, touched hours and what came after snapshot $after are the requests themselves. Whole hours count from their very start.
-- part requests
request AS (
    -- part head
    SELECT r.*, TIMESTAMPTZ 'epoch' AS bucket_at
    -- include rollup/request
        AND r.started_at > $since AND r.started_at < $head_until
    -- end head
    -- part tail
    UNION ALL
    SELECT r.*, TIMESTAMPTZ 'epoch' AS bucket_at
    -- include rollup/request
        AND r.started_at >= $tail_from AND r.started_at <= $until
    -- end tail
    -- part touched
    UNION ALL
    SELECT r.*, TIMESTAMPTZ 'epoch' AS bucket_at
    -- include rollup/request
        AND r.started_at >= $touched_from AND r.started_at < $touched_until AND hour_of(r.started_at) IN (SELECT unnest($touched_hours))
    -- end touched
    -- part fresh
    UNION ALL
    SELECT r.*, TIMESTAMPTZ 'epoch' AS bucket_at
    -- include rollup/request
        AND r.snapshot_id > $after AND r.received_at >= $inference_arrived AND r.started_at >= $hour_from AND r.started_at < $hour_until
        AND hour_of(r.started_at) NOT IN (SELECT unnest($touched_hours))
    -- end fresh
),
-- end requests
rolled AS (
    -- part days
    SELECT * FROM rollup_inference_day
    WHERE bucket_at >= $day_from AND bucket_at < $day_until AND bucket_at NOT IN (SELECT unnest($touched_days))
    -- end days
    -- part hours
    UNION ALL
    SELECT * FROM rollup_inference
    WHERE bucket_at >= $hour_from AND bucket_at < $day_from AND bucket_at NOT IN (SELECT unnest($touched_hours))
    -- end hours
    -- part hours_tail
    UNION ALL
    SELECT * FROM rollup_inference
    WHERE bucket_at >= $day_until AND bucket_at < $hour_until AND bucket_at NOT IN (SELECT unnest($touched_hours))
    -- end hours_tail
    -- part hours_touched
    UNION ALL
    SELECT * FROM rollup_inference
    WHERE bucket_at >= $touched_days_from AND bucket_at < $touched_days_until
        AND day_of(bucket_at) IN (SELECT unnest($touched_days)) AND bucket_at NOT IN (SELECT unnest($touched_hours))
    -- end hours_touched
    -- part requests
    UNION ALL
    FROM (
        -- include rollup/inference_rows
    )
    -- end requests
)
