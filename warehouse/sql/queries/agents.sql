-- Question: who measures, when were they last heard of and can they be trusted? Grain: agent. Units: s, ms, bytes.
SELECT
    agent, site, version, last_seen_at, epoch_us($now - last_seen_at) / 1e6 AS age_s, grade, reasons, spool_bytes, skipped_rounds,
    loop_lag_p99_ms, clock_error_ms, dropped_measurements, config_generation, config_refused
FROM agents
ORDER BY agent;
