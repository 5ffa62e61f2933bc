-- Question: where does the catalog itself keep rows of batch? Grain: version of its schema.
SELECT i.table_name
FROM __ducklake_metadata_wh.ducklake_inlined_data_tables AS i
JOIN __ducklake_metadata_wh.ducklake_table AS t ON t.table_id = i.table_id AND t.end_snapshot IS NULL
WHERE t.table_name = 'batch';
