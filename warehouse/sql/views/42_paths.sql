-- Question: which way does each flow go now? Grain: src, dst, medium, protocol, flow; its newest trace. Stable.
CREATE OR REPLACE VIEW paths AS
SELECT
    src, dst, medium, protocol, flow, started_at, reached, path_hash,
    len(hops) AS hop_count,
    [coalesce(h.address, '*') FOR h IN hops] AS addresses,
    hops[-1].rtt_ns / 1e6 AS last_hop_rtt_ms,
    measurement_id
FROM valid_traceroute
QUALIFY row_number() OVER (PARTITION BY src, dst, medium, protocol, flow ORDER BY started_at DESC, measurement_id DESC) = 1;
COMMENT ON VIEW paths IS 'The newest path of every flow';
INSERT INTO view_column VALUES
('paths', 'src', 'Site id of the agent; never NULL'),
('paths', 'dst', 'Site id of the target; never NULL'),
('paths', 'medium', 'internet, backbone or direct-connect; never NULL'),
('paths', 'protocol', 'icmp, udp or tcp; never NULL'),
('paths', 'flow', 'Flow among those of the target, from 0; never NULL'),
('paths', 'started_at', 'When it was traced, UTC; never NULL'),
('paths', 'reached', 'The target itself answered; never NULL'),
('paths', 'path_hash', 'Equal hashes, equal paths; never NULL'),
('paths', 'hop_count', 'TTLs tried; never NULL'),
('paths', 'addresses', 'Who answered at each TTL from 1, * for a silent hop; never NULL'),
('paths', 'last_hop_rtt_ms', 'RTT of the last hop, ms; NULL: it was silent'),
('paths', 'measurement_id', 'The measurement it came from; never NULL');
