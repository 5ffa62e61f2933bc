-- Question: which versions of the warehouse are no longer kept? Grain: snapshot, from the catalog. Those older than $oldest, and of those
-- older than $thin_from all but the last of each minute; the newest of all stays.
WITH snapshot AS (
    SELECT
        snapshot_id, TRY_CAST(snapshot_time AS TIMESTAMPTZ) AS made_at,
        max(snapshot_id) OVER () AS newest,
        max(snapshot_id) OVER (PARTITION BY epoch_us(TRY_CAST(snapshot_time AS TIMESTAMPTZ)) // 60_000_000) AS last_of_minute
    FROM __ducklake_metadata_wh.ducklake_snapshot
)
SELECT snapshot_id
FROM snapshot
WHERE snapshot_id < newest AND (made_at < now() - $oldest OR (made_at < now() - $thin_from AND snapshot_id < last_of_minute))
ORDER BY snapshot_id;
