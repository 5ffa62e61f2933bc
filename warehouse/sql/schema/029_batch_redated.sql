-- How far the times of a batch were moved, for an agent whose clock had been wrong.
ALTER TABLE batch ADD COLUMN redated_ns BIGINT;
COMMENT ON COLUMN batch.redated_ns IS 'Added to every time of the batch''s rows because the agent''s clock, since set back, had been ahead when it dated them, ns; NULL: the times are as the agent wrote them';
