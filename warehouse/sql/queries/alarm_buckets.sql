-- Question: how was each link, time bucket by time bucket? Grain: src, dst, medium, bucket of $width from $since on, sent in [$since, $until).
-- Units: ms. Medians are exact. Packets of the agents in $degraded, which do not trust themselves, are left out.
SELECT
    src, dst, medium, (epoch_us(sent_at) - epoch_us($since)) // epoch_us($width) AS slot,
    quantile_disc(rtt_ns, 0.5) / 1e6 AS rtt_p50_ms,
    count(*) FILTER (outcome <> 'send_failed') AS sent_count,
    count(*) FILTER (outcome IN ('timeout', 'unreachable')) AS lost_count
FROM ping_sample
WHERE sent_at >= $since AND sent_at < $until AND NOT is_duplicate_id AND agent NOT IN $degraded
GROUP BY ALL
ORDER BY slot, src, dst, medium;
