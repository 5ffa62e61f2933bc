-- Question: who measures, and when were they last heard of? Grain: agent; its newest report. Stable.
CREATE OR REPLACE VIEW agents AS
SELECT
    agent, site, boot, version, reported_at AS last_seen_at, grade, reasons, spool_bytes, skipped_rounds, dropped_measurements,
    loop_lag_p99_ns / 1e6 AS loop_lag_p99_ms,
    clock_error_ns / 1e6 AS clock_error_ms,
    uptime_ns / 1e9 AS uptime_s
FROM agent_status
QUALIFY row_number() OVER (PARTITION BY agent ORDER BY reported_at DESC, received_at DESC) = 1;
COMMENT ON VIEW agents IS 'Every agent by its newest report';
INSERT INTO view_column VALUES
('agents', 'agent', 'Agent; never NULL'),
('agents', 'site', 'Site it measures from; never NULL'),
('agents', 'boot', 'Boot id of its newest process; never NULL'),
('agents', 'version', 'Version of its software; never NULL'),
('agents', 'last_seen_at', 'When it last reported, UTC by its clock; never NULL'),
('agents', 'grade', 'ok or degraded; never NULL'),
('agents', 'reasons', 'Why it is degraded; empty when it is not; never NULL'),
('agents', 'spool_bytes', 'Waiting on its disk, bytes; never NULL'),
('agents', 'skipped_rounds', 'Rounds skipped since boot because its loop was late; never NULL'),
('agents', 'dropped_measurements', 'Measurements lost since boot to the bound of its spool; never NULL'),
('agents', 'loop_lag_p99_ms', 'How late its loop ran, ms; NULL: not known'),
('agents', 'clock_error_ms', 'The kernel''s estimate of its clock''s error, ms; NULL: the clock is not synchronised'),
('agents', 'uptime_s', 'Since its process started, s; never NULL');
