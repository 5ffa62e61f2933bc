-- Question: what did the agents report? Grain: agent and $width of time; the newest report of each that came in ($since, $until]. Units: ns.
SELECT agent, site, boot, received_at, uptime_ns, produced, schedule, grade
FROM agent_status
WHERE received_at > $since AND received_at <= $until
QUALIFY row_number() OVER (
    PARTITION BY agent, epoch_us(received_at) // epoch_us($width) ORDER BY received_at DESC, reported_at DESC
) = 1
ORDER BY received_at, agent;
