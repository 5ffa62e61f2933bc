-- The tables: raw facts as they came, one grain each. Nothing is changed after it is stored and nothing is dropped:
-- what is wrong with a row is said by the *_marked views, what could not be read at all is in `reject`.
-- Integers of ns, bits and bytes; times are UTC and end in _at; unknown is NULL, never 0.

CREATE TABLE site (
    id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    lat DOUBLE NOT NULL,
    lon DOUBLE NOT NULL,
    country VARCHAR,
    provider VARCHAR,
    metro VARCHAR,
    updated_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE site IS 'Places that measurements and imports name: one row per site id, the newest description wins';
COMMENT ON COLUMN site.id IS 'Slug: sin for a PoP, aws:us-east-1 for a cloud region; never NULL';
COMMENT ON COLUMN site.kind IS 'pop, region or metro; never NULL';
COMMENT ON COLUMN site.name IS 'Name a person reads; never NULL';
COMMENT ON COLUMN site.lat IS 'Latitude in degrees, WGS 84, city accurate; never NULL';
COMMENT ON COLUMN site.lon IS 'Longitude in degrees, WGS 84, city accurate; never NULL';
COMMENT ON COLUMN site.country IS 'ISO 3166-1 alpha-2, upper case; NULL: not known';
COMMENT ON COLUMN site.provider IS 'Cloud provider of a region, such as aws; NULL: a PoP or a metro';
COMMENT ON COLUMN site.metro IS 'City the site is in; NULL: not known';
COMMENT ON COLUMN site.updated_at IS 'When this description was stored, UTC; never NULL';

CREATE TABLE batch (
    agent VARCHAR NOT NULL,
    boot VARCHAR NOT NULL,
    sequence BIGINT NOT NULL,
    content_sha256 VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    line_count BIGINT NOT NULL,
    stored_count BIGINT NOT NULL,
    rejected_count BIGINT NOT NULL
);
COMMENT ON TABLE batch IS 'What was stored exactly once: one row per batch of an agent, or per imported file; committed together with its rows';
COMMENT ON COLUMN batch.agent IS 'Agent that sent it; import:FORMAT for an imported file; never NULL';
COMMENT ON COLUMN batch.boot IS 'Boot id of the agent''s process (hex); the content hash of an imported file; never NULL';
COMMENT ON COLUMN batch.sequence IS 'Number of the batch within the boot, from 0; never NULL';
COMMENT ON COLUMN batch.content_sha256 IS 'SHA-256 of the content, hex: a repeat must be the same; never NULL';
COMMENT ON COLUMN batch.source IS 'collector, or the path of the imported file; never NULL';
COMMENT ON COLUMN batch.received_at IS 'When the collector or importer took it, UTC; never NULL';
COMMENT ON COLUMN batch.line_count IS 'Lines of measurements or data it held; never NULL';
COMMENT ON COLUMN batch.stored_count IS 'Lines stored; never NULL';
COMMENT ON COLUMN batch.rejected_count IS 'Lines kept in reject instead; never NULL';

CREATE TABLE reject (
    source VARCHAR NOT NULL,
    agent VARCHAR,
    boot VARCHAR,
    batch_sequence BIGINT,
    line_number BIGINT,
    reason VARCHAR NOT NULL,
    detail VARCHAR NOT NULL,
    line VARCHAR,
    content_sha256 VARCHAR NOT NULL,
    received_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE reject IS 'What could not be stored, with the reason: one row per line, or per batch or file that could not be read at all';
COMMENT ON COLUMN reject.source IS 'collector, or the path of the imported file; never NULL';
COMMENT ON COLUMN reject.agent IS 'Agent that sent it; NULL: the batch did not say';
COMMENT ON COLUMN reject.boot IS 'Boot id of the batch; NULL: the batch did not say';
COMMENT ON COLUMN reject.batch_sequence IS 'Sequence of the batch within the boot; NULL: the batch did not say';
COMMENT ON COLUMN reject.line_number IS 'Line in the batch or file, from 1; NULL: the whole of it';
COMMENT ON COLUMN reject.reason IS 'Reason as a word to count by, such as bad_number or unknown_site; never NULL';
COMMENT ON COLUMN reject.detail IS 'Reason as a sentence: what, value, what is allowed; never NULL';
COMMENT ON COLUMN reject.line IS 'The line as it came, cut at 4,000 characters, unprintable bytes replaced; NULL: the whole batch or file';
COMMENT ON COLUMN reject.content_sha256 IS 'SHA-256 of the batch or file it was in, hex; never NULL';
COMMENT ON COLUMN reject.received_at IS 'When it came, UTC; never NULL';

CREATE TABLE ping_sample (
    measurement_id VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    boot VARCHAR NOT NULL,
    src VARCHAR NOT NULL,
    dst VARCHAR NOT NULL,
    medium VARCHAR NOT NULL,
    target VARCHAR NOT NULL,
    engine VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    sequence BIGINT NOT NULL,
    is_round_start BOOLEAN NOT NULL,
    sent_at TIMESTAMPTZ NOT NULL,
    outcome VARCHAR NOT NULL,
    rtt_ns BIGINT,
    ts_source VARCHAR,
    sched_lag_ns BIGINT,
    reply_ttl BIGINT,
    duplicates BIGINT NOT NULL,
    late BOOLEAN NOT NULL,
    icmp_type BIGINT,
    icmp_code BIGINT,
    responder VARCHAR,
    error VARCHAR,
    timeout_ns BIGINT NOT NULL,
    payload_bytes BIGINT,
    batch_boot VARCHAR NOT NULL,
    batch_sequence BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    is_duplicate_id BOOLEAN NOT NULL
);
-- By the day of arrival, not of sending: a batch then lands in one file whatever times it claims, and every file
-- keeps the least and greatest sent_at, by which a window is read from few files.
ALTER TABLE ping_sample SET PARTITIONED BY (year(received_at), month(received_at), day(received_at));
ALTER TABLE ping_sample SET SORTED BY (src, dst, medium, sent_at);
COMMENT ON TABLE ping_sample IS 'Probe packets: one row per packet sent (or tried) by a ping round';
COMMENT ON COLUMN ping_sample.measurement_id IS 'The round: <boot>-<n>, unique for ever; never NULL';
COMMENT ON COLUMN ping_sample.agent IS 'Agent that measured; never NULL';
COMMENT ON COLUMN ping_sample.boot IS 'Boot id of the agent''s process that measured (the first part of measurement_id); never NULL';
COMMENT ON COLUMN ping_sample.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN ping_sample.dst IS 'Site id of the target; never NULL';
COMMENT ON COLUMN ping_sample.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN ping_sample.target IS 'Address measured; never NULL';
COMMENT ON COLUMN ping_sample.engine IS 'Name and version of what measured, such as isochrone-icmp/1; never NULL';
COMMENT ON COLUMN ping_sample.method IS 'icmp, tcp (connect) or udp (echo); never NULL';
COMMENT ON COLUMN ping_sample.started_at IS 'When the round began, UTC; never NULL';
COMMENT ON COLUMN ping_sample.sequence IS 'Number of the packet in its round, from 0; never NULL';
COMMENT ON COLUMN ping_sample.is_round_start IS 'True for exactly one packet of a round: count these to count rounds; never NULL';
COMMENT ON COLUMN ping_sample.sent_at IS 'When the packet was sent, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN ping_sample.outcome IS 'reply, timeout, unreachable (an ICMP error came) or send_failed (never left; no loss); never NULL';
COMMENT ON COLUMN ping_sample.rtt_ns IS 'Round-trip time in ns (RFC 2681); NULL: no reply';
COMMENT ON COLUMN ping_sample.ts_source IS 'How rtt_ns was timed: kernel_txrx, kernel_rx, user or tcp_info; NULL: no reply';
COMMENT ON COLUMN ping_sample.sched_lag_ns IS 'How much later than planned the packet was handed to the kernel, ns; NULL: not known';
COMMENT ON COLUMN ping_sample.reply_ttl IS 'TTL or hop limit of the reply; NULL: not known or no reply';
COMMENT ON COLUMN ping_sample.duplicates IS 'Further copies of the reply; never NULL';
COMMENT ON COLUMN ping_sample.late IS 'A reply came after the time-out (it still counts as lost); never NULL';
COMMENT ON COLUMN ping_sample.icmp_type IS 'Type of the ICMP error; NULL: none came';
COMMENT ON COLUMN ping_sample.icmp_code IS 'Code of the ICMP error; NULL: none came';
COMMENT ON COLUMN ping_sample.responder IS 'Address the ICMP error came from; NULL: none came';
COMMENT ON COLUMN ping_sample.error IS 'errno name of a failed send, such as ENETUNREACH; NULL: it left';
COMMENT ON COLUMN ping_sample.timeout_ns IS 'A reply later than this counts as lost, ns; never NULL';
COMMENT ON COLUMN ping_sample.payload_bytes IS 'Octets after the ICMP or UDP header; NULL: tcp';
COMMENT ON COLUMN ping_sample.batch_boot IS 'Boot of the batch it came in; never NULL';
COMMENT ON COLUMN ping_sample.batch_sequence IS 'Sequence of the batch it came in; never NULL';
COMMENT ON COLUMN ping_sample.received_at IS 'When the collector took it, UTC; never NULL';
COMMENT ON COLUMN ping_sample.is_duplicate_id IS 'The same packet of the same measurement was stored before under another batch; never NULL';

CREATE TABLE traceroute (
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
    flow BIGINT NOT NULL,
    reached BOOLEAN NOT NULL,
    path_hash VARCHAR NOT NULL,
    hops STRUCT(
        ttl BIGINT, address VARCHAR, rtt_ns BIGINT, probes BIGINT, replies BIGINT, ts_source VARCHAR,
        icmp_type BIGINT, icmp_code BIGINT, reply_ttl BIGINT,
        mpls STRUCT(label BIGINT, traffic_class BIGINT, bottom BOOLEAN, ttl BIGINT)[]
    )[] NOT NULL,
    batch_boot VARCHAR NOT NULL,
    batch_sequence BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    is_duplicate_id BOOLEAN NOT NULL
);
COMMENT ON TABLE traceroute IS 'Paths: one row per flow traced once, hops nested; the view hops has one row per hop';
COMMENT ON COLUMN traceroute.measurement_id IS 'The measurement: <boot>-<n>, unique for ever; never NULL';
COMMENT ON COLUMN traceroute.agent IS 'Agent that measured; never NULL';
COMMENT ON COLUMN traceroute.boot IS 'Boot id of the agent''s process that measured; never NULL';
COMMENT ON COLUMN traceroute.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN traceroute.dst IS 'Site id of the target; never NULL';
COMMENT ON COLUMN traceroute.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN traceroute.target IS 'Address traced; never NULL';
COMMENT ON COLUMN traceroute.engine IS 'Name and version of what measured; never NULL';
COMMENT ON COLUMN traceroute.protocol IS 'icmp, udp or tcp; never NULL';
COMMENT ON COLUMN traceroute.started_at IS 'When it began, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN traceroute.flow IS 'Flow among those of the target, from 0: packets of one flow take one path; never NULL';
COMMENT ON COLUMN traceroute.reached IS 'The target itself answered; never NULL';
COMMENT ON COLUMN traceroute.path_hash IS 'Hash of the hop addresses in order, silent hops included: equal hashes, equal paths; never NULL';
COMMENT ON COLUMN traceroute.hops IS 'Hops by TTL from 1; address and rtt_ns (ns) are NULL for a silent hop; probes - replies is the router''s reluctance, never path loss; mpls is the quoted label stack (RFC 4950), outermost first; never NULL';
COMMENT ON COLUMN traceroute.batch_boot IS 'Boot of the batch it came in; never NULL';
COMMENT ON COLUMN traceroute.batch_sequence IS 'Sequence of the batch it came in; never NULL';
COMMENT ON COLUMN traceroute.received_at IS 'When the collector took it, UTC; never NULL';
COMMENT ON COLUMN traceroute.is_duplicate_id IS 'The same measurement was stored before under another batch; never NULL';

CREATE TABLE throughput (
    measurement_id VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    boot VARCHAR NOT NULL,
    src VARCHAR NOT NULL,
    dst VARCHAR NOT NULL,
    medium VARCHAR NOT NULL,
    target VARCHAR NOT NULL,
    engine VARCHAR NOT NULL,
    tool VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    direction VARCHAR NOT NULL,
    transferred_bytes BIGINT NOT NULL,
    duration_ns BIGINT NOT NULL,
    throughput_bps BIGINT,
    stop_reason VARCHAR NOT NULL,
    retransmits BIGINT,
    tcp_rtt_ns BIGINT,
    tcp_min_rtt_ns BIGINT,
    congestion_control VARCHAR,
    error VARCHAR,
    batch_boot VARCHAR NOT NULL,
    batch_sequence BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    is_duplicate_id BOOLEAN NOT NULL
);
COMMENT ON TABLE throughput IS 'Bulk TCP transfers: one row per test';
COMMENT ON COLUMN throughput.measurement_id IS 'The measurement: <boot>-<n>, unique for ever; never NULL';
COMMENT ON COLUMN throughput.agent IS 'Agent that measured; never NULL';
COMMENT ON COLUMN throughput.boot IS 'Boot id of the agent''s process that measured; never NULL';
COMMENT ON COLUMN throughput.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN throughput.dst IS 'Site id of the target; never NULL';
COMMENT ON COLUMN throughput.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN throughput.target IS 'Address measured; never NULL';
COMMENT ON COLUMN throughput.engine IS 'Name and version of what measured; never NULL';
COMMENT ON COLUMN throughput.tool IS 'iperf3 or builtin; never NULL';
COMMENT ON COLUMN throughput.started_at IS 'When it began, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN throughput.direction IS 'up: from src to dst; down: from dst to src; never NULL';
COMMENT ON COLUMN throughput.transferred_bytes IS 'Payload acknowledged (up) or received (down), bytes; never NULL';
COMMENT ON COLUMN throughput.duration_ns IS 'Over which time, ns; never NULL';
COMMENT ON COLUMN throughput.throughput_bps IS 'Achieved payload bits per second, decimal; NULL: the test failed';
COMMENT ON COLUMN throughput.stop_reason IS 'time, bytes (the byte budget) or error; never NULL';
COMMENT ON COLUMN throughput.retransmits IS 'Segments sent again; NULL: the sender''s counters are not ours to read';
COMMENT ON COLUMN throughput.tcp_rtt_ns IS 'Smoothed RTT of the connection at its end (TCP_INFO), ns: the latency under load; NULL: not known';
COMMENT ON COLUMN throughput.tcp_min_rtt_ns IS 'Least RTT of the connection (TCP_INFO), ns; NULL: not known';
COMMENT ON COLUMN throughput.congestion_control IS 'Such as bbr or cubic; NULL: not known';
COMMENT ON COLUMN throughput.error IS 'What failed, in one sentence; NULL: nothing did';
COMMENT ON COLUMN throughput.batch_boot IS 'Boot of the batch it came in; never NULL';
COMMENT ON COLUMN throughput.batch_sequence IS 'Sequence of the batch it came in; never NULL';
COMMENT ON COLUMN throughput.received_at IS 'When the collector took it, UTC; never NULL';
COMMENT ON COLUMN throughput.is_duplicate_id IS 'The same measurement was stored before under another batch; never NULL';

CREATE TABLE inference (
    measurement_id VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    boot VARCHAR NOT NULL,
    src VARCHAR NOT NULL,
    dst VARCHAR NOT NULL,
    medium VARCHAR NOT NULL,
    target VARCHAR NOT NULL,
    engine VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    outcome VARCHAR NOT NULL,
    connection VARCHAR NOT NULL,
    http_status BIGINT,
    address VARCHAR,
    dns_ns BIGINT,
    tcp_ns BIGINT,
    tls_ns BIGINT,
    upload_ns BIGINT,
    ttfb_ns BIGINT,
    ttft_ns BIGINT,
    e2e_ns BIGINT,
    prompt_tokens BIGINT,
    output_tokens BIGINT,
    token_gaps_ns BIGINT[] NOT NULL,
    is_streamed BOOLEAN,
    request_bytes BIGINT,
    response_bytes BIGINT,
    tcp_rtt_ns BIGINT,
    tcp_min_rtt_ns BIGINT,
    error VARCHAR,
    batch_boot VARCHAR NOT NULL,
    batch_sequence BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    is_duplicate_id BOOLEAN NOT NULL
);
COMMENT ON TABLE inference IS 'Streaming requests to OpenAI-compatible endpoints: one row per request, split by phase';
COMMENT ON COLUMN inference.measurement_id IS 'The measurement: <boot>-<n>, unique for ever; never NULL';
COMMENT ON COLUMN inference.agent IS 'Agent that measured; never NULL';
COMMENT ON COLUMN inference.boot IS 'Boot id of the agent''s process that measured; never NULL';
COMMENT ON COLUMN inference.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN inference.dst IS 'Site id of the serving pool; never NULL';
COMMENT ON COLUMN inference.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN inference.target IS 'URL asked, without credentials; never NULL';
COMMENT ON COLUMN inference.engine IS 'Name and version of what measured; never NULL';
COMMENT ON COLUMN inference.model IS 'Model asked for; never NULL';
COMMENT ON COLUMN inference.started_at IS 'When it began, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN inference.outcome IS 'ok, http_error, timeout, connect_failed or protocol_error; never NULL';
COMMENT ON COLUMN inference.connection IS 'cold (this request opened it) or warm; never NULL';
COMMENT ON COLUMN inference.http_status IS 'HTTP status of the answer; NULL: none came';
COMMENT ON COLUMN inference.address IS 'IP address of the endpoint; NULL: not known';
COMMENT ON COLUMN inference.dns_ns IS 'Name look-up, ns; NULL: did not happen';
COMMENT ON COLUMN inference.tcp_ns IS 'TCP hand-shake, ns; NULL: did not happen';
COMMENT ON COLUMN inference.tls_ns IS 'TLS hand-shake, ns; NULL: did not happen';
COMMENT ON COLUMN inference.upload_ns IS 'Request handed to the kernel, ns; NULL: did not happen';
COMMENT ON COLUMN inference.ttfb_ns IS 'First byte of the body, ns from the start of the upload; NULL: none came';
COMMENT ON COLUMN inference.ttft_ns IS 'First non-empty token, ns from the start of the upload; NULL: none came';
COMMENT ON COLUMN inference.e2e_ns IS 'Last byte, ns from the start of the upload; NULL: it did not end';
COMMENT ON COLUMN inference.prompt_tokens IS 'Tokens of the prompt as the server reports them; NULL: it does not';
COMMENT ON COLUMN inference.output_tokens IS 'Non-empty chunks received; NULL: not known';
COMMENT ON COLUMN inference.token_gaps_ns IS 'Time between neighbouring tokens, ns; empty: fewer than two tokens; never NULL';
COMMENT ON COLUMN inference.is_streamed IS 'Tokens arrived apart; NULL: not known';
COMMENT ON COLUMN inference.request_bytes IS 'Bytes sent; NULL: not known';
COMMENT ON COLUMN inference.response_bytes IS 'Bytes received; NULL: not known';
COMMENT ON COLUMN inference.tcp_rtt_ns IS 'Smoothed RTT of the same connection (TCP_INFO), ns; NULL: not known';
COMMENT ON COLUMN inference.tcp_min_rtt_ns IS 'Least RTT of the same connection (TCP_INFO), ns; NULL: not known';
COMMENT ON COLUMN inference.error IS 'What failed, in one sentence; NULL: nothing did';
COMMENT ON COLUMN inference.batch_boot IS 'Boot of the batch it came in; never NULL';
COMMENT ON COLUMN inference.batch_sequence IS 'Sequence of the batch it came in; never NULL';
COMMENT ON COLUMN inference.received_at IS 'When the collector took it, UTC; never NULL';
COMMENT ON COLUMN inference.is_duplicate_id IS 'The same measurement was stored before under another batch; never NULL';

CREATE TABLE agent_status (
    agent VARCHAR NOT NULL,
    site VARCHAR NOT NULL,
    boot VARCHAR NOT NULL,
    reported_at TIMESTAMPTZ NOT NULL,
    version VARCHAR NOT NULL,
    uptime_ns BIGINT NOT NULL,
    produced MAP(VARCHAR, BIGINT) NOT NULL,
    skipped_rounds BIGINT NOT NULL,
    spool_bytes BIGINT NOT NULL,
    dropped_measurements BIGINT NOT NULL,
    loop_lag_p99_ns BIGINT,
    clock_error_ns BIGINT,
    grade VARCHAR NOT NULL,
    reasons VARCHAR[] NOT NULL,
    batch_boot VARCHAR NOT NULL,
    batch_sequence BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE agent_status IS 'What agents say of themselves: one row per report, every few seconds';
COMMENT ON COLUMN agent_status.agent IS 'Agent; never NULL';
COMMENT ON COLUMN agent_status.site IS 'Site it measures from; never NULL';
COMMENT ON COLUMN agent_status.boot IS 'Boot id of its process; never NULL';
COMMENT ON COLUMN agent_status.reported_at IS 'When it reported, UTC by its clock; never NULL';
COMMENT ON COLUMN agent_status.version IS 'Version of its software; never NULL';
COMMENT ON COLUMN agent_status.uptime_ns IS 'Since its process started, ns; never NULL';
COMMENT ON COLUMN agent_status.produced IS 'Measurements made since boot by probe type: what must in the end be here; never NULL';
COMMENT ON COLUMN agent_status.skipped_rounds IS 'Rounds due while its loop was late: skipped, never caught up; never NULL';
COMMENT ON COLUMN agent_status.spool_bytes IS 'Waiting on its disk, bytes; never NULL';
COMMENT ON COLUMN agent_status.dropped_measurements IS 'Lost to the bound of its spool; never NULL';
COMMENT ON COLUMN agent_status.loop_lag_p99_ns IS 'How late its loop ran since the last report, ns; NULL: not known';
COMMENT ON COLUMN agent_status.clock_error_ns IS 'The kernel''s estimate of the wall clock''s error, ns; NULL: the clock is not synchronised';
COMMENT ON COLUMN agent_status.grade IS 'ok or degraded, over the time since the report before; never NULL';
COMMENT ON COLUMN agent_status.reasons IS 'Why it is degraded; empty when it is not; never NULL';
COMMENT ON COLUMN agent_status.batch_boot IS 'Boot of the batch it came in; never NULL';
COMMENT ON COLUMN agent_status.batch_sequence IS 'Sequence of the batch it came in; never NULL';
COMMENT ON COLUMN agent_status.received_at IS 'When the collector took it, UTC; never NULL';

CREATE TABLE rtt_matrix (
    src VARCHAR NOT NULL,
    dst VARCHAR NOT NULL,
    medium VARCHAR NOT NULL,
    rtt_ns BIGINT,
    min_ns BIGINT,
    p50_ns BIGINT,
    p95_ns BIGINT,
    stddev_ns BIGINT,
    loss_ratio DOUBLE,
    measured_at TIMESTAMPTZ,
    source VARCHAR NOT NULL,
    line_number BIGINT NOT NULL,
    content_sha256 VARCHAR NOT NULL,
    received_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE rtt_matrix IS 'Imported RTTs between sites: one row per line of a CSV';
COMMENT ON COLUMN rtt_matrix.src IS 'Site id; never NULL';
COMMENT ON COLUMN rtt_matrix.dst IS 'Site id; never NULL';
COMMENT ON COLUMN rtt_matrix.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN rtt_matrix.rtt_ns IS 'Typical RTT as the source gives it (mean or median), ns; NULL: not given';
COMMENT ON COLUMN rtt_matrix.min_ns IS 'Least RTT, ns; NULL: not given';
COMMENT ON COLUMN rtt_matrix.p50_ns IS 'Median RTT, ns; NULL: not given';
COMMENT ON COLUMN rtt_matrix.p95_ns IS '95th percentile of the RTT, ns; NULL: not given';
COMMENT ON COLUMN rtt_matrix.stddev_ns IS 'Standard deviation of the RTT, ns; NULL: not given';
COMMENT ON COLUMN rtt_matrix.loss_ratio IS 'Lost / sent, 0 to 1; NULL: not given';
COMMENT ON COLUMN rtt_matrix.measured_at IS 'When it was measured, UTC; NULL: the source is not dated';
COMMENT ON COLUMN rtt_matrix.source IS 'Path of the file as given; never NULL';
COMMENT ON COLUMN rtt_matrix.line_number IS 'Line in the file, from 1; never NULL';
COMMENT ON COLUMN rtt_matrix.content_sha256 IS 'The import it belongs to (see batch); never NULL';
COMMENT ON COLUMN rtt_matrix.received_at IS 'When it was imported, UTC; never NULL';

CREATE TABLE view_column (
    view_name VARCHAR NOT NULL,
    column_name VARCHAR NOT NULL,
    comment VARCHAR NOT NULL
);
COMMENT ON TABLE view_column IS 'Comments of the columns of views (DuckLake keeps them for tables only); read them through data_dictionary';
COMMENT ON COLUMN view_column.view_name IS 'The view; never NULL';
COMMENT ON COLUMN view_column.column_name IS 'Its column; never NULL';
COMMENT ON COLUMN view_column.comment IS 'Meaning, unit and what NULL says; never NULL';
