-- Question: what is wrong with each connection? Grain: as http. Internal: its columns may change, those of valid_http stay.
-- Every row is here; the predicates say why one may not be trusted, valid_http which ones are.
CREATE OR REPLACE VIEW marked_http AS
SELECT
    m.*,
    epoch_us(m.started_at) > epoch_us(m.received_at) + 86_400_000_000 AS is_from_future,
    d.agent IS NOT NULL AS is_degraded_agent
FROM http AS m
LEFT JOIN agent_degraded AS d
    ON d.agent = m.agent AND d.boot = m.boot AND m.started_at > d.degraded_from_at AND m.started_at <= d.degraded_until_at;
COMMENT ON VIEW marked_http IS 'Every connection, with what is wrong with it as named predicates';
INSERT INTO view_column
SELECT 'marked_http', column_name, comment FROM duckdb_columns() WHERE database_name = current_database() AND table_name = 'http';
INSERT INTO view_column VALUES
('marked_http', 'is_from_future', 'started_at is more than a day after it was received: the agent''s clock is wrong; never NULL'),
('marked_http', 'is_degraded_agent', 'The agent failed its own checks at that time; never NULL');
