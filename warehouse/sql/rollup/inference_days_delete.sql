-- Take out the days in `ready`, which lie in [$least, $most), to make them anew.
DELETE FROM rollup_inference_day WHERE bucket_at >= $least AND bucket_at < $most AND bucket_at IN (SELECT day_at FROM ready);
