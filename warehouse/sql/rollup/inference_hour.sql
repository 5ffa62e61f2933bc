-- Add hours of inference requests.
INSERT INTO rollup_inference BY NAME SELECT * FROM incoming;
