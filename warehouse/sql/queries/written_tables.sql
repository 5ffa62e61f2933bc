-- Question: which tables were ever written to? Grain: table. From the catalog of DuckLake (its table ducklake_table_stats).
SELECT DISTINCT t.table_name
FROM __ducklake_metadata_wh.ducklake_table_stats AS s
JOIN __ducklake_metadata_wh.ducklake_table AS t USING (table_id)
WHERE t.end_snapshot IS NULL;
