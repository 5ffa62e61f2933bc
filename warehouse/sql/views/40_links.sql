-- Question: how is each measured link? Grain: src, dst, medium; the 24 h up to the newest packet in the warehouse. Stable.
CREATE OR REPLACE VIEW links AS
SELECT
    p.src, p.dst, p.medium,
    min(p.rtt_ns) / 1e6 AS rtt_min_ms,
    quantile_disc(p.rtt_ns, 0.50) / 1e6 AS rtt_p50_ms,
    quantile_disc(p.rtt_ns, 0.95) / 1e6 AS rtt_p95_ms,
    quantile_disc(p.rtt_ns, 0.99) / 1e6 AS rtt_p99_ms,
    count(*) FILTER (p.outcome IN ('timeout', 'unreachable')) / nullif(count(*) FILTER (p.outcome <> 'send_failed'), 0) AS loss_ratio,
    count(*) FILTER (p.outcome <> 'send_failed') AS sent_count,
    count(p.rtt_ns) AS reply_count,
    max(p.sent_at) AS newest_sent_at,
    any_value(fibre_floor_ns(a.lat, a.lon, b.lat, b.lon)) / 1e6 AS fibre_floor_ms,
    min(p.rtt_ns) < 0.98 * any_value(fibre_floor_ns(a.lat, a.lon, b.lat, b.lon)) AS is_faster_than_light
FROM valid_ping AS p
LEFT JOIN site AS a ON a.id = p.src
LEFT JOIN site AS b ON b.id = p.dst
WHERE p.sent_at > (SELECT max(sent_at) FROM valid_ping) - INTERVAL 24 HOUR
GROUP BY p.src, p.dst, p.medium;
COMMENT ON VIEW links IS 'Every measured link over the 24 h up to the newest packet';
INSERT INTO view_column VALUES
('links', 'src', 'Site id of the agent; never NULL'),
('links', 'dst', 'Site id of the target; never NULL'),
('links', 'medium', 'internet, backbone or direct-connect; never NULL'),
('links', 'rtt_min_ms', 'Least RTT, ms; NULL: no reply'),
('links', 'rtt_p50_ms', 'Median RTT, ms (nearest rank); NULL: no reply'),
('links', 'rtt_p95_ms', '95th percentile of the RTT, ms; NULL: no reply'),
('links', 'rtt_p99_ms', '99th percentile of the RTT, ms; NULL: no reply'),
('links', 'loss_ratio', 'Lost / sent, 0 to 1; NULL: nothing was sent'),
('links', 'sent_count', 'Packets that left; never NULL'),
('links', 'reply_count', 'Packets answered; never NULL'),
('links', 'newest_sent_at', 'When the newest packet was sent, UTC; never NULL'),
('links', 'fibre_floor_ms', 'Least possible RTT over fibre along the great circle, ms; NULL: the place of a site is not known'),
('links', 'is_faster_than_light', 'The least RTT is below 98 % of the fibre floor: impossible; NULL: no reply, or the place of a site is not known');
