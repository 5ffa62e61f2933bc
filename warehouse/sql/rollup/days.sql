-- Question: what do the hours of the days in `ready`, which lie in [$least, $most), add up to? Grain: as rollup_day. Units: ns.
WITH part AS (
    SELECT * REPLACE (day_of(bucket_at) AS bucket_at)
    FROM rollup_hour
    WHERE bucket_at >= $least AND bucket_at < $most AND day_of(bucket_at) IN (SELECT day_at FROM ready)
)
-- include rollup/merged
