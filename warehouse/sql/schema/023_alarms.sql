-- Alarms: what has changed for the worse, who was told, and who does not want to be. Rows of these tables do change; `warehouse/alarms.py`
-- replaces them. Beside them what an agent means to measure, which tells what is missing.
ALTER TABLE agent_status ADD COLUMN schedule MAP(VARCHAR, BIGINT);
COMMENT ON COLUMN agent_status.schedule IS 'How often the agent means to measure each probe type it is configured for, ns; NULL: an agent that does not say';

CREATE TABLE alarm (
    id VARCHAR NOT NULL,
    key VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    severity VARCHAR NOT NULL,
    group_key VARCHAR NOT NULL,
    group_title VARCHAR NOT NULL,
    summary VARCHAR NOT NULL,
    sites VARCHAR[] NOT NULL,
    src VARCHAR,
    dst VARCHAR,
    medium VARCHAR,
    agent VARCHAR,
    probe_type VARCHAR,
    workload VARCHAR,
    value DOUBLE,
    baseline DOUBLE,
    unit VARCHAR,
    since_at TIMESTAMPTZ NOT NULL,
    opened_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    closed_at TIMESTAMPTZ,
    close_reason VARCHAR,
    acknowledged_at TIMESTAMPTZ,
    acknowledged_by VARCHAR,
    detail VARCHAR NOT NULL
);
COMMENT ON TABLE alarm IS 'Alarms: one row per time that something went wrong; at most one open for each key';
COMMENT ON COLUMN alarm.id IS 'Twelve hexadecimal digits; never NULL';
COMMENT ON COLUMN alarm.key IS 'Kind and whom it is about: alarms of one key follow each other; never NULL';
COMMENT ON COLUMN alarm.kind IS 'data_missing, rtt_shift, loss_shift, path_change or route_flip; never NULL';
COMMENT ON COLUMN alarm.severity IS 'info, warning or critical; never NULL';
COMMENT ON COLUMN alarm.group_key IS 'Its cause: alarms with the same one are told of together; never NULL';
COMMENT ON COLUMN alarm.group_title IS 'The cause in a line; never NULL';
COMMENT ON COLUMN alarm.summary IS 'What is wrong, in a sentence; never NULL';
COMMENT ON COLUMN alarm.sites IS 'Site ids it is about: both ends of a pair, all sites of a route, or the agent''s; never NULL';
COMMENT ON COLUMN alarm.src IS 'Site id the pair or route begins at; NULL: it is about an agent';
COMMENT ON COLUMN alarm.dst IS 'Site id the pair ends at; NULL: it is about an agent or a route';
COMMENT ON COLUMN alarm.medium IS 'internet, backbone or direct-connect; NULL: it is about an agent or a route';
COMMENT ON COLUMN alarm.agent IS 'Agent; NULL: it is not about an agent';
COMMENT ON COLUMN alarm.probe_type IS 'Probe type; NULL: it is not about an agent';
COMMENT ON COLUMN alarm.workload IS 'Workload; NULL: it is not about a route';
COMMENT ON COLUMN alarm.value IS 'As it is, in `unit`; NULL: not known';
COMMENT ON COLUMN alarm.baseline IS 'As it was, in `unit`; NULL: not known';
COMMENT ON COLUMN alarm.unit IS 'ms, ratio or s; NULL: there is no value';
COMMENT ON COLUMN alarm.since_at IS 'When it began by the measurements, UTC; never NULL';
COMMENT ON COLUMN alarm.opened_at IS 'When it was found, UTC; never NULL';
COMMENT ON COLUMN alarm.last_seen_at IS 'When it was last found to be so (kept to a few minutes), UTC; never NULL';
COMMENT ON COLUMN alarm.updated_at IS 'When this row was written, UTC; never NULL';
COMMENT ON COLUMN alarm.closed_at IS 'When it was found to be over, UTC; NULL: it is open';
COMMENT ON COLUMN alarm.close_reason IS 'recovered, settled (the new is the usual), revoked or not seen any more; NULL: it is open';
COMMENT ON COLUMN alarm.acknowledged_at IS 'When somebody took it on, UTC; NULL: nobody did';
COMMENT ON COLUMN alarm.acknowledged_by IS 'Who took it on; NULL: nobody did';
COMMENT ON COLUMN alarm.detail IS 'More of it, as JSON: what the detector goes on from, old and new path or route; never NULL';

CREATE TABLE alarm_silence (
    id VARCHAR NOT NULL,
    until_at TIMESTAMPTZ NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    created_by VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    alarm_id VARCHAR,
    kind VARCHAR,
    site VARCHAR,
    agent VARCHAR
);
COMMENT ON TABLE alarm_silence IS 'Alarms that nothing is sent of: one row per silence; an alarm is silenced when every given field matches';
COMMENT ON COLUMN alarm_silence.id IS 'Eight hexadecimal digits; never NULL';
COMMENT ON COLUMN alarm_silence.until_at IS 'Until when, UTC; never NULL';
COMMENT ON COLUMN alarm_silence.created_at IS 'When it was made, UTC; never NULL';
COMMENT ON COLUMN alarm_silence.created_by IS 'Who made it; never NULL';
COMMENT ON COLUMN alarm_silence.reason IS 'Why; never NULL';
COMMENT ON COLUMN alarm_silence.alarm_id IS 'The alarm; NULL: any';
COMMENT ON COLUMN alarm_silence.kind IS 'Kind of the alarm; NULL: any';
COMMENT ON COLUMN alarm_silence.site IS 'Site id that the alarm is about; NULL: any';
COMMENT ON COLUMN alarm_silence.agent IS 'Agent that the alarm is about; NULL: any, or none';

CREATE TABLE alarm_notice (
    id VARCHAR NOT NULL,
    receiver VARCHAR NOT NULL,
    group_key VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    alarm_ids VARCHAR[] NOT NULL,
    payload VARCHAR NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    attempt_count BIGINT NOT NULL,
    next_at TIMESTAMPTZ NOT NULL,
    sent_at TIMESTAMPTZ,
    failed_at TIMESTAMPTZ,
    error VARCHAR
);
COMMENT ON TABLE alarm_notice IS 'What was, or is to be, sent to webhooks: one row per notice; it waits here across restarts';
COMMENT ON COLUMN alarm_notice.id IS 'Sixteen hexadecimal digits, sent along: a receiver knows a repeat by it; never NULL';
COMMENT ON COLUMN alarm_notice.receiver IS 'Name of the webhook; never NULL';
COMMENT ON COLUMN alarm_notice.group_key IS 'Cause of the alarms it tells of; never NULL';
COMMENT ON COLUMN alarm_notice.status IS 'firing or resolved; never NULL';
COMMENT ON COLUMN alarm_notice.alarm_ids IS 'Open alarms it tells of; never NULL';
COMMENT ON COLUMN alarm_notice.payload IS 'The JSON that is sent; never NULL';
COMMENT ON COLUMN alarm_notice.created_at IS 'When it was decided on, UTC; never NULL';
COMMENT ON COLUMN alarm_notice.attempt_count IS 'How often it was tried; never NULL';
COMMENT ON COLUMN alarm_notice.next_at IS 'When it is tried next, UTC; never NULL';
COMMENT ON COLUMN alarm_notice.sent_at IS 'When the receiver took it, UTC; NULL: it has not';
COMMENT ON COLUMN alarm_notice.failed_at IS 'When it was given up, UTC; NULL: it was not';
COMMENT ON COLUMN alarm_notice.error IS 'Why the last attempt failed; NULL: none did';
