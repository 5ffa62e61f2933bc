-- Question: how many measurements are in the rows committed after snapshot $mark, up to $upper? Grain: table, day of arrival.
-- Nothing committed after $mark arrived before $..._arrived: files without any are not opened.
SELECT table_name, make_timestamptz(epoch_us(received_at) // 86_400_000_000 * 86_400_000_000) AS day_at, count(*) AS n
FROM (
    -- part ping_sample
    SELECT 'ping_sample' AS table_name, received_at FROM ping_sample
    WHERE is_round_start AND NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper AND received_at >= $ping_sample_arrived
    -- end ping_sample
    -- part traceroute
    UNION ALL
    SELECT 'traceroute' AS table_name, received_at FROM traceroute
    WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper AND received_at >= $traceroute_arrived
    -- end traceroute
    -- part throughput
    UNION ALL
    SELECT 'throughput' AS table_name, received_at FROM throughput
    WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper AND received_at >= $throughput_arrived
    -- end throughput
    -- part inference
    UNION ALL
    SELECT 'inference' AS table_name, received_at FROM inference
    WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper AND received_at >= $inference_arrived
    -- end inference
    -- part http
    UNION ALL
    SELECT 'http' AS table_name, received_at FROM http
    WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper AND received_at >= $http_arrived
    -- end http
    -- part stamp
    UNION ALL
    SELECT 'stamp' AS table_name, received_at FROM stamp
    WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper AND received_at >= $stamp_arrived
    -- end stamp
    -- part serving
    UNION ALL
    SELECT 'serving' AS table_name, received_at FROM serving
    WHERE NOT is_duplicate_id AND snapshot_id > $mark AND snapshot_id <= $upper AND received_at >= $serving_arrived
    -- end serving
)
GROUP BY ALL;
