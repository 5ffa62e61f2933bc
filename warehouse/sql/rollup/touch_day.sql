-- Note which days the fragments change.
INSERT INTO rollup_touched_day
SELECT DISTINCT day_of(bucket_at) AS day_at FROM incoming
EXCEPT
SELECT day_at FROM rollup_touched_day;
