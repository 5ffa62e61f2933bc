-- Add hours.
INSERT INTO rollup_hour BY NAME SELECT * FROM incoming ORDER BY src, dst, medium, probe_type, bucket_at;
