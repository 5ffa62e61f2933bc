-- Question: from when to when do measurements reach? Grain: one row; NULL when there are none. Those from the future are left out.
SELECT min(first_at), max(last_at)
FROM (
    SELECT min(sent_at) AS first_at, max(sent_at) AS last_at FROM ping_sample WHERE sent_at <= received_at + INTERVAL 1 DAY
    UNION ALL
    SELECT min(started_at), max(started_at) FROM traceroute WHERE started_at <= received_at + INTERVAL 1 DAY
    UNION ALL
    SELECT min(started_at), max(started_at) FROM throughput WHERE started_at <= received_at + INTERVAL 1 DAY
    UNION ALL
    SELECT min(started_at), max(started_at) FROM inference WHERE started_at <= received_at + INTERVAL 1 DAY
    UNION ALL
    SELECT min(started_at), max(started_at) FROM http WHERE started_at <= received_at + INTERVAL 1 DAY
);
