-- Store the incoming sites.
INSERT INTO site BY NAME SELECT * FROM incoming;
