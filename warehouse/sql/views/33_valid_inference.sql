-- Question: which inference requests count? Grain: as inference. Stable: columns are added, never renamed or dropped.
CREATE OR REPLACE VIEW valid_inference AS
SELECT * EXCLUDE (is_from_future, is_duplicate_id, is_degraded_agent)
FROM marked_inference
WHERE NOT is_from_future AND NOT is_duplicate_id AND NOT is_degraded_agent;
COMMENT ON VIEW valid_inference IS 'Every inference request that counts: not from the future, not stored twice, not of a degraded agent';
INSERT INTO view_column
SELECT 'valid_inference', column_name, comment FROM duckdb_columns()
WHERE database_name = current_database() AND table_name = 'inference' AND column_name <> 'is_duplicate_id';
