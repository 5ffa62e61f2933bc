-- Question: what became of each STAMP packet? Grain: packet of a round that counts. Units: ns. Stable.
CREATE OR REPLACE VIEW stamp_packets AS
SELECT
    m.measurement_id, m.agent, m.src, m.dst, m.medium, m.started_at, m.mode, m.reflector, m.clock_error_ns,
    unnest(m.samples, recursive := true)
FROM valid_stamp AS m;
COMMENT ON VIEW stamp_packets IS 'Every packet of every STAMP round that counts';
DELETE FROM view_column WHERE view_name = 'stamp_packets';
INSERT INTO view_column
SELECT 'stamp_packets', column_name, comment FROM duckdb_columns()
WHERE database_name = current_database() AND table_name = 'stamp'
    AND column_name IN ('measurement_id', 'agent', 'src', 'dst', 'medium', 'started_at', 'mode', 'reflector', 'clock_error_ns');
INSERT INTO view_column VALUES
('stamp_packets', 'sequence', 'Number of the packet in its round, from 0; never NULL'),
('stamp_packets', 'outcome', 'reply, timeout, unreachable or send_failed; never NULL'),
('stamp_packets', 'sent_at_ns', 'When it was sent, ns since 1970, UTC by the agent''s clock; never NULL'),
('stamp_packets', 'rtt_ns', 'Round-trip time without the reflector''s residence, ns; NULL: no reply'),
('stamp_packets', 'ts_source', 'How it was timed: kernel_txrx, kernel_rx or user; NULL: no reply'),
('stamp_packets', 'residence_ns', 'How long it was inside the reflector, ns by the reflector''s clock; NULL: no reply, or not believable'),
('stamp_packets', 'forward_ns', 'One-way delay from src to dst, ns, within clock_error_ns; NULL: no reply, or a clock without a stated error'),
('stamp_packets', 'backward_ns', 'One-way delay from dst to src, ns, within clock_error_ns; NULL: no reply, or a clock without a stated error'),
('stamp_packets', 'forward_pdv_ns', 'Delay from src to dst above the least of the round (RFC 5481), ns; NULL: no reply, or no kernel stamps'),
('stamp_packets', 'backward_pdv_ns', 'Delay from dst to src above the least of the round (RFC 5481), ns; NULL: no reply, or no kernel stamps'),
('stamp_packets', 'reflector_sequence', 'The reflector''s number of the reply; NULL: no reply'),
('stamp_packets', 'forward_ttl', 'TTL with which the packet reached the reflector; NULL: no reply, or it does not say'),
('stamp_packets', 'reply_ttl', 'TTL with which the reply came; NULL: no reply, or not known'),
('stamp_packets', 'sched_lag_ns', 'How much later than planned it was handed to the kernel, ns; NULL: not known'),
('stamp_packets', 'duplicates', 'Further copies of the reply; never NULL'),
('stamp_packets', 'late', 'A reply came after the time-out; never NULL'),
('stamp_packets', 'icmp_type', 'Of the ICMP error; NULL: none'),
('stamp_packets', 'icmp_code', 'Of the ICMP error; NULL: none'),
('stamp_packets', 'responder', 'Who sent the ICMP error; NULL: nobody'),
('stamp_packets', 'error', 'errno name of a failed send; NULL: it left');
