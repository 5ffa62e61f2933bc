-- Question: which tables have files of which rows were deleted? Grain: table.
SELECT DISTINCT t.table_name
FROM __ducklake_metadata_wh.ducklake_delete_file AS d
JOIN __ducklake_metadata_wh.ducklake_table AS t ON t.table_id = d.table_id AND t.end_snapshot IS NULL
WHERE d.end_snapshot IS NULL
ORDER BY t.table_name;
