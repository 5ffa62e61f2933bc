-- Roll-ups by day, for windows of many days, and of inference requests; and an order of roll-ups in their files by which a question about
-- an hour reads that hour's rows. Files written before stay as they are, until they are merged.

-- The day a time is in, UTC.
CREATE MACRO day_of(moment) AS make_timestamptz(epoch_us(moment) // 86_400_000_000 * 86_400_000_000);

CREATE TABLE rollup_day (
    src VARCHAR NOT NULL,
    dst VARCHAR NOT NULL,
    medium VARCHAR NOT NULL,
    probe_type VARCHAR NOT NULL,
    is_degraded_agent BOOLEAN NOT NULL,
    bucket_at TIMESTAMPTZ NOT NULL,
    sent_count BIGINT NOT NULL,
    lost_count BIGINT,
    reply_count BIGINT NOT NULL,
    min_ns BIGINT,
    max_ns BIGINT,
    sum_ns BIGINT,
    newest_at TIMESTAMPTZ NOT NULL,
    buckets STRUCT(bucket INTEGER, n BIGINT)[] NOT NULL
);
ALTER TABLE rollup_day SET PARTITIONED BY (year(bucket_at));
ALTER TABLE rollup_day SET SORTED BY (bucket_at, src, dst, medium, probe_type);
COMMENT ON TABLE rollup_day IS 'What was measured by day: one row per src, dst, medium, probe type, grade and day';
COMMENT ON COLUMN rollup_day.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN rollup_day.dst IS 'Site id of the target; never NULL';
COMMENT ON COLUMN rollup_day.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN rollup_day.probe_type IS 'What min_ns and the rest are of: ping (RTT of a probe packet), http (RTT of a TCP hand-shake) or inference (TTFT); never NULL';
COMMENT ON COLUMN rollup_day.is_degraded_agent IS 'The agent failed its own checks at that time, as known at the newest pass; never NULL';
COMMENT ON COLUMN rollup_day.bucket_at IS 'Start of the day, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN rollup_day.sent_count IS 'Probe packets that left; connections or requests tried; never NULL';
COMMENT ON COLUMN rollup_day.lost_count IS 'Probe packets without a reply; NULL: a probe type that knows no packet loss';
COMMENT ON COLUMN rollup_day.reply_count IS 'How many of them have a time; never NULL';
COMMENT ON COLUMN rollup_day.min_ns IS 'Least time, ns; NULL: none has one';
COMMENT ON COLUMN rollup_day.max_ns IS 'Greatest time, ns; NULL: none has one';
COMMENT ON COLUMN rollup_day.sum_ns IS 'Sum of the times, ns: with reply_count the mean; NULL: none has one';
COMMENT ON COLUMN rollup_day.newest_at IS 'When the newest of them was sent, UTC; never NULL';
COMMENT ON COLUMN rollup_day.buckets IS 'Times by log bucket (see the macro rtt_bucket), by bucket, empty ones left out; adding the counts of rows merges them, and any quantile is then within 1 %; never NULL';

-- A day's or hour's rows lie together, and within them those of a pair.
ALTER TABLE rollup_minute SET SORTED BY (epoch_us(bucket_at) // 3_600_000_000, src, dst, medium, probe_type, bucket_at);
ALTER TABLE rollup_hour SET SORTED BY (epoch_us(bucket_at) // 86_400_000_000, src, dst, medium, probe_type, bucket_at);

CREATE TABLE rollup_touched_day (day_at TIMESTAMPTZ NOT NULL);
COMMENT ON TABLE rollup_touched_day IS 'Days whose hours have changed since rollup_day and rollup_inference_day were made of them: one row each';
COMMENT ON COLUMN rollup_touched_day.day_at IS 'Start of the day, UTC; never NULL';

CREATE TABLE rollup_inference (
    src VARCHAR NOT NULL,
    dst VARCHAR NOT NULL,
    medium VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    connection VARCHAR NOT NULL,
    bucket_at TIMESTAMPTZ NOT NULL,
    request_count BIGINT NOT NULL,
    error_count BIGINT NOT NULL,
    unstreamed_count BIGINT NOT NULL,
    output_tokens BIGINT,
    newest_at TIMESTAMPTZ NOT NULL,
    buckets STRUCT(quantity VARCHAR, bucket INTEGER, n BIGINT)[] NOT NULL
);
ALTER TABLE rollup_inference SET PARTITIONED BY (year(bucket_at), month(bucket_at));
ALTER TABLE rollup_inference SET SORTED BY (bucket_at, src, dst, medium, model, connection);
COMMENT ON TABLE rollup_inference IS 'Inference requests that count, by hour: one row per src, dst, medium, model, kind of connection and hour';
COMMENT ON COLUMN rollup_inference.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN rollup_inference.dst IS 'Site id of the serving site; never NULL';
COMMENT ON COLUMN rollup_inference.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN rollup_inference.model IS 'Model asked for; never NULL';
COMMENT ON COLUMN rollup_inference.connection IS 'cold or warm, as in inference; never NULL';
COMMENT ON COLUMN rollup_inference.bucket_at IS 'Start of the hour, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN rollup_inference.request_count IS 'Requests, failed ones too; never NULL';
COMMENT ON COLUMN rollup_inference.error_count IS 'Requests that failed; never NULL';
COMMENT ON COLUMN rollup_inference.unstreamed_count IS 'Requests whose tokens were held back and sent together; never NULL';
COMMENT ON COLUMN rollup_inference.output_tokens IS 'Tokens of the answers; NULL: no request told';
COMMENT ON COLUMN rollup_inference.newest_at IS 'When the newest request began, UTC; never NULL';
COMMENT ON COLUMN rollup_inference.buckets IS 'Times by quantity and log bucket (see the macro rtt_bucket): ttft, setup, network, machine, tpot, longest_gap of requests that were answered, tcp_rtt of all; adding the counts of rows merges them, and any quantile is then within 1 %; never NULL';

CREATE TABLE rollup_inference_day (
    src VARCHAR NOT NULL,
    dst VARCHAR NOT NULL,
    medium VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    connection VARCHAR NOT NULL,
    bucket_at TIMESTAMPTZ NOT NULL,
    request_count BIGINT NOT NULL,
    error_count BIGINT NOT NULL,
    unstreamed_count BIGINT NOT NULL,
    output_tokens BIGINT,
    newest_at TIMESTAMPTZ NOT NULL,
    buckets STRUCT(quantity VARCHAR, bucket INTEGER, n BIGINT)[] NOT NULL
);
ALTER TABLE rollup_inference_day SET PARTITIONED BY (year(bucket_at));
ALTER TABLE rollup_inference_day SET SORTED BY (bucket_at, src, dst, medium, model, connection);
COMMENT ON TABLE rollup_inference_day IS 'Inference requests that count, by day: one row per src, dst, medium, model, kind of connection and day';
COMMENT ON COLUMN rollup_inference_day.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN rollup_inference_day.dst IS 'Site id of the serving site; never NULL';
COMMENT ON COLUMN rollup_inference_day.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN rollup_inference_day.model IS 'Model asked for; never NULL';
COMMENT ON COLUMN rollup_inference_day.connection IS 'cold or warm, as in inference; never NULL';
COMMENT ON COLUMN rollup_inference_day.bucket_at IS 'Start of the day, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN rollup_inference_day.request_count IS 'Requests, failed ones too; never NULL';
COMMENT ON COLUMN rollup_inference_day.error_count IS 'Requests that failed; never NULL';
COMMENT ON COLUMN rollup_inference_day.unstreamed_count IS 'Requests whose tokens were held back and sent together; never NULL';
COMMENT ON COLUMN rollup_inference_day.output_tokens IS 'Tokens of the answers; NULL: no request told';
COMMENT ON COLUMN rollup_inference_day.newest_at IS 'When the newest request began, UTC; never NULL';
COMMENT ON COLUMN rollup_inference_day.buckets IS 'Times by quantity and log bucket (see the macro rtt_bucket): ttft, setup, network, machine, tpot, longest_gap of requests that were answered, tcp_rtt of all; adding the counts of rows merges them, and any quantile is then within 1 %; never NULL';
