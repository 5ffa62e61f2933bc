-- Question: from when to when do measurements reach, by the catalog's least and greatest of each file? Grain: table; NULL: it cannot say.
-- A file speaks for its rows where none of them can be from the future (the last was sent at most a day after the first came) and none was
-- removed; is_whole: all files of the table do, and it has no rows in the catalog.
WITH measured AS (
    SELECT t.table_id, t.table_name, c.column_id AS time_id, r.column_id AS received_id
    FROM __ducklake_metadata_wh.ducklake_table AS t
    JOIN __ducklake_metadata_wh.ducklake_column AS c ON c.table_id = t.table_id AND c.end_snapshot IS NULL
        AND c.column_name = if(t.table_name = 'ping_sample', 'sent_at', 'started_at') AND c.parent_column IS NULL
    JOIN __ducklake_metadata_wh.ducklake_column AS r ON r.table_id = t.table_id AND r.end_snapshot IS NULL
        AND r.column_name = 'received_at' AND r.parent_column IS NULL
    WHERE t.end_snapshot IS NULL AND t.table_name IN ('ping_sample', 'traceroute', 'throughput', 'inference', 'http', 'stamp', 'serving')
),
file AS (
    SELECT
        m.table_name,
        TRY_CAST(s.min_value AS TIMESTAMPTZ) AS first_at, TRY_CAST(s.max_value AS TIMESTAMPTZ) AS last_at,
        d.data_file_id IS NULL AND epoch_us(TRY_CAST(s.max_value AS TIMESTAMPTZ))
            <= epoch_us(TRY_CAST(r.min_value AS TIMESTAMPTZ)) + 86_400_000_000 AS is_sure
    FROM __ducklake_metadata_wh.ducklake_data_file AS f
    JOIN measured AS m ON m.table_id = f.table_id
    LEFT JOIN __ducklake_metadata_wh.ducklake_file_column_stats AS s ON s.data_file_id = f.data_file_id AND s.column_id = m.time_id
    LEFT JOIN __ducklake_metadata_wh.ducklake_file_column_stats AS r ON r.data_file_id = f.data_file_id AND r.column_id = m.received_id
    LEFT JOIN __ducklake_metadata_wh.ducklake_delete_file AS d ON d.data_file_id = f.data_file_id AND d.end_snapshot IS NULL
    WHERE f.end_snapshot IS NULL
)
SELECT
    m.table_name, min(f.first_at) FILTER (f.is_sure) AS first_at, max(f.last_at) FILTER (f.is_sure) AS last_at,
    count(*) FILTER (f.table_name IS NOT NULL AND f.is_sure IS NOT TRUE) = 0 AND bool_and(i.table_id IS NULL) AS is_whole
FROM measured AS m
LEFT JOIN file AS f ON f.table_name = m.table_name
LEFT JOIN (SELECT DISTINCT table_id FROM __ducklake_metadata_wh.ducklake_inlined_data_tables) AS i ON i.table_id = m.table_id
GROUP BY m.table_name;
