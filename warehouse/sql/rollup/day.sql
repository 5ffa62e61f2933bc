-- Add days.
INSERT INTO rollup_day BY NAME SELECT * FROM incoming;
