-- Question: what is wrong with each reading of a server's metrics? Grain: as serving. Internal: its columns may change, those of valid_serving stay.
-- Every row is here; the predicates say why one may not be trusted, valid_serving which ones are.
CREATE OR REPLACE VIEW marked_serving AS
SELECT
    m.*,
    epoch_us(m.started_at) > epoch_us(m.received_at) + 86_400_000_000 AS is_from_future,
    d.agent IS NOT NULL AS is_degraded_agent
FROM serving AS m
LEFT JOIN agent_degraded AS d
    ON d.agent = m.agent AND d.boot = m.boot AND m.started_at > d.degraded_from_at AND m.started_at <= d.degraded_until_at;
COMMENT ON VIEW marked_serving IS 'Every reading of a server''s metrics, with what is wrong with it as named predicates';
DELETE FROM view_column WHERE view_name = 'marked_serving';
INSERT INTO view_column
SELECT 'marked_serving', column_name, comment FROM duckdb_columns() WHERE database_name = current_database() AND table_name = 'serving';
INSERT INTO view_column VALUES
('marked_serving', 'is_from_future', 'started_at is more than a day after it was received: the agent''s clock is wrong; never NULL'),
('marked_serving', 'is_degraded_agent', 'The agent failed its own checks at that time; never NULL');
