-- Question: what rate does each link carry? Grain: src, dst, medium in the direction the bytes flow; tests begun in ($since, $now].
-- Units: bits per second; the median of the tests that ran.
SELECT
    if(direction = 'up', src, dst) AS src,
    if(direction = 'up', dst, src) AS dst,
    medium,
    median(throughput_bps) AS throughput_bps
FROM valid_throughput
WHERE started_at > $since AND started_at <= $now AND throughput_bps IS NOT NULL
GROUP BY ALL;
