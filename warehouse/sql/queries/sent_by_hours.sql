-- Question: as sent_by_time, for buckets of whole hours from a whole hour on. Grain: src, bucket of $width from $since on.
-- From the hours made, what something late has touched from the minutes, and the raw packets committed after snapshot $mark.
SELECT src, (epoch_us(bucket_at) - epoch_us($since)) // epoch_us($width) AS slot, CAST(sum(n) AS BIGINT) AS sent
FROM (
    SELECT src, bucket_at, sent_count AS n
    FROM rollup_hour
    WHERE probe_type = 'ping' AND bucket_at >= $since AND bucket_at < $until AND bucket_at NOT IN (SELECT hour_at FROM rollup_touched)
    UNION ALL
    SELECT src, bucket_at, sent_count
    FROM rollup_minute
    WHERE probe_type = 'ping' AND bucket_at >= $touched_from AND bucket_at < $touched_until
        AND hour_of(bucket_at) IN (SELECT hour_at FROM rollup_touched)
    -- part ping_sample
    UNION ALL
    SELECT src, sent_at, 1 FROM ping_sample
    WHERE received_at >= $ping_sample_arrived AND snapshot_id > $mark AND sent_at >= $since AND sent_at < $until AND outcome <> 'send_failed' AND NOT is_duplicate_id
    -- end ping_sample
)
GROUP BY ALL
ORDER BY src, slot;
