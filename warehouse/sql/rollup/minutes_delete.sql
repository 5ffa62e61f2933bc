-- Take out the minutes of the hours in `ready`, which lie in [$least, $most): they came after the minutes of that time had expired.
DELETE FROM rollup_minute
WHERE bucket_at >= $least AND bucket_at < $most AND hour_of(bucket_at) IN (SELECT hour_at FROM ready);
