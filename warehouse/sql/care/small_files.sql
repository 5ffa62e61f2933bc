-- Question: which tables hold so many files of a size class in one partition that merging them pays? Grain: table, class, partition.
-- Files of which rows were deleted are not merged; see deleted_from. Sizes are bytes of Parquet.
WITH part AS (
    SELECT data_file_id, string_agg(partition_value, '/' ORDER BY partition_key_index) AS partition
    FROM __ducklake_metadata_wh.ducklake_file_partition_value
    GROUP BY data_file_id
),
file AS (
    SELECT t.table_name, coalesce(p.partition, '') AS partition, if(f.file_size_bytes < $small_bytes, 0, 1) AS class
    FROM __ducklake_metadata_wh.ducklake_data_file AS f
    JOIN __ducklake_metadata_wh.ducklake_table AS t ON t.table_id = f.table_id AND t.end_snapshot IS NULL
    LEFT JOIN part AS p ON p.data_file_id = f.data_file_id
    LEFT JOIN __ducklake_metadata_wh.ducklake_delete_file AS d ON d.data_file_id = f.data_file_id AND d.end_snapshot IS NULL
    WHERE f.end_snapshot IS NULL AND d.data_file_id IS NULL AND f.file_size_bytes < $middle_bytes
)
SELECT table_name, class, max(n) AS file_count
FROM (SELECT table_name, class, partition, count(*) AS n FROM file GROUP BY ALL)
WHERE n >= $least
GROUP BY table_name, class
ORDER BY class, file_count DESC, table_name;
