-- Question: who measures, and when were they last heard of? Grain: agent; its newest report. Stable.
CREATE OR REPLACE VIEW agents AS
SELECT
    agent, site, boot, version, reported_at AS last_seen_at, grade, reasons, spool_bytes, skipped_rounds, dropped_measurements,
    loop_lag_p99_ns / 1e6 AS loop_lag_p99_ms,
    clock_error_ns / 1e6 AS clock_error_ms,
    uptime_ns / 1e9 AS uptime_s,
    round_lag_p99_ns / 1e6 AS round_lag_p99_ms,
    steal_ratio, stamps, failures, opted_out_rounds, shifts, config_generation, config_refused
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
('agents', 'uptime_s', 'Since its process started, s; never NULL'),
('agents', 'round_lag_p99_ms', 'How late its rounds were started, ms; NULL: none was due, or not known'),
('agents', 'steal_ratio', 'Share of processor time its hypervisor gave to others, 0 to 1; NULL: not known'),
('agents', 'stamps', 'RTTs since boot by how they were timed; NULL: not said'),
('agents', 'failures', 'Measurements since boot that show a failure, by whose it was: resolver, path, target, agent; NULL: not said'),
('agents', 'opted_out_rounds', 'Rounds since boot not measured because the target opted out; NULL: not said'),
('agents', 'shifts', 'Times since boot that the RTT of a target moved; NULL: not said'),
('agents', 'config_generation', 'Generation of the pushed configuration it runs; NULL: its own file alone'),
('agents', 'config_refused', 'The pushed configuration it refused last, and why; NULL: none since the last good one');
