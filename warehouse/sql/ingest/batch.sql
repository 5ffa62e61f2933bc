-- Store new rows of batch.
INSERT INTO batch BY NAME SELECT * FROM incoming;
