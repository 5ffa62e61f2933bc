-- Question: what do the inference requests of the hours in `ready`, which lie in [$least, $most), committed up to snapshot $upto, add up to?
-- Grain: as rollup_inference. Units: ns.
WITH request AS (
    SELECT r.*, hour_of(r.started_at) AS bucket_at
    -- include rollup/request
        AND r.snapshot_id <= $upto AND r.started_at >= $least AND r.started_at < $most
        AND hour_of(r.started_at) IN (SELECT hour_at FROM ready)
)
-- include rollup/inference_rows
