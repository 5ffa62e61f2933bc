-- Keep the few rows of measurement_count in the catalog, and fill it.
CALL wh.set_option('data_inlining_row_limit', 1000, table_name => 'measurement_count');
-- What the newest pass over the roll-ups has seen is counted now, what comes later by the passes to come.
INSERT INTO measurement_count
SELECT table_name, make_timestamptz(epoch_us(received_at) // 86_400_000_000 * 86_400_000_000) AS day_at, count(*) AS n
FROM (
    SELECT 'ping_sample' AS table_name, received_at FROM ping_sample
    WHERE is_round_start AND NOT is_duplicate_id AND snapshot_id <= (SELECT snapshot_id FROM rollup_mark)
    UNION ALL
    SELECT 'traceroute', received_at FROM traceroute WHERE NOT is_duplicate_id AND snapshot_id <= (SELECT snapshot_id FROM rollup_mark)
    UNION ALL
    SELECT 'throughput', received_at FROM throughput WHERE NOT is_duplicate_id AND snapshot_id <= (SELECT snapshot_id FROM rollup_mark)
    UNION ALL
    SELECT 'inference', received_at FROM inference WHERE NOT is_duplicate_id AND snapshot_id <= (SELECT snapshot_id FROM rollup_mark)
    UNION ALL
    SELECT 'http', received_at FROM http WHERE NOT is_duplicate_id AND snapshot_id <= (SELECT snapshot_id FROM rollup_mark)
    UNION ALL
    SELECT 'stamp', received_at FROM stamp WHERE NOT is_duplicate_id AND snapshot_id <= (SELECT snapshot_id FROM rollup_mark)
    UNION ALL
    SELECT 'serving', received_at FROM serving WHERE NOT is_duplicate_id AND snapshot_id <= (SELECT snapshot_id FROM rollup_mark)
)
GROUP BY ALL;
