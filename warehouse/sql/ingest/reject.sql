-- Store new rows of reject.
INSERT INTO reject BY NAME SELECT * FROM incoming;
