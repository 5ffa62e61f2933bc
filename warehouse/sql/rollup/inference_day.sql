-- Add days of inference requests.
INSERT INTO rollup_inference_day BY NAME SELECT * FROM incoming;
