-- Question: which tables and views are there? Grain: table or view.
SELECT view_name AS name, 'view' AS kind, comment FROM duckdb_views() WHERE database_name = 'wh' AND NOT internal
UNION ALL
SELECT table_name, 'table', comment FROM duckdb_tables() WHERE database_name = 'wh' AND NOT internal
ORDER BY kind, name;
