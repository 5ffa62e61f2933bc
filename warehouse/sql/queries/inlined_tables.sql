-- Question: where does the catalog itself keep rows of some tables? Grain: table, version of its schema. Those that keep none there are left out.
SELECT t.table_name, i.table_name AS kept_in
FROM __ducklake_metadata_wh.ducklake_inlined_data_tables AS i
JOIN __ducklake_metadata_wh.ducklake_table AS t ON t.table_id = i.table_id AND t.end_snapshot IS NULL
WHERE t.table_name IN $tables AND NOT EXISTS (
    SELECT 1 FROM __ducklake_metadata_wh.ducklake_metadata AS m
    WHERE m.key = 'data_inlining_row_limit' AND m.scope = 'table' AND m.scope_id = t.table_id AND m.value = '0'
);
