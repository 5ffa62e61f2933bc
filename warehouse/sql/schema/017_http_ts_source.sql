-- How the arrivals of an answer were timed.
ALTER TABLE http ADD COLUMN ts_source VARCHAR;
COMMENT ON COLUMN http.ts_source IS 'How ttfb_ns and e2e_ns were timed: kernel_rx (the kernel''s stamps) or user (the agent''s clock); NULL: nothing came, or measured before it was kept';
