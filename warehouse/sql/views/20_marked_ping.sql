-- Question: what is wrong with each probe packet? Grain: as ping_sample. Internal: its columns may change, those of valid_ping stay.
-- Every row is here; the predicates say why one may not be trusted, valid_ping which ones are.
CREATE OR REPLACE VIEW marked_ping AS
SELECT
    m.*,
    epoch_us(m.sent_at) > epoch_us(m.received_at) + 86_400_000_000 AS is_from_future,
    d.agent IS NOT NULL AS is_degraded_agent
FROM ping_sample AS m
LEFT JOIN agent_degraded AS d
    ON d.agent = m.agent AND d.boot = m.boot AND m.sent_at > d.degraded_from_at AND m.sent_at <= d.degraded_until_at;
COMMENT ON VIEW marked_ping IS 'Every probe packet, with what is wrong with it as named predicates';
INSERT INTO view_column
SELECT 'marked_ping', column_name, comment FROM duckdb_columns() WHERE database_name = current_database() AND table_name = 'ping_sample';
INSERT INTO view_column VALUES
('marked_ping', 'is_from_future', 'sent_at is more than a day after it was received: the agent''s clock is wrong; never NULL'),
('marked_ping', 'is_degraded_agent', 'The agent failed its own checks at that time; never NULL');
