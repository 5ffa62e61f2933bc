-- Question: how did the agents fare over time? Grain: report, reported in ($since, $until]; $agent NULL: of all agents. Units: ms, bytes.
SELECT
    reported_at, agent, site, grade, spool_bytes, skipped_rounds, dropped_measurements,
    loop_lag_p99_ns / 1e6 AS loop_lag_p99_ms,
    clock_error_ns / 1e6 AS clock_error_ms
FROM agent_status
WHERE reported_at > $since AND reported_at <= $until AND ($agent IS NULL OR agent = $agent)
ORDER BY reported_at, agent;
