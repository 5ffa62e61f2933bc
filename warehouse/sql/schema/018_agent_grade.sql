-- What else an agent says of how well it measures.
ALTER TABLE agent_status ADD COLUMN round_lag_p99_ns BIGINT;
ALTER TABLE agent_status ADD COLUMN steal_ratio DOUBLE;
ALTER TABLE agent_status ADD COLUMN stamps MAP(VARCHAR, BIGINT);
ALTER TABLE agent_status ADD COLUMN failures MAP(VARCHAR, BIGINT);
ALTER TABLE agent_status ADD COLUMN opted_out_rounds BIGINT;
ALTER TABLE agent_status ADD COLUMN shifts BIGINT;
COMMENT ON COLUMN agent_status.round_lag_p99_ns IS 'How late rounds were started since the last report, ns; NULL: none was due, or not known';
COMMENT ON COLUMN agent_status.steal_ratio IS 'Share of processor time the hypervisor gave to others since the last report, 0 to 1; NULL: not known';
COMMENT ON COLUMN agent_status.stamps IS 'RTTs since boot by how they were timed (ts_source); NULL: an agent that does not say';
COMMENT ON COLUMN agent_status.failures IS 'Measurements since boot that show a failure, by whose it was: resolver, path, target, agent; NULL: an agent that does not say';
COMMENT ON COLUMN agent_status.opted_out_rounds IS 'Rounds since boot not measured because the target opted out; NULL: an agent that does not say';
COMMENT ON COLUMN agent_status.shifts IS 'Times since boot that the RTT of a target moved; NULL: an agent that does not say';
