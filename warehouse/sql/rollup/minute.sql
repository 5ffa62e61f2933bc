-- Add fragments.
INSERT INTO rollup_minute BY NAME SELECT * FROM incoming ORDER BY src, dst, medium, probe_type, bucket_at;
