-- Which flow a round of ping was, and whose failure it was that a packet has no answer.
ALTER TABLE ping_sample ADD COLUMN flow BIGINT;
ALTER TABLE ping_sample ADD COLUMN failure_source VARCHAR;
COMMENT ON COLUMN ping_sample.flow IS 'Which flow to the target, from 0: packets of one flow take one of several equal paths; NULL: not kept apart';
COMMENT ON COLUMN ping_sample.failure_source IS 'Whose failure it was: resolver, path, target or agent; NULL: a reply, or not known';
COMMENT ON COLUMN ping_sample.error IS 'errno name of a failed send, such as ENETUNREACH; of a time-out ENOBUFS: the agent dropped incoming packets meanwhile; NULL: neither';
