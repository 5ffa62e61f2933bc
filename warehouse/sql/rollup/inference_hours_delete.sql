-- Take out the hours in `ready`, which lie in [$least, $most), to make them anew.
DELETE FROM rollup_inference WHERE bucket_at >= $least AND bucket_at < $most AND bucket_at IN (SELECT hour_at FROM ready);
