-- Question: up to which snapshot does one pass go, so that it reads about $max_rows rows? Grain: one row; NULL: all there is.
-- By commits, not by files: a commit of many rows lies in several, and at least one whole commit is taken, however large.
SELECT min(begin_snapshot) - 1 AS upper
FROM (
    SELECT f.begin_snapshot, sum(f.record_count) AS own, sum(sum(f.record_count)) OVER (ORDER BY f.begin_snapshot) AS seen
    FROM __ducklake_metadata_wh.ducklake_data_file AS f
    JOIN __ducklake_metadata_wh.ducklake_table AS t USING (table_id)
    WHERE t.table_name IN ('ping_sample', 'http', 'inference') AND f.begin_snapshot > $mark AND f.end_snapshot IS NULL
    GROUP BY f.begin_snapshot
)
WHERE seen > $max_rows AND seen > own;
