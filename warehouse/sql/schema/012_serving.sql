-- What an inference measurement tells beyond its first schema, and the readings of servers' own metrics.
ALTER TABLE inference ADD COLUMN http_version VARCHAR;
ALTER TABLE inference ADD COLUMN tls_version VARCHAR;
ALTER TABLE inference ADD COLUMN head_ns BIGINT;
ALTER TABLE inference ADD COLUMN first_content_ns BIGINT;
ALTER TABLE inference ADD COLUMN first_reasoning_ns BIGINT;
ALTER TABLE inference ADD COLUMN first_tool_call_ns BIGINT;
ALTER TABLE inference ADD COLUMN completion_tokens BIGINT;
ALTER TABLE inference ADD COLUMN finish_reason VARCHAR;
ALTER TABLE inference ADD COLUMN retry_after_ns BIGINT;
ALTER TABLE inference ADD COLUMN ts_source VARCHAR;
ALTER TABLE inference ADD COLUMN late_ns BIGINT;
ALTER TABLE inference ADD COLUMN response_segments BIGINT;
ALTER TABLE inference ADD COLUMN tcp_retransmits BIGINT;
COMMENT ON COLUMN inference.http_version IS 'HTTP version spoken: 1.1 or 2; NULL: no connection, or measured before it was kept';
COMMENT ON COLUMN inference.tls_version IS 'Such as TLSv1.3; NULL: no TLS, or measured before it was kept';
COMMENT ON COLUMN inference.head_ns IS 'First byte of the answer, its head, ns from the start of the upload; NULL: none came';
COMMENT ON COLUMN inference.first_content_ns IS 'First token of content, ns from the start of the upload; NULL: none came';
COMMENT ON COLUMN inference.first_reasoning_ns IS 'First token of reasoning, ns from the start of the upload; NULL: none came';
COMMENT ON COLUMN inference.first_tool_call_ns IS 'First token of a tool call, ns from the start of the upload; NULL: none came';
COMMENT ON COLUMN inference.completion_tokens IS 'Tokens of the answer as the server reports them; NULL: it does not';
COMMENT ON COLUMN inference.finish_reason IS 'Why the model stopped, in the server''s word, such as stop or length; NULL: it did not say';
COMMENT ON COLUMN inference.retry_after_ns IS 'How long the server asked to wait before the next request, ns; NULL: it did not ask';
COMMENT ON COLUMN inference.ts_source IS 'How arrivals were timed: kernel_rx (the kernel''s stamps) or user (the agent''s clock); NULL: nothing arrived';
COMMENT ON COLUMN inference.late_ns IS 'The most that the agent read an arrival later than the kernel had it, ns; NULL: no kernel stamps';
COMMENT ON COLUMN inference.response_segments IS 'TCP segments with data that the answer came in; NULL: not known';
COMMENT ON COLUMN inference.tcp_retransmits IS 'Segments the agent sent again on the connection; NULL: not known';
COMMENT ON COLUMN inference.is_streamed IS 'Tokens were sent apart (true) or held back and sent together (false); NULL: what arrived proves neither';

CREATE TABLE serving (
    measurement_id VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    boot VARCHAR NOT NULL,
    src VARCHAR NOT NULL,
    dst VARCHAR NOT NULL,
    medium VARCHAR NOT NULL,
    target VARCHAR NOT NULL,
    engine VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    outcome VARCHAR NOT NULL,
    server VARCHAR,
    model VARCHAR,
    http_status BIGINT,
    took_ns BIGINT,
    requests_running BIGINT,
    requests_waiting BIGINT,
    kv_cache_ratio DOUBLE,
    queue_sum_ns BIGINT,
    queue_count BIGINT,
    prefill_sum_ns BIGINT,
    prefill_count BIGINT,
    ttft_sum_ns BIGINT,
    ttft_count BIGINT,
    prompt_tokens_total BIGINT,
    output_tokens_total BIGINT,
    server_started_at TIMESTAMPTZ,
    response_bytes BIGINT,
    tcp_rtt_ns BIGINT,
    error VARCHAR,
    batch_boot VARCHAR NOT NULL,
    batch_sequence BIGINT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    is_duplicate_id BOOLEAN NOT NULL
);
COMMENT ON TABLE serving IS 'What inference servers say of themselves: one row per reading of their metrics, failed ones too';
COMMENT ON COLUMN serving.measurement_id IS 'The measurement: <boot>-<n>, unique for ever; never NULL';
COMMENT ON COLUMN serving.agent IS 'Agent that measured; never NULL';
COMMENT ON COLUMN serving.boot IS 'Boot id of the agent''s process that measured; never NULL';
COMMENT ON COLUMN serving.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN serving.dst IS 'Site id of the target; never NULL';
COMMENT ON COLUMN serving.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN serving.target IS 'URL read, without credentials; never NULL';
COMMENT ON COLUMN serving.engine IS 'Name and version of what measured; never NULL';
COMMENT ON COLUMN serving.started_at IS 'When it began, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN serving.outcome IS 'ok, no_metrics, http_error, timeout, connect_failed or protocol_error; never NULL';
COMMENT ON COLUMN serving.server IS 'Whose metrics they are: vllm, sglang, triton, trtllm or llamacpp; NULL: the reading failed';
COMMENT ON COLUMN serving.model IS 'Model served; NULL: the metrics name none, or several';
COMMENT ON COLUMN serving.http_status IS 'HTTP status of the answer; NULL: none came';
COMMENT ON COLUMN serving.took_ns IS 'From the start of the connection to the last byte, ns; NULL: it did not end';
COMMENT ON COLUMN serving.requests_running IS 'Requests being served; NULL: not published';
COMMENT ON COLUMN serving.requests_waiting IS 'Requests in the queue; NULL: not published';
COMMENT ON COLUMN serving.kv_cache_ratio IS 'KV cache in use, 0 to 1, of the fullest engine; NULL: not published';
COMMENT ON COLUMN serving.queue_sum_ns IS 'Time that requests waited in the queue since the server began, ns; NULL: not published';
COMMENT ON COLUMN serving.queue_count IS 'Of how many requests that is; NULL: not published';
COMMENT ON COLUMN serving.prefill_sum_ns IS 'Time from the queue to the first token since the server began, ns; NULL: not published';
COMMENT ON COLUMN serving.prefill_count IS 'Of how many requests that is; NULL: not published';
COMMENT ON COLUMN serving.ttft_sum_ns IS 'Time to first token as the server sees it, since it began, ns; NULL: not published';
COMMENT ON COLUMN serving.ttft_count IS 'Of how many requests that is; NULL: not published';
COMMENT ON COLUMN serving.prompt_tokens_total IS 'Tokens of prompts read since the server began; NULL: not published';
COMMENT ON COLUMN serving.output_tokens_total IS 'Tokens written since the server began; NULL: not published';
COMMENT ON COLUMN serving.server_started_at IS 'When the server''s process began, UTC by its clock; NULL: not published';
COMMENT ON COLUMN serving.response_bytes IS 'Bytes of the answer; NULL: none came';
COMMENT ON COLUMN serving.tcp_rtt_ns IS 'RTT of the connection by the kernel (TCP_INFO), ns; NULL: no sample';
COMMENT ON COLUMN serving.error IS 'What failed, in one sentence; NULL: nothing did';
COMMENT ON COLUMN serving.batch_boot IS 'Boot of the batch it came in; never NULL';
COMMENT ON COLUMN serving.batch_sequence IS 'Sequence of the batch it came in; never NULL';
COMMENT ON COLUMN serving.received_at IS 'When the collector took it, UTC; never NULL';
COMMENT ON COLUMN serving.is_duplicate_id IS 'The same measurement was stored before under another batch; never NULL';
