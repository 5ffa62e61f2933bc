-- Question: which probe packets count? Grain: as ping_sample. Stable: columns are added, never renamed or dropped.
-- An RTT faster than light is not judged here: it condemns the link (its coordinates or its source), see links and the gates.
CREATE OR REPLACE VIEW valid_ping AS
SELECT * EXCLUDE (is_from_future, is_duplicate_id, is_degraded_agent)
FROM marked_ping
WHERE NOT is_from_future AND NOT is_duplicate_id AND NOT is_degraded_agent;
COMMENT ON VIEW valid_ping IS 'Every probe packet that counts: not from the future, not stored twice, not of a degraded agent';
INSERT INTO view_column
SELECT 'valid_ping', column_name, comment FROM duckdb_columns()
WHERE database_name = current_database() AND table_name = 'ping_sample' AND column_name <> 'is_duplicate_id';
