-- Question: how many packets and connections are there at most, and was anything ever removed? Grain: one row, from the catalog's counts.
SELECT
    coalesce(CAST(sum(s.record_count) FILTER (t.table_name <> 'expiry') AS BIGINT), 0) AS row_count,
    coalesce(bool_or(s.record_count > 0) FILTER (t.table_name = 'expiry'), false) AS has_expired
FROM __ducklake_metadata_wh.ducklake_table_stats AS s
JOIN __ducklake_metadata_wh.ducklake_table AS t ON t.table_id = s.table_id AND t.end_snapshot IS NULL
WHERE t.table_name IN ('ping_sample', 'http', 'expiry');
