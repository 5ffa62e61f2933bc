-- Which pushed configuration an agent runs.
ALTER TABLE agent_status ADD COLUMN config_generation BIGINT;
ALTER TABLE agent_status ADD COLUMN config_refused VARCHAR;
COMMENT ON COLUMN agent_status.config_generation IS 'Generation of the pushed configuration it runs; NULL: its own file alone, or an agent that does not say';
COMMENT ON COLUMN agent_status.config_refused IS 'The pushed configuration it refused last, and why; NULL: none since the last good one';
