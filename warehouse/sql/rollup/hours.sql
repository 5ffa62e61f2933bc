-- Question: what do the minutes of the hours in `ready`, which lie in [$least, $most), add up to? Grain: as rollup_hour. Units: ns.
WITH part AS (
    SELECT * REPLACE (hour_of(bucket_at) AS bucket_at)
    FROM rollup_minute
    WHERE bucket_at >= $least AND bucket_at < $most AND hour_of(bucket_at) IN (SELECT hour_at FROM ready)
)
-- include rollup/merged
