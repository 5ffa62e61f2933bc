-- Question: when did each site send probe packets, and when none? Grain: src, bucket of $width from $since on; only buckets with packets.
-- From the minutes rolled up, and the raw packets committed after snapshot $mark.
SELECT src, (epoch_us(bucket_at) - epoch_us($since)) // epoch_us($width) AS slot, CAST(sum(n) AS BIGINT) AS sent
FROM (
    SELECT src, bucket_at, sent_count AS n FROM rollup_minute WHERE probe_type = 'ping' AND bucket_at >= $since AND bucket_at < $until
    -- part ping_sample
    UNION ALL
    SELECT src, sent_at, 1 FROM ping_sample
    WHERE received_at >= $ping_sample_arrived AND snapshot_id > $mark AND sent_at >= $since AND sent_at < $until AND outcome <> 'send_failed' AND NOT is_duplicate_id
    -- end ping_sample
)
GROUP BY ALL
ORDER BY src, slot;
