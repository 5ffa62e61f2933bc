-- Take out the minutes of `regraded`, which lie in [$least, $most], to make them anew.
DELETE FROM rollup_minute
WHERE bucket_at BETWEEN $least AND $most AND (src, dst, medium, probe_type, bucket_at) IN (
    SELECT (src, dst, medium, probe_type, bucket_at) FROM regraded
);
