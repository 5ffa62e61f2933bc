-- STAMP rounds (RFC 8762): round trip without the reflector's residence, loss and delay variation by direction.
CREATE TABLE stamp (
    measurement_id VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    boot VARCHAR NOT NULL,
    src VARCHAR NOT NULL,
    dst VARCHAR NOT NULL,
    medium VARCHAR NOT NULL,
    target VARCHAR NOT NULL,
    engine VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    mode VARCHAR NOT NULL,
    reflector VARCHAR,
    timeout_ns BIGINT NOT NULL,
    packet_bytes BIGINT NOT NULL,
    sent_count BIGINT NOT NULL,
    reply_count BIGINT NOT NULL,
    forward_lost BIGINT,
    backward_lost BIGINT,
    undirected_lost BIGINT NOT NULL,
    clock_error_ns BIGINT,
    unverified BIGINT NOT NULL,
    samples STRUCT(
        sequence BIGINT,
        outcome VARCHAR,
        sent_at_ns BIGINT,
        rtt_ns BIGINT,
        ts_source VARCHAR,
        residence_ns BIGINT,
        forward_ns BIGINT,
        backward_ns BIGINT,
        forward_pdv_ns BIGINT,
        backward_pdv_ns BIGINT,
        reflector_sequence BIGINT,
        forward_ttl BIGINT,
        reply_ttl BIGINT,
        sched_lag_ns BIGINT,
        duplicates BIGINT,
        late BOOLEAN,
        icmp_type BIGINT,
        icmp_code BIGINT,
        responder VARCHAR,
        error VARCHAR
    )[] NOT NULL,
    batch_boot VARCHAR NOT NULL,
    batch_sequence BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    is_duplicate_id BOOLEAN NOT NULL
);
COMMENT ON TABLE stamp IS 'STAMP rounds (RFC 8762): one row per round of test packets to a reflector';
COMMENT ON COLUMN stamp.measurement_id IS 'The measurement: <boot>-<n>, unique for ever; never NULL';
COMMENT ON COLUMN stamp.agent IS 'Agent that measured; never NULL';
COMMENT ON COLUMN stamp.boot IS 'Boot id of the agent''s process that measured; never NULL';
COMMENT ON COLUMN stamp.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN stamp.dst IS 'Site id of the target; never NULL';
COMMENT ON COLUMN stamp.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN stamp.target IS 'Address and port of the reflector; never NULL';
COMMENT ON COLUMN stamp.engine IS 'Name and version of what measured; never NULL';
COMMENT ON COLUMN stamp.started_at IS 'When it began, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN stamp.mode IS 'unauthenticated or authenticated (HMAC-SHA-256); never NULL';
COMMENT ON COLUMN stamp.reflector IS 'stateful (it numbers its replies) or stateless (it copies our numbers); NULL: not known';
COMMENT ON COLUMN stamp.timeout_ns IS 'A reply later than this counts as lost, ns; never NULL';
COMMENT ON COLUMN stamp.packet_bytes IS 'UDP payload of a packet, bytes, the same in both directions; never NULL';
COMMENT ON COLUMN stamp.sent_count IS 'Packets that left; never NULL';
COMMENT ON COLUMN stamp.reply_count IS 'Packets that were answered in time; never NULL';
COMMENT ON COLUMN stamp.forward_lost IS 'Packets lost on the way from src to dst; NULL: the reflector does not tell';
COMMENT ON COLUMN stamp.backward_lost IS 'Packets lost on the way from dst to src; NULL: the reflector does not tell';
COMMENT ON COLUMN stamp.undirected_lost IS 'Packets lost in a direction that nothing tells; never NULL';
COMMENT ON COLUMN stamp.clock_error_ns IS 'Stated error of both clocks together, ns: a bound of the error of the one-way delays; NULL: one end states none';
COMMENT ON COLUMN stamp.unverified IS 'Replies dropped because their HMAC was wrong; never NULL';
COMMENT ON COLUMN stamp.samples IS 'One for each packet, as the view stamp_packets shows them; never NULL';
COMMENT ON COLUMN stamp.batch_boot IS 'Boot of the batch it came in; never NULL';
COMMENT ON COLUMN stamp.batch_sequence IS 'Sequence of the batch it came in; never NULL';
COMMENT ON COLUMN stamp.received_at IS 'When the collector took it, UTC; never NULL';
COMMENT ON COLUMN stamp.is_duplicate_id IS 'The same measurement was stored before under another batch; never NULL';

-- Throughput tests say more of themselves: how they were made, what they cost, what they did to the latency.
ALTER TABLE throughput ADD COLUMN failure_source VARCHAR;
ALTER TABLE throughput ADD COLUMN method VARCHAR;
ALTER TABLE throughput ADD COLUMN is_estimate BOOLEAN;
ALTER TABLE throughput ADD COLUMN protocol VARCHAR;
ALTER TABLE throughput ADD COLUMN streams BIGINT;
ALTER TABLE throughput ADD COLUMN is_bidirectional BOOLEAN;
ALTER TABLE throughput ADD COLUMN spent_bytes BIGINT;
ALTER TABLE throughput ADD COLUMN idle_rtt_ns BIGINT;
ALTER TABLE throughput ADD COLUMN loaded_rtt_ns BIGINT;
ALTER TABLE throughput ADD COLUMN loaded_rtt_p95_ns BIGINT;
ALTER TABLE throughput ADD COLUMN rtt_source VARCHAR;
ALTER TABLE throughput ADD COLUMN udp_packets BIGINT;
ALTER TABLE throughput ADD COLUMN udp_lost_packets BIGINT;
ALTER TABLE throughput ADD COLUMN udp_jitter_ns BIGINT;
COMMENT ON COLUMN throughput.failure_source IS 'Whose failure it was: resolver, path, target or agent; NULL: nothing failed, or not told';
COMMENT ON COLUMN throughput.method IS 'transfer (a full test); bbr, delivery_rate (read from the sender''s congestion control in a short transfer) or train (UDP packets): estimates; NULL: stored before this was told, a transfer';
COMMENT ON COLUMN throughput.is_estimate IS 'throughput_bps is an estimate and no transfer achieved it; NULL: stored before this was told, no estimate';
COMMENT ON COLUMN throughput.protocol IS 'tcp or udp; NULL: stored before this was told, tcp';
COMMENT ON COLUMN throughput.streams IS 'Connections at the same time; NULL: stored before this was told';
COMMENT ON COLUMN throughput.is_bidirectional IS 'The other direction was measured at the same time; NULL: stored before this was told';
COMMENT ON COLUMN throughput.spent_bytes IS 'Bytes sent or received for the test in all, readings thrown away included; NULL: not told';
COMMENT ON COLUMN throughput.idle_rtt_ns IS 'Median RTT before the test, ns; NULL: not measured';
COMMENT ON COLUMN throughput.loaded_rtt_ns IS 'Median RTT during the test, ns; NULL: not measured';
COMMENT ON COLUMN throughput.loaded_rtt_p95_ns IS '95th percentile of the RTT during the test, ns; NULL: not measured';
COMMENT ON COLUMN throughput.rtt_source IS 'What read the RTT during the test: ping or tcp_info; NULL: not measured';
COMMENT ON COLUMN throughput.udp_packets IS 'Packets of a UDP test that were sent; NULL: no UDP test';
COMMENT ON COLUMN throughput.udp_lost_packets IS 'Packets of a UDP test that did not arrive; NULL: no UDP test';
COMMENT ON COLUMN throughput.udp_jitter_ns IS 'Jitter of a UDP test by its receiver (RFC 3550), ns; NULL: no UDP test';
COMMENT ON TABLE throughput IS 'Bulk transfers and estimates of what they would achieve: one row per test';
COMMENT ON COLUMN throughput.throughput_bps IS 'Achieved payload bits per second, or an estimate of it (see is_estimate); NULL: the test failed or was skipped';
COMMENT ON COLUMN throughput.stop_reason IS 'time, bytes (the byte budget), error, or skipped (a budget was spent and nothing was sent); never NULL';
