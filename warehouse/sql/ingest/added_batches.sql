-- Question: is there a file of batches that were committed after snapshot $mark? Grain: one row, or none. From the catalog; see inlined_batches.
SELECT 1
FROM __ducklake_metadata_wh.ducklake_data_file AS f
JOIN __ducklake_metadata_wh.ducklake_table AS t ON t.table_id = f.table_id AND t.end_snapshot IS NULL
WHERE t.table_name = 'batch' AND f.end_snapshot IS NULL AND (f.begin_snapshot > $mark OR f.partial_max > $mark)
LIMIT 1;
