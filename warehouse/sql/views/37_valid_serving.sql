-- Question: which readings of servers' metrics count? Grain: as serving. Stable: columns are added, never renamed or dropped.
CREATE OR REPLACE VIEW valid_serving AS
SELECT * EXCLUDE (is_from_future, is_duplicate_id, is_degraded_agent)
FROM marked_serving
WHERE NOT is_from_future AND NOT is_duplicate_id AND NOT is_degraded_agent;
COMMENT ON VIEW valid_serving IS 'Every reading of a server''s metrics that counts: not from the future, not stored twice, not of a degraded agent';
DELETE FROM view_column WHERE view_name = 'valid_serving';
INSERT INTO view_column
SELECT 'valid_serving', column_name, comment FROM duckdb_columns()
WHERE database_name = current_database() AND table_name = 'serving' AND column_name <> 'is_duplicate_id';
