-- Question: how is each link by STAMP, by direction? Grain: src, dst, medium; the 24 h up to the newest round in the warehouse. Stable.
-- Delays of one direction are given only where both clocks state their error; variations need no common clock.
CREATE OR REPLACE VIEW stamp_links AS
WITH round AS (
    SELECT * FROM valid_stamp WHERE started_at > (SELECT max(started_at) FROM valid_stamp) - INTERVAL 24 HOUR
),
loss AS (
    SELECT
        src, dst, medium,
        CAST(sum(sent_count) AS BIGINT) AS sent_count,
        CAST(sum(reply_count) AS BIGINT) AS reply_count,
        CAST(sum(forward_lost) AS BIGINT) AS forward_lost,
        CAST(sum(backward_lost) AS BIGINT) AS backward_lost,
        CAST(sum(undirected_lost) AS BIGINT) AS undirected_lost,
        max(started_at) AS newest_started_at
    FROM round
    GROUP BY ALL
),
delay AS (
    SELECT
        src, dst, medium,
        min(rtt_ns) / 1e6 AS rtt_min_ms,
        quantile_disc(rtt_ns, 0.50) / 1e6 AS rtt_p50_ms,
        quantile_disc(forward_ns, 0.50) / 1e6 AS forward_p50_ms,
        quantile_disc(backward_ns, 0.50) / 1e6 AS backward_p50_ms,
        max(clock_error_ns) FILTER (forward_ns IS NOT NULL) / 1e6 AS clock_error_ms,
        quantile_disc(forward_pdv_ns, 0.95) / 1e6 AS forward_pdv_p95_ms,
        quantile_disc(backward_pdv_ns, 0.95) / 1e6 AS backward_pdv_p95_ms
    FROM (SELECT src, dst, medium, clock_error_ns, unnest(samples, recursive := true) FROM round)
    GROUP BY ALL
)
SELECT
    src, dst, medium, rtt_min_ms, rtt_p50_ms, forward_p50_ms, backward_p50_ms, clock_error_ms, forward_pdv_p95_ms, backward_pdv_p95_ms,
    sent_count, reply_count, forward_lost, backward_lost, undirected_lost, newest_started_at
FROM loss
LEFT JOIN delay USING (src, dst, medium);
COMMENT ON VIEW stamp_links IS 'Every link measured by STAMP over the 24 h up to the newest round, loss and delay by direction';
DELETE FROM view_column WHERE view_name = 'stamp_links';
INSERT INTO view_column VALUES
('stamp_links', 'src', 'Site id of the agent; never NULL'),
('stamp_links', 'dst', 'Site id of the target; never NULL'),
('stamp_links', 'medium', 'internet, backbone or direct-connect; never NULL'),
('stamp_links', 'rtt_min_ms', 'Least RTT without the reflector''s residence, ms; NULL: no reply'),
('stamp_links', 'rtt_p50_ms', 'Median RTT without the reflector''s residence, ms (nearest rank); NULL: no reply'),
('stamp_links', 'forward_p50_ms', 'Median one-way delay from src to dst, ms; NULL: a clock without a stated error'),
('stamp_links', 'backward_p50_ms', 'Median one-way delay from dst to src, ms; NULL: a clock without a stated error'),
('stamp_links', 'clock_error_ms', 'Greatest stated error of both clocks together, ms: the bound of the one-way delays'' error; NULL: there are none'),
('stamp_links', 'forward_pdv_p95_ms', '95th percentile of the delay from src to dst above the least of its round, ms; NULL: none'),
('stamp_links', 'backward_pdv_p95_ms', '95th percentile of the delay from dst to src above the least of its round, ms; NULL: none'),
('stamp_links', 'sent_count', 'Packets that left; never NULL'),
('stamp_links', 'reply_count', 'Packets answered in time; never NULL'),
('stamp_links', 'forward_lost', 'Packets lost from src to dst, of the rounds that tell; NULL: no round tells'),
('stamp_links', 'backward_lost', 'Packets lost from dst to src, of the rounds that tell; NULL: no round tells'),
('stamp_links', 'undirected_lost', 'Packets lost in a direction that nothing tells; never NULL'),
('stamp_links', 'newest_started_at', 'When the newest round began, UTC; never NULL');
