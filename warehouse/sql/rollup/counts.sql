-- Question: how many measurements are in the rows committed after snapshot $mark, up to $upper? Grain: table, day of arrival.
SELECT table_name, make_timestamptz(epoch_us(received_at) // 86_400_000_000 * 86_400_000_000) AS day_at, count(*) AS n
FROM (
    SELECT 'ping_sample' AS table_name, received_at FROM ping_sample
    WHERE is_round_start AND NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper
    UNION ALL
    SELECT 'traceroute', received_at FROM traceroute WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper
    UNION ALL
    SELECT 'throughput', received_at FROM throughput WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper
    UNION ALL
    SELECT 'inference', received_at FROM inference WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper
    UNION ALL
    SELECT 'http', received_at FROM http WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper
    UNION ALL
    SELECT 'stamp', received_at FROM stamp WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper
    UNION ALL
    SELECT 'serving', received_at FROM serving WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper
)
GROUP BY ALL;
