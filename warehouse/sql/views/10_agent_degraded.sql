-- Question: when was an agent's word not good? Grain: agent, boot, interval (from, until].
-- A status speaks of the time since the one before it; after its last status an agent keeps its last grade.
CREATE OR REPLACE VIEW agent_degraded AS
SELECT agent, boot, degraded_from_at, degraded_until_at, reasons
FROM (
    SELECT
        agent, boot, grade, reasons,
        lag(reported_at, 1, '-infinity'::TIMESTAMPTZ) OVER life AS degraded_from_at,
        CASE WHEN lead(reported_at) OVER life IS NULL THEN 'infinity'::TIMESTAMPTZ ELSE reported_at END AS degraded_until_at
    FROM agent_status
    -- Most never fail: their reports need not be put in order.
    WHERE (agent, boot) IN (SELECT (agent, boot) FROM agent_status WHERE grade = 'degraded')
    WINDOW life AS (PARTITION BY agent, boot ORDER BY reported_at, received_at)
)
WHERE grade = 'degraded' AND degraded_from_at < degraded_until_at;
COMMENT ON VIEW agent_degraded IS 'Intervals in which an agent failed its own checks: its rows of that time are marked';
INSERT INTO view_column VALUES
('agent_degraded', 'agent', 'Agent; never NULL'),
('agent_degraded', 'boot', 'Boot id of its process; never NULL'),
('agent_degraded', 'degraded_from_at', 'Exclusive start, UTC; -infinity: since boot; never NULL'),
('agent_degraded', 'degraded_until_at', 'Inclusive end, UTC; infinity: until it says otherwise; never NULL'),
('agent_degraded', 'reasons', 'Why, in the agent''s words; never NULL');
