-- What other tools measured and do not say is unknown: the time-out of a ping, the bytes and the duration of a transfer.
ALTER TABLE ping_sample ALTER COLUMN timeout_ns DROP NOT NULL;
ALTER TABLE throughput ALTER COLUMN transferred_bytes DROP NOT NULL;
ALTER TABLE throughput ALTER COLUMN duration_ns DROP NOT NULL;
COMMENT ON COLUMN ping_sample.timeout_ns IS 'A reply later than this counts as lost, ns; NULL: imported, and the source does not say';
COMMENT ON COLUMN throughput.transferred_bytes IS 'Payload acknowledged (up) or received (down), bytes; NULL: imported, and the source does not say';
COMMENT ON COLUMN throughput.duration_ns IS 'Over which time, ns; NULL: imported, and the source does not say';
COMMENT ON COLUMN throughput.tool IS 'iperf3 or builtin; ndt7 or other: imported; never NULL';
