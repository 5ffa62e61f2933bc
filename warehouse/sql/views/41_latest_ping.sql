-- Question: what did the newest ping round of each link say? Grain: src, dst, medium. Stable.
CREATE OR REPLACE VIEW latest_ping AS
SELECT
    src, dst, medium, started_at,
    min(rtt_ns) / 1e6 AS rtt_min_ms,
    quantile_disc(rtt_ns, 0.5) / 1e6 AS rtt_p50_ms,
    max(rtt_ns) / 1e6 AS rtt_max_ms,
    count(*) FILTER (outcome <> 'send_failed') AS sent_count,
    count(rtt_ns) AS reply_count,
    any_value(agent) AS agent,
    any_value(target) AS target,
    any_value(engine) AS engine
FROM (
    SELECT *, max((started_at, measurement_id)) OVER (PARTITION BY src, dst, medium) = (started_at, measurement_id) AS is_newest
    FROM valid_ping
)
WHERE is_newest
GROUP BY src, dst, medium, started_at;
COMMENT ON VIEW latest_ping IS 'The newest ping round of every link';
INSERT INTO view_column VALUES
('latest_ping', 'src', 'Site id of the agent; never NULL'),
('latest_ping', 'dst', 'Site id of the target; never NULL'),
('latest_ping', 'medium', 'internet, backbone or direct-connect; never NULL'),
('latest_ping', 'started_at', 'When the round began, UTC; never NULL'),
('latest_ping', 'rtt_min_ms', 'Least RTT of the round, ms; NULL: no reply'),
('latest_ping', 'rtt_p50_ms', 'Median RTT of the round, ms; NULL: no reply'),
('latest_ping', 'rtt_max_ms', 'Greatest RTT of the round, ms; NULL: no reply'),
('latest_ping', 'sent_count', 'Packets that left; never NULL'),
('latest_ping', 'reply_count', 'Packets answered; never NULL'),
('latest_ping', 'agent', 'Agent that measured; never NULL'),
('latest_ping', 'target', 'Address measured; never NULL'),
('latest_ping', 'engine', 'Name and version of what measured; never NULL');
