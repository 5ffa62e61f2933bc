-- Question: what is wrong with each imported RTT? Grain: as rtt_matrix. Internal: its columns may change.
CREATE OR REPLACE VIEW marked_rtt_matrix AS
SELECT
    m.*,
    fibre_floor_ns(a.lat, a.lon, b.lat, b.lon) AS fibre_floor_ns,
    coalesce(m.min_ns, m.rtt_ns, m.p50_ns) < 0.98 * fibre_floor_ns(a.lat, a.lon, b.lat, b.lon) AS is_faster_than_light,
    m.received_at < max(m.received_at) OVER (PARTITION BY m.src, m.dst, m.medium) AS is_superseded
FROM rtt_matrix AS m
LEFT JOIN site AS a ON a.id = m.src
LEFT JOIN site AS b ON b.id = m.dst;
COMMENT ON VIEW marked_rtt_matrix IS 'Every imported RTT, with what is wrong with it as named predicates';
INSERT INTO view_column
SELECT 'marked_rtt_matrix', column_name, comment FROM duckdb_columns() WHERE database_name = current_database() AND table_name = 'rtt_matrix';
INSERT INTO view_column VALUES
('marked_rtt_matrix', 'fibre_floor_ns', 'Least possible RTT over fibre along the great circle, ns; NULL: the place of a site is not known'),
('marked_rtt_matrix', 'is_faster_than_light', 'The least RTT given is below 98 % of the fibre floor: impossible; NULL: the place of a site is not known'),
('marked_rtt_matrix', 'is_superseded', 'A later import says something of the same link; never NULL');
