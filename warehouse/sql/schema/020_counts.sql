-- How much was stored, counted once: a question that counts every row of a large warehouse takes seconds.
CREATE TABLE measurement_count (table_name VARCHAR NOT NULL, day_at TIMESTAMPTZ NOT NULL, n BIGINT NOT NULL);
COMMENT ON TABLE measurement_count IS 'Measurements that are there, up to the snapshot of rollup_mark: one row per table and day of arrival';
COMMENT ON COLUMN measurement_count.table_name IS 'Table they are in; never NULL';
COMMENT ON COLUMN measurement_count.day_at IS 'Start of the day they arrived, UTC; never NULL';
COMMENT ON COLUMN measurement_count.n IS 'Measurements (a ping round is one), repeated ids counted once; never NULL';
