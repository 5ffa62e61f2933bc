-- Note which hours the fragments change.
INSERT INTO rollup_touched
SELECT DISTINCT hour_of(bucket_at) AS hour_at FROM incoming
EXCEPT
SELECT hour_at FROM rollup_touched;
