-- Question: about how many rows of some tables may be of [$since, $until)? Grain: one row, from the catalog's counts by file.
SELECT coalesce(CAST(sum(f.record_count) AS BIGINT), 0) AS row_count
FROM __ducklake_metadata_wh.ducklake_data_file AS f
JOIN __ducklake_metadata_wh.ducklake_table AS t ON t.table_id = f.table_id AND t.end_snapshot IS NULL
JOIN __ducklake_metadata_wh.ducklake_column AS c ON c.table_id = f.table_id AND c.end_snapshot IS NULL
    AND c.column_name = if(t.table_name = 'ping_sample', 'sent_at', 'started_at')
LEFT JOIN __ducklake_metadata_wh.ducklake_file_column_stats AS s ON s.data_file_id = f.data_file_id AND s.column_id = c.column_id
WHERE t.table_name IN $tables AND f.end_snapshot IS NULL
    AND coalesce(TRY_CAST(s.max_value AS TIMESTAMPTZ) >= $since AND TRY_CAST(s.min_value AS TIMESTAMPTZ) < $until, true);
