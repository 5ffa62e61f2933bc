-- Smaller row groups: a question about an hour of all pairs, or a day of one, then reads few rows beside those it needs.
CALL wh.set_option('parquet_row_group_size', 20480, table_name => 'rollup_minute');
CALL wh.set_option('parquet_row_group_size', 20480, table_name => 'rollup_hour');
CALL wh.set_option('parquet_row_group_size', 20480, table_name => 'rollup_day');
CALL wh.set_option('parquet_row_group_size', 4096, table_name => 'rollup_inference');
CALL wh.set_option('parquet_row_group_size', 4096, table_name => 'rollup_inference_day');
CALL wh.set_option('data_inlining_row_limit', 0, table_name => 'rollup_day');
CALL wh.set_option('data_inlining_row_limit', 0, table_name => 'rollup_inference');
CALL wh.set_option('data_inlining_row_limit', 0, table_name => 'rollup_inference_day');
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'rollup_touched_day');
-- What is there already is made by the collector, hour by hour and day by day.
INSERT INTO rollup_touched
SELECT DISTINCT hour_of(started_at) FROM inference WHERE snapshot_id <= (SELECT snapshot_id FROM rollup_mark)
EXCEPT
SELECT hour_at FROM rollup_touched;
INSERT INTO rollup_touched_day
SELECT day_of(bucket_at) FROM rollup_hour
UNION
SELECT day_of(hour_at) FROM rollup_touched;
