-- Add fragments.
INSERT INTO rollup_minute BY NAME SELECT * FROM incoming;
