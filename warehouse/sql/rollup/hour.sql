-- Add hours.
INSERT INTO rollup_hour BY NAME SELECT * FROM incoming;
