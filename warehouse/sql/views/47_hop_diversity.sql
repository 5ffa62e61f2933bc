-- Question: who stands at each hop over all flows? Grain: src, dst, medium, protocol, target, ttl; the newest trace of each flow. Stable.
CREATE OR REPLACE VIEW hop_diversity AS
SELECT
    src, dst, medium, protocol, target, h.ttl AS ttl,
    coalesce(list_sort(list(DISTINCT h.address) FILTER (h.address IS NOT NULL)), []) AS addresses,
    count(DISTINCT h.address) AS address_count,
    count(*) AS flow_count,
    count(*) FILTER (h.address IS NULL) AS silent_flow_count,
    min(h.rtt_ns) / 1e6 AS rtt_min_ms,
    max(h.rtt_ns) / 1e6 AS rtt_max_ms,
    max(started_at) AS newest_started_at
FROM (
    SELECT src, dst, medium, protocol, target, started_at, hops
    FROM valid_traceroute
    QUALIFY row_number() OVER (PARTITION BY src, dst, medium, protocol, target, flow ORDER BY started_at DESC, measurement_id DESC) = 1
), unnest(hops) AS t (h)
GROUP BY src, dst, medium, protocol, target, h.ttl;
COMMENT ON VIEW hop_diversity IS 'Equal-cost paths: the routers that the flows of a target meet at each hop';
INSERT INTO view_column VALUES
('hop_diversity', 'src', 'Site id of the agent; never NULL'),
('hop_diversity', 'dst', 'Site id of the target; never NULL'),
('hop_diversity', 'medium', 'internet, backbone or direct-connect; never NULL'),
('hop_diversity', 'protocol', 'icmp, udp or tcp; never NULL'),
('hop_diversity', 'target', 'Address traced; never NULL'),
('hop_diversity', 'ttl', 'Hop number, from 1; never NULL'),
('hop_diversity', 'addresses', 'Who answered some flow there, sorted; empty: nobody; never NULL'),
('hop_diversity', 'address_count', 'How many different ones; never NULL'),
('hop_diversity', 'flow_count', 'Flows whose path has this hop; never NULL'),
('hop_diversity', 'silent_flow_count', 'How many of them nobody answered there; never NULL'),
('hop_diversity', 'rtt_min_ms', 'Least RTT over the flows, ms; NULL: nobody answered'),
('hop_diversity', 'rtt_max_ms', 'Greatest RTT over the flows, ms; NULL: nobody answered'),
('hop_diversity', 'newest_started_at', 'When the newest of the traces began, UTC; never NULL');
