-- Question: since when did what was committed after snapshot $mark arrive? Grain: table; only those with a file that holds any. From the
-- catalog. NULL: a file does not say.
SELECT
    t.table_name,
    CASE WHEN bool_and(s.min_value IS NOT NULL) THEN min(TRY_CAST(s.min_value AS TIMESTAMPTZ)) END AS arrived_from
FROM __ducklake_metadata_wh.ducklake_data_file AS f
JOIN __ducklake_metadata_wh.ducklake_table AS t ON t.table_id = f.table_id AND t.end_snapshot IS NULL
JOIN __ducklake_metadata_wh.ducklake_column AS c ON c.table_id = f.table_id AND c.end_snapshot IS NULL
    AND c.column_name = 'received_at' AND c.parent_column IS NULL
LEFT JOIN __ducklake_metadata_wh.ducklake_file_column_stats AS s ON s.data_file_id = f.data_file_id AND s.column_id = c.column_id
WHERE f.end_snapshot IS NULL AND (f.begin_snapshot > $mark OR f.partial_max > $mark) AND t.table_name IN $tables
GROUP BY t.table_name;
