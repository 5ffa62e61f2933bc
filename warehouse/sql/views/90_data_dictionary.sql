-- Question: what does each column mean? Grain: table or view, column. Stable.
CREATE OR REPLACE VIEW data_dictionary AS
SELECT c.table_name AS name, c.column_name, c.data_type, coalesce(c.comment, v.comment) AS comment, c.column_index
FROM duckdb_columns() AS c
LEFT JOIN view_column AS v ON v.view_name = c.table_name AND v.column_name = c.column_name
WHERE c.schema_name = 'main' AND NOT c.internal
    AND (c.database_name, c.table_name) IN (
        SELECT (database_name, view_name) FROM duckdb_views() WHERE NOT internal
        UNION ALL SELECT (database_name, table_name) FROM duckdb_tables() WHERE NOT internal AND NOT starts_with(database_name, '__')
    );
COMMENT ON VIEW data_dictionary IS 'Every column of every table and view: type, unit and meaning of NULL';
INSERT INTO view_column VALUES
('data_dictionary', 'name', 'Table or view; never NULL'),
('data_dictionary', 'column_name', 'Column; never NULL'),
('data_dictionary', 'data_type', 'Type in DuckDB''s words; never NULL'),
('data_dictionary', 'comment', 'Meaning, unit and what NULL says; never NULL'),
('data_dictionary', 'column_index', 'Position, from 1; never NULL');
