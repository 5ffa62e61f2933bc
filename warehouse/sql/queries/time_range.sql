-- Question: from when to when do measurements other than pings reach (for those see packet_bounds)? Grain: one row; NULL when there are none. Those from the future are left out.
SELECT min(first_at), max(last_at)
FROM (
    SELECT min(started_at) AS first_at, max(started_at) AS last_at FROM traceroute WHERE epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT min(started_at), max(started_at) FROM throughput WHERE epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT min(started_at), max(started_at) FROM inference WHERE epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT min(started_at), max(started_at) FROM http WHERE epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT min(started_at), max(started_at) FROM stamp WHERE epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT min(started_at), max(started_at) FROM serving WHERE epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
);
