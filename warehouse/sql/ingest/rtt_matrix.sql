-- Store new rows of rtt_matrix.
INSERT INTO rtt_matrix BY NAME SELECT * FROM incoming;
