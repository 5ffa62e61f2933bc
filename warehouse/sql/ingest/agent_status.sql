-- Store new rows of agent_status.
INSERT INTO agent_status BY NAME SELECT * FROM incoming;
