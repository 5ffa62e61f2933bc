-- Store new rows of serving. $since and $until bound their started_at: a measurement stored before has the same one, so only
-- files of that time are looked into for its id.
INSERT INTO serving BY NAME
SELECT
    i.*,
    row_number() OVER (PARTITION BY i.measurement_id ORDER BY i.received_at) > 1
    OR i.measurement_id IN (SELECT measurement_id FROM serving WHERE started_at BETWEEN $since AND $until) AS is_duplicate_id
FROM incoming AS i;
