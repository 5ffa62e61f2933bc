-- Add days.
INSERT INTO measurement_count BY NAME SELECT * FROM incoming;
