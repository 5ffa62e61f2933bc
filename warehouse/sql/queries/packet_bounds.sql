-- Question: from when to when do probe packets reach, by the catalog's least and greatest of each file? Grain: one row; NULL: it cannot say.
-- A file speaks for its rows where none of them can be from the future (the last was sent at most a day after the first came) and none was
-- removed; doubtful_count are the files that do not.
WITH file AS (
    SELECT
        f.data_file_id,
        max(TRY_CAST(s.min_value AS TIMESTAMPTZ)) FILTER (c.column_name = 'sent_at') AS first_at,
        max(TRY_CAST(s.max_value AS TIMESTAMPTZ)) FILTER (c.column_name = 'sent_at') AS last_at,
        max(TRY_CAST(s.min_value AS TIMESTAMPTZ)) FILTER (c.column_name = 'received_at') AS received_from,
        bool_or(d.data_file_id IS NOT NULL) AS has_removed
    FROM __ducklake_metadata_wh.ducklake_data_file AS f
    JOIN __ducklake_metadata_wh.ducklake_table AS t ON t.table_id = f.table_id AND t.end_snapshot IS NULL
    JOIN __ducklake_metadata_wh.ducklake_column AS c ON c.table_id = f.table_id AND c.end_snapshot IS NULL
        AND c.column_name IN ('received_at', 'sent_at')
    LEFT JOIN __ducklake_metadata_wh.ducklake_file_column_stats AS s ON s.data_file_id = f.data_file_id AND s.column_id = c.column_id
    LEFT JOIN __ducklake_metadata_wh.ducklake_delete_file AS d ON d.data_file_id = f.data_file_id AND d.end_snapshot IS NULL
    WHERE t.table_name = 'ping_sample' AND f.end_snapshot IS NULL
    GROUP BY f.data_file_id
),
judged AS (
    SELECT *, coalesce(NOT has_removed AND epoch_us(last_at) <= epoch_us(received_from) + 86_400_000_000, false) AS is_sure FROM file
)
SELECT min(first_at) FILTER (is_sure) AS first_at, max(last_at) FILTER (is_sure) AS last_at, count(*) FILTER (NOT is_sure) AS doubtful_count
FROM judged;
