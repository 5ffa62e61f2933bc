-- Question: do measurements reach beyond ($first, $last)? Grain: one row: the earliest before and the latest after; NULL: there is none.
-- Those from the future are left out. Only files whose bounds reach beyond are read.
SELECT min(first_at) AS first_at, max(last_at) AS last_at
FROM (
    SELECT NULL::TIMESTAMPTZ AS first_at, NULL::TIMESTAMPTZ AS last_at
    -- part ping_sample
    UNION ALL
    SELECT min(sent_at), NULL FROM ping_sample WHERE sent_at < $first AND epoch_us(sent_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT NULL, max(sent_at) FROM ping_sample WHERE sent_at > $last AND epoch_us(sent_at) <= epoch_us(received_at) + 86_400_000_000
    -- end ping_sample
    -- part traceroute
    UNION ALL
    SELECT min(started_at), NULL FROM traceroute WHERE started_at < $first AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT NULL, max(started_at) FROM traceroute WHERE started_at > $last AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    -- end traceroute
    -- part throughput
    UNION ALL
    SELECT min(started_at), NULL FROM throughput WHERE started_at < $first AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT NULL, max(started_at) FROM throughput WHERE started_at > $last AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    -- end throughput
    -- part inference
    UNION ALL
    SELECT min(started_at), NULL FROM inference WHERE started_at < $first AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT NULL, max(started_at) FROM inference WHERE started_at > $last AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    -- end inference
    -- part http
    UNION ALL
    SELECT min(started_at), NULL FROM http WHERE started_at < $first AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT NULL, max(started_at) FROM http WHERE started_at > $last AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    -- end http
    -- part stamp
    UNION ALL
    SELECT min(started_at), NULL FROM stamp WHERE started_at < $first AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT NULL, max(started_at) FROM stamp WHERE started_at > $last AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    -- end stamp
    -- part serving
    UNION ALL
    SELECT min(started_at), NULL FROM serving WHERE started_at < $first AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT NULL, max(started_at) FROM serving WHERE started_at > $last AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    -- end serving
);
