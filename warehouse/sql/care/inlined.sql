-- Question: which tables have rows in the catalog? Grain: table.
SELECT DISTINCT t.table_name
FROM __ducklake_metadata_wh.ducklake_inlined_data_tables AS i
JOIN __ducklake_metadata_wh.ducklake_table AS t ON t.table_id = i.table_id AND t.end_snapshot IS NULL
ORDER BY t.table_name;
