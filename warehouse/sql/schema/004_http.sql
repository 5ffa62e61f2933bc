-- Connections to web endpoints by phase: the measurements of the probe type http.
CREATE TABLE http (
    measurement_id VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    boot VARCHAR NOT NULL,
    src VARCHAR NOT NULL,
    dst VARCHAR NOT NULL,
    medium VARCHAR NOT NULL,
    target VARCHAR NOT NULL,
    engine VARCHAR NOT NULL,
    protocol VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    outcome VARCHAR NOT NULL,
    failed_phase VARCHAR,
    failure_source VARCHAR,
    error VARCHAR,
    address VARCHAR,
    dns_ns BIGINT,
    tcp_ns BIGINT,
    tcp_rtt_ns BIGINT,
    tcp_min_rtt_ns BIGINT,
    tcp_retransmits BIGINT,
    tls_ns BIGINT,
    tls_version VARCHAR,
    tls_cipher VARCHAR,
    tls_alpn VARCHAR,
    tls_resumed BOOLEAN,
    tls_verified BOOLEAN,
    tls_error VARCHAR,
    http_status BIGINT,
    upload_ns BIGINT,
    ttfb_ns BIGINT,
    e2e_ns BIGINT,
    request_bytes BIGINT,
    response_bytes BIGINT,
    is_cut_off BOOLEAN,
    total_ns BIGINT,
    batch_boot VARCHAR NOT NULL,
    batch_sequence BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    is_duplicate_id BOOLEAN NOT NULL
);
COMMENT ON TABLE http IS 'Connections by phase (name look-up, TCP, TLS, HTTP): one row per connection, failed ones too';
COMMENT ON COLUMN http.measurement_id IS 'The measurement: <boot>-<n>, unique for ever; never NULL';
COMMENT ON COLUMN http.agent IS 'Agent that measured; never NULL';
COMMENT ON COLUMN http.boot IS 'Boot id of the agent''s process that measured; never NULL';
COMMENT ON COLUMN http.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN http.dst IS 'Site id of the target; never NULL';
COMMENT ON COLUMN http.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN http.target IS 'URL measured, without credentials; never NULL';
COMMENT ON COLUMN http.engine IS 'Name and version of what measured; never NULL';
COMMENT ON COLUMN http.protocol IS 'tcp, tls, http (tcp and a request) or https (tls and a request): how far it was to go; never NULL';
COMMENT ON COLUMN http.started_at IS 'When it began, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN http.outcome IS 'ok, no_such_name, resolver_failed, refused, unreachable, timeout, reset, tls_failed, protocol_error or agent_failed; never NULL';
COMMENT ON COLUMN http.failed_phase IS 'dns, tcp, tls or http; NULL: nothing failed';
COMMENT ON COLUMN http.failure_source IS 'Whose failure it was: resolver, path, target or agent; NULL: nothing failed';
COMMENT ON COLUMN http.error IS 'What failed, in one sentence; NULL: nothing did';
COMMENT ON COLUMN http.address IS 'IP address connected to, or the last one tried; NULL: there is none';
COMMENT ON COLUMN http.dns_ns IS 'Name look-up, ns; NULL: nothing was looked up';
COMMENT ON COLUMN http.tcp_ns IS 'TCP hand-shake by the agent''s clock, ns; NULL: it did not end';
COMMENT ON COLUMN http.tcp_rtt_ns IS 'RTT of the TCP hand-shake by the kernel (TCP_INFO), ns: the measurement''s RTT; NULL: no sample';
COMMENT ON COLUMN http.tcp_min_rtt_ns IS 'Least RTT of the connection at its end (TCP_INFO), ns; NULL: no sample';
COMMENT ON COLUMN http.tcp_retransmits IS 'Segments sent again up to the end of the hand-shake; NULL: not known';
COMMENT ON COLUMN http.tls_ns IS 'TLS hand-shake, ns; NULL: there was none, or it did not end';
COMMENT ON COLUMN http.tls_version IS 'Such as TLSv1.3; NULL: no TLS';
COMMENT ON COLUMN http.tls_cipher IS 'Cipher suite; NULL: no TLS';
COMMENT ON COLUMN http.tls_alpn IS 'Protocol agreed on (ALPN); NULL: no TLS, or none was agreed on';
COMMENT ON COLUMN http.tls_resumed IS 'The server took the session of an earlier connection; NULL: none was offered';
COMMENT ON COLUMN http.tls_verified IS 'Certificate and name were accepted; NULL: no TLS';
COMMENT ON COLUMN http.tls_error IS 'Why the certificate was not accepted; NULL: it was, or no TLS';
COMMENT ON COLUMN http.http_status IS 'HTTP status of the answer; NULL: none was asked for, or none came';
COMMENT ON COLUMN http.upload_ns IS 'Request handed to the kernel, ns; NULL: did not happen';
COMMENT ON COLUMN http.ttfb_ns IS 'First byte of the answer, ns from the start of the upload; NULL: none came';
COMMENT ON COLUMN http.e2e_ns IS 'Last byte that was read, ns from the start of the upload; NULL: it did not end';
COMMENT ON COLUMN http.request_bytes IS 'Bytes of the request before encryption; NULL: none was sent';
COMMENT ON COLUMN http.response_bytes IS 'Bytes of the answer that were read, after decryption; NULL: none came';
COMMENT ON COLUMN http.is_cut_off IS 'Reading stopped at the limit of bytes; NULL: no answer';
COMMENT ON COLUMN http.total_ns IS 'From the first thing done to the last, ns; NULL: not known';
COMMENT ON COLUMN http.batch_boot IS 'Boot of the batch it came in; never NULL';
COMMENT ON COLUMN http.batch_sequence IS 'Sequence of the batch it came in; never NULL';
COMMENT ON COLUMN http.received_at IS 'When the collector took it, UTC; never NULL';
COMMENT ON COLUMN http.is_duplicate_id IS 'The same measurement was stored before under another batch; never NULL';
