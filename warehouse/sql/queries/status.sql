-- Question: how large is each table? Grain: table. Units: rows as the catalog counts them, files, bytes of Parquet.
SELECT table_name, file_count, file_size_bytes FROM ducklake_table_info('wh') ORDER BY table_name;
