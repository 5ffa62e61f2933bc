-- Question: of which tables are there rows in the catalog under more than one version of their schema? Grain: table.
SELECT t.table_name
FROM __ducklake_metadata_wh.ducklake_inlined_data_tables AS i
JOIN __ducklake_metadata_wh.ducklake_table AS t ON t.table_id = i.table_id AND t.end_snapshot IS NULL
GROUP BY t.table_name
HAVING count(*) > 1
ORDER BY t.table_name;
