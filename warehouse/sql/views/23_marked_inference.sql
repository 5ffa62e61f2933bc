-- Question: what is wrong with each inference request? Grain: as inference. Internal: its columns may change, those of valid_inference stay.
-- Every row is here; the predicates say why one may not be trusted, valid_inference which ones are.
CREATE OR REPLACE VIEW marked_inference AS
SELECT
    m.*,
    epoch_us(m.started_at) > epoch_us(m.received_at) + 86_400_000_000 AS is_from_future,
    d.agent IS NOT NULL AS is_degraded_agent
FROM inference AS m
LEFT JOIN agent_degraded AS d
    ON d.agent = m.agent AND d.boot = m.boot AND m.started_at > d.degraded_from_at AND m.started_at <= d.degraded_until_at;
COMMENT ON VIEW marked_inference IS 'Every inference request, with what is wrong with it as named predicates';
INSERT INTO view_column
SELECT 'marked_inference', column_name, comment FROM duckdb_columns() WHERE database_name = current_database() AND table_name = 'inference';
INSERT INTO view_column VALUES
('marked_inference', 'is_from_future', 'started_at is more than a day after it was received: the agent''s clock is wrong; never NULL'),
('marked_inference', 'is_degraded_agent', 'The agent failed its own checks at that time; never NULL');
