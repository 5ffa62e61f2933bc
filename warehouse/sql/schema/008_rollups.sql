-- Roll-ups that merge. A row of rollup_minute is a fragment: late packets add further rows of the same minute, and a question adds
-- up whatever rows there are. Rows of rollup_hour are made of those of rollup_minute once the hour is over, and again when
-- something late comes. Throughput tests and traces are few and stay raw.

-- The minute and the hour a time is in, UTC. (By integers: calendar functions on times with a zone take microseconds for each row.)
CREATE MACRO minute_of(moment) AS make_timestamptz(epoch_us(moment) // 60_000_000 * 60_000_000);
CREATE MACRO hour_of(moment) AS make_timestamptz(epoch_us(moment) // 3_600_000_000 * 3_600_000_000);

CREATE TABLE rollup_minute (
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
ALTER TABLE rollup_minute SET PARTITIONED BY (year(bucket_at), month(bucket_at), day(bucket_at));
ALTER TABLE rollup_minute SET SORTED BY (src, dst, medium, probe_type, bucket_at);
COMMENT ON TABLE rollup_minute IS 'What was measured by minute: one row per src, dst, medium, probe type, grade and minute, or several that add up';
COMMENT ON COLUMN rollup_minute.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN rollup_minute.dst IS 'Site id of the target; never NULL';
COMMENT ON COLUMN rollup_minute.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN rollup_minute.probe_type IS 'What min_ns and the rest are of: ping (RTT of a probe packet), http (RTT of a TCP hand-shake) or inference (TTFT); never NULL';
COMMENT ON COLUMN rollup_minute.is_degraded_agent IS 'The agent failed its own checks at that time, as known at the newest pass; never NULL';
COMMENT ON COLUMN rollup_minute.bucket_at IS 'Start of the minute, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN rollup_minute.sent_count IS 'Probe packets that left; connections or requests tried; never NULL';
COMMENT ON COLUMN rollup_minute.lost_count IS 'Probe packets without a reply; NULL: a probe type that knows no packet loss';
COMMENT ON COLUMN rollup_minute.reply_count IS 'How many of them have a time; never NULL';
COMMENT ON COLUMN rollup_minute.min_ns IS 'Least time, ns; NULL: none has one';
COMMENT ON COLUMN rollup_minute.max_ns IS 'Greatest time, ns; NULL: none has one';
COMMENT ON COLUMN rollup_minute.sum_ns IS 'Sum of the times, ns: with reply_count the mean; NULL: none has one';
COMMENT ON COLUMN rollup_minute.newest_at IS 'When the newest of them was sent, UTC; never NULL';
COMMENT ON COLUMN rollup_minute.buckets IS 'Times by log bucket (see the macro rtt_bucket), by bucket, empty ones left out; adding the counts of rows merges them, and any quantile is then within 1 %; never NULL';

CREATE TABLE rollup_hour (
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
ALTER TABLE rollup_hour SET PARTITIONED BY (year(bucket_at), month(bucket_at));
ALTER TABLE rollup_hour SET SORTED BY (src, dst, medium, probe_type, bucket_at);
COMMENT ON TABLE rollup_hour IS 'What was measured by hour: one row per src, dst, medium, probe type, grade and hour, or several that add up';
COMMENT ON COLUMN rollup_hour.src IS 'Site id of the agent; never NULL';
COMMENT ON COLUMN rollup_hour.dst IS 'Site id of the target; never NULL';
COMMENT ON COLUMN rollup_hour.medium IS 'internet, backbone or direct-connect; never NULL';
COMMENT ON COLUMN rollup_hour.probe_type IS 'What min_ns and the rest are of: ping (RTT of a probe packet), http (RTT of a TCP hand-shake) or inference (TTFT); never NULL';
COMMENT ON COLUMN rollup_hour.is_degraded_agent IS 'The agent failed its own checks at that time, as known at the newest pass; never NULL';
COMMENT ON COLUMN rollup_hour.bucket_at IS 'Start of the hour, UTC by the agent''s clock; never NULL';
COMMENT ON COLUMN rollup_hour.sent_count IS 'Probe packets that left; connections or requests tried; never NULL';
COMMENT ON COLUMN rollup_hour.lost_count IS 'Probe packets without a reply; NULL: a probe type that knows no packet loss';
COMMENT ON COLUMN rollup_hour.reply_count IS 'How many of them have a time; never NULL';
COMMENT ON COLUMN rollup_hour.min_ns IS 'Least time, ns; NULL: none has one';
COMMENT ON COLUMN rollup_hour.max_ns IS 'Greatest time, ns; NULL: none has one';
COMMENT ON COLUMN rollup_hour.sum_ns IS 'Sum of the times, ns: with reply_count the mean; NULL: none has one';
COMMENT ON COLUMN rollup_hour.newest_at IS 'When the newest of them was sent, UTC; never NULL';
COMMENT ON COLUMN rollup_hour.buckets IS 'Times by log bucket (see the macro rtt_bucket), by bucket, empty ones left out; adding the counts of rows merges them, and any quantile is then within 1 %; never NULL';

-- One row for ever. It changes in the transaction that adds the fragments, so that a packet is counted once and never twice.
CREATE TABLE rollup_mark (snapshot_id BIGINT NOT NULL, rolled_at TIMESTAMPTZ);
INSERT INTO rollup_mark VALUES (0, NULL);
COMMENT ON TABLE rollup_mark IS 'How far the roll-ups are: what was committed up to this snapshot is in rollup_minute; one row';
COMMENT ON COLUMN rollup_mark.snapshot_id IS 'Snapshot up to which raw rows are rolled up; 0: none are; never NULL';
COMMENT ON COLUMN rollup_mark.rolled_at IS 'When the newest pass was made, UTC; NULL: there was none';

CREATE TABLE rollup_touched (hour_at TIMESTAMPTZ NOT NULL);
COMMENT ON TABLE rollup_touched IS 'Hours whose minutes have changed since rollup_hour was made of them: one row each';
COMMENT ON COLUMN rollup_touched.hour_at IS 'Start of the hour, UTC; never NULL';

CREATE TABLE rollup_degraded (
    agent VARCHAR NOT NULL,
    boot VARCHAR NOT NULL,
    degraded_from_at TIMESTAMPTZ NOT NULL,
    degraded_until_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE rollup_degraded IS 'Times in which agents failed their own checks as the newest pass knew them: one row per unbroken time';
COMMENT ON COLUMN rollup_degraded.agent IS 'Agent; never NULL';
COMMENT ON COLUMN rollup_degraded.boot IS 'Boot id of its process; never NULL';
COMMENT ON COLUMN rollup_degraded.degraded_from_at IS 'Exclusive start, UTC; -infinity: since boot; never NULL';
COMMENT ON COLUMN rollup_degraded.degraded_until_at IS 'Inclusive end, UTC; infinity: until it says otherwise; never NULL';

CREATE TABLE retention (name VARCHAR NOT NULL, keep_days BIGINT, meaning VARCHAR NOT NULL);
COMMENT ON TABLE retention IS 'How long things are kept: one row per kind; change it with `isochrone warehouse retention NAME=DAYS`';
COMMENT ON COLUMN retention.name IS 'raw, minute, hour, records or snapshots; never NULL';
COMMENT ON COLUMN retention.keep_days IS 'Least days it is kept; NULL: for ever';
COMMENT ON COLUMN retention.meaning IS 'What it is about, for a person; never NULL';
INSERT INTO retention VALUES
('raw', 30, 'single probe packets and connections (ping_sample, http), since their arrival'),
('minute', 90, 'roll-ups by minute'),
('hour', 1830, 'roll-ups by hour'),
('records', 400, 'traces, throughput tests, inference requests, agents'' reports, rejects and batches, since their arrival'),
('snapshots', 1, 'older versions of the warehouse, for time travel');

CREATE TABLE expiry (table_name VARCHAR NOT NULL, before_at TIMESTAMPTZ NOT NULL, row_count BIGINT NOT NULL, expired_at TIMESTAMPTZ NOT NULL);
COMMENT ON TABLE expiry IS 'What was removed when its time was over: one row per table and time';
COMMENT ON COLUMN expiry.table_name IS 'Table; never NULL';
COMMENT ON COLUMN expiry.before_at IS 'What arrived before (roll-ups: is of a time before) was removed, UTC; never NULL';
COMMENT ON COLUMN expiry.row_count IS 'Rows removed; never NULL';
COMMENT ON COLUMN expiry.expired_at IS 'When it was done, UTC; never NULL';

-- One pair's series is a few row groups, old months are whole files. Files written before stay as they are.
ALTER TABLE traceroute SET PARTITIONED BY (year(received_at), month(received_at));
ALTER TABLE traceroute SET SORTED BY (src, dst, medium, started_at);
ALTER TABLE throughput SET PARTITIONED BY (year(received_at), month(received_at));
ALTER TABLE throughput SET SORTED BY (src, dst, medium, started_at);
ALTER TABLE inference SET PARTITIONED BY (year(received_at), month(received_at));
ALTER TABLE inference SET SORTED BY (src, dst, medium, started_at);
ALTER TABLE http SET PARTITIONED BY (year(received_at), month(received_at), day(received_at));
ALTER TABLE http SET SORTED BY (src, dst, medium, started_at);
ALTER TABLE agent_status SET PARTITIONED BY (year(received_at), month(received_at));
ALTER TABLE agent_status SET SORTED BY (agent, boot, reported_at);
ALTER TABLE batch SET PARTITIONED BY (year(received_at), month(received_at));
ALTER TABLE batch SET SORTED BY (agent, boot, sequence);
