-- Question: how is each link by its TCP connections? Grain: src, dst, medium; the 24 h up to the newest connection in the warehouse. Stable.
-- Beside the view links, which is of probe packets: an RTT of a TCP hand-shake is never mixed with theirs.
CREATE OR REPLACE VIEW http_links AS
SELECT
    p.src, p.dst, p.medium,
    min(p.tcp_rtt_ns) / 1e6 AS rtt_min_ms,
    quantile_disc(p.tcp_rtt_ns, 0.50) / 1e6 AS rtt_p50_ms,
    quantile_disc(p.tcp_rtt_ns, 0.95) / 1e6 AS rtt_p95_ms,
    count(*) AS tried_count,
    count(*) FILTER (p.outcome <> 'ok') AS failed_count,
    quantile_disc(p.dns_ns, 0.50) / 1e6 AS dns_p50_ms,
    quantile_disc(p.tls_ns, 0.50) FILTER (p.tls_resumed IS NOT TRUE) / 1e6 AS tls_full_p50_ms,
    quantile_disc(p.tls_ns, 0.50) FILTER (p.tls_resumed) / 1e6 AS tls_resumed_p50_ms,
    quantile_disc(p.ttfb_ns, 0.50) / 1e6 AS ttfb_p50_ms,
    max(p.started_at) AS newest_started_at,
    any_value(fibre_floor_ns(a.lat, a.lon, b.lat, b.lon)) / 1e6 AS fibre_floor_ms,
    min(p.tcp_rtt_ns) < 0.98 * any_value(fibre_floor_ns(a.lat, a.lon, b.lat, b.lon)) AS is_faster_than_light
FROM valid_http AS p
LEFT JOIN site AS a ON a.id = p.src
LEFT JOIN site AS b ON b.id = p.dst
WHERE p.started_at > (SELECT max(started_at) FROM valid_http) - INTERVAL 24 HOUR
GROUP BY p.src, p.dst, p.medium;
COMMENT ON VIEW http_links IS 'Every link measured by TCP connections over the 24 h up to the newest one';
INSERT INTO view_column VALUES
('http_links', 'src', 'Site id of the agent; never NULL'),
('http_links', 'dst', 'Site id of the target; never NULL'),
('http_links', 'medium', 'internet, backbone or direct-connect; never NULL'),
('http_links', 'rtt_min_ms', 'Least RTT of a TCP hand-shake, ms; NULL: none'),
('http_links', 'rtt_p50_ms', 'Median RTT of the TCP hand-shakes, ms (nearest rank); NULL: none'),
('http_links', 'rtt_p95_ms', '95th percentile of the RTT of the TCP hand-shakes, ms; NULL: none'),
('http_links', 'tried_count', 'Connections tried; never NULL'),
('http_links', 'failed_count', 'Connections that failed, in whatever phase; never NULL'),
('http_links', 'dns_p50_ms', 'Median name look-up, ms; NULL: nothing was looked up'),
('http_links', 'tls_full_p50_ms', 'Median TLS hand-shake in full, ms; NULL: none'),
('http_links', 'tls_resumed_p50_ms', 'Median resumed TLS hand-shake, ms; NULL: none'),
('http_links', 'ttfb_p50_ms', 'Median time to the first byte of an answer, ms from the start of the request; NULL: none'),
('http_links', 'newest_started_at', 'When the newest connection began, UTC; never NULL'),
('http_links', 'fibre_floor_ms', 'Least possible RTT over fibre along the great circle, ms; NULL: the place of a site is not known'),
('http_links', 'is_faster_than_light', 'The least RTT is below 98 % of the fibre floor: impossible; NULL: no RTT, or the place of a site is not known');
