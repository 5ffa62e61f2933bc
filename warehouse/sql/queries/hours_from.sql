-- Question: since when in [$since, $until) are there hours of probe packets? Grain: one row; NULL: there are none.
SELECT min(bucket_at) AS first_at FROM rollup_hour WHERE bucket_at >= $since AND bucket_at < $until;
