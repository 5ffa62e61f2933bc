-- Question: what do imports say of each link? Grain: src, dst, medium. Stable.
-- Of several imports the newest wins; of its rows for one link (instance classes, tiers) the median and the least count.
-- Impossible rows stay in: the gates condemn the link, and hiding half of its rows would hide the fault.
CREATE OR REPLACE VIEW imported_links AS
SELECT
    src, dst, medium,
    CAST(median(coalesce(p50_ns, rtt_ns)) AS BIGINT) AS rtt_p50_ns,
    min(min_ns) AS rtt_min_ns,
    CAST(median(p95_ns) AS BIGINT) AS rtt_p95_ns,
    median(loss_ratio) AS loss_ratio,
    max(measured_at) AS measured_at,
    count(*) AS row_count,
    bool_or(is_faster_than_light) AS is_faster_than_light,
    max(source) AS source
FROM marked_rtt_matrix
WHERE NOT is_superseded
GROUP BY src, dst, medium;
COMMENT ON VIEW imported_links IS 'What imported matrices say of each link; of several imports the newest';
INSERT INTO view_column VALUES
('imported_links', 'src', 'Site id; never NULL'),
('imported_links', 'dst', 'Site id; never NULL'),
('imported_links', 'medium', 'internet, backbone or direct-connect; never NULL'),
('imported_links', 'rtt_p50_ns', 'Typical RTT, ns: the median of the rows; NULL: not given'),
('imported_links', 'rtt_min_ns', 'Least RTT, ns; NULL: not given'),
('imported_links', 'rtt_p95_ns', '95th percentile of the RTT, ns; NULL: not given'),
('imported_links', 'loss_ratio', 'Lost / sent, 0 to 1; NULL: not given'),
('imported_links', 'measured_at', 'When it was measured, UTC; NULL: the source is not dated'),
('imported_links', 'row_count', 'Rows behind it; never NULL'),
('imported_links', 'is_faster_than_light', 'At least one row is impossible; NULL: the place of a site is not known'),
('imported_links', 'source', 'File it came from; never NULL');
