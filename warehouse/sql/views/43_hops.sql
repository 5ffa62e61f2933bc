-- Question: who is on the way? Grain: one TTL of one trace. Stable.
CREATE OR REPLACE VIEW hops AS
SELECT
    measurement_id, src, dst, medium, flow, started_at,
    h.ttl AS ttl,
    h.address AS address,
    h.rtt_ns / 1e6 AS rtt_ms,
    h.probes AS probe_count,
    h.replies AS reply_count,
    h.mpls AS mpls,
    h.reply_ttl AS reply_ttl,
    CASE WHEN h.reply_ttl BETWEEN 1 AND 255 THEN list_first([s FOR s IN [32, 64, 128, 255] IF h.reply_ttl <= s]) - h.reply_ttl + 1 END
        AS reverse_hop_count
FROM valid_traceroute, unnest(hops) AS t (h);
COMMENT ON VIEW hops IS 'Every hop of every valid trace, one row each';
INSERT INTO view_column VALUES
('hops', 'measurement_id', 'The measurement it belongs to; never NULL'),
('hops', 'src', 'Site id of the agent; never NULL'),
('hops', 'dst', 'Site id of the target; never NULL'),
('hops', 'medium', 'internet, backbone or direct-connect; never NULL'),
('hops', 'flow', 'Flow among those of the target, from 0; never NULL'),
('hops', 'started_at', 'When it was traced, UTC; never NULL'),
('hops', 'ttl', 'Hop number, from 1; never NULL'),
('hops', 'address', 'Who answered; NULL: nobody did'),
('hops', 'rtt_ms', 'RTT to it, ms; NULL: nobody answered'),
('hops', 'probe_count', 'Probe packets with this TTL; never NULL'),
('hops', 'reply_count', 'How many were answered; fewer is the router''s reluctance, never path loss; never NULL'),
('hops', 'mpls', 'Label stack it quoted (RFC 4950), outermost first; empty: none; never NULL'),
('hops', 'reply_ttl', 'TTL or hop limit of the answer; NULL: nobody answered, or not known'),
('hops', 'reverse_hop_count', 'Length of the way back, guessed: the least usual first TTL (32, 64, 128, 255) less reply_ttl, plus 1; NULL: reply_ttl is');
