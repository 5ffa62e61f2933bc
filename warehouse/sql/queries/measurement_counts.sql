-- Question: how much is there? Grain: one row. Units: measurements (a ping round is one); repeated ids count once.
-- From the days counted up to the roll-ups' mark, and the rows committed after snapshot $mark.
WITH counted AS (
    SELECT table_name, sum(n) AS n FROM measurement_count GROUP BY ALL
    -- part ping_sample
    UNION ALL
    SELECT 'ping_sample', count(*) FROM ping_sample WHERE received_at >= $ping_sample_arrived AND snapshot_id > $mark AND is_round_start AND NOT is_duplicate_id
    -- end ping_sample
    -- part traceroute
    UNION ALL
    SELECT 'traceroute', count(*) FROM traceroute WHERE received_at >= $traceroute_arrived AND snapshot_id > $mark AND NOT is_duplicate_id
    -- end traceroute
    -- part throughput
    UNION ALL
    SELECT 'throughput', count(*) FROM throughput WHERE received_at >= $throughput_arrived AND snapshot_id > $mark AND NOT is_duplicate_id
    -- end throughput
    -- part inference
    UNION ALL
    SELECT 'inference', count(*) FROM inference WHERE received_at >= $inference_arrived AND snapshot_id > $mark AND NOT is_duplicate_id
    -- end inference
    -- part http
    UNION ALL
    SELECT 'http', count(*) FROM http WHERE received_at >= $http_arrived AND snapshot_id > $mark AND NOT is_duplicate_id
    -- end http
    -- part stamp
    UNION ALL
    SELECT 'stamp', count(*) FROM stamp WHERE received_at >= $stamp_arrived AND snapshot_id > $mark AND NOT is_duplicate_id
    -- end stamp
    -- part serving
    UNION ALL
    SELECT 'serving', count(*) FROM serving WHERE received_at >= $serving_arrived AND snapshot_id > $mark AND NOT is_duplicate_id
    -- end serving
)
SELECT
    CAST(coalesce(sum(n) FILTER (table_name = 'ping_sample'), 0) AS BIGINT) AS ping,
    CAST(coalesce(sum(n) FILTER (table_name = 'traceroute'), 0) AS BIGINT) AS traceroute,
    CAST(coalesce(sum(n) FILTER (table_name = 'throughput'), 0) AS BIGINT) AS throughput,
    CAST(coalesce(sum(n) FILTER (table_name = 'inference'), 0) AS BIGINT) AS inference,
    CAST(coalesce(sum(n) FILTER (table_name = 'http'), 0) AS BIGINT) AS http,
    CAST(coalesce(sum(n) FILTER (table_name = 'stamp'), 0) AS BIGINT) AS stamp,
    CAST(coalesce(sum(n) FILTER (table_name = 'serving'), 0) AS BIGINT) AS serving,
    (SELECT count(*) FROM rtt_matrix) AS rtt_matrix
FROM counted;
