-- Question: which files does a catalog need? Grain: one file, data or deletes, of any snapshot that it keeps. Units: bytes.
-- Asked of the catalog itself (SQLite or PostgreSQL), not of DuckLake. A path is relative to the data path unless it is whole.
SELECT DISTINCT
    CASE WHEN f.path_is_relative AND t.path_is_relative AND s.path_is_relative THEN s.path ELSE '' END
    || CASE WHEN f.path_is_relative THEN t.path ELSE '' END
    || f.path AS path,
    f.file_size_bytes AS size
FROM (
    SELECT table_id, path, path_is_relative, file_size_bytes FROM ducklake_data_file
    UNION ALL
    SELECT table_id, path, path_is_relative, file_size_bytes FROM ducklake_delete_file
) AS f
JOIN ducklake_table AS t ON t.table_id = f.table_id
JOIN ducklake_schema AS s ON s.schema_id = t.schema_id
ORDER BY path
