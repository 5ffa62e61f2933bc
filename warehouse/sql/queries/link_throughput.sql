-- Question: what rate does each link carry? Grain: src, dst, medium in the direction the bytes flow; tests begun in ($since, $now].
-- Units: bits per second; the median of the full TCP tests, or, where there was none, of the estimates. A UDP test says what was sent.
SELECT
    if(direction = 'up', src, dst) AS src,
    if(direction = 'up', dst, src) AS dst,
    medium,
    coalesce(
        median(throughput_bps) FILTER (is_estimate IS NOT TRUE),
        median(throughput_bps)
    ) AS throughput_bps
FROM valid_throughput
WHERE started_at > $since AND started_at <= $now AND throughput_bps IS NOT NULL AND (is_estimate OR protocol IS DISTINCT FROM 'udp')
GROUP BY ALL;
