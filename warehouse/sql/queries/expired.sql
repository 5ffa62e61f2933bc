-- Question: since when is what there? Grain: one row. NULL: nothing of it has expired.
SELECT
    max(before_at) FILTER (table_name = 'ping_sample') AS raw_from,
    max(before_at) FILTER (table_name = 'rollup_minute') AS minute_from
FROM expiry;
