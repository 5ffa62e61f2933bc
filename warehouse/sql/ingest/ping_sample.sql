-- Store new rows of ping_sample. $since and $until bound their started_at: a round stored before has the same one, so only
-- files of that time are looked into for its id.
INSERT INTO ping_sample BY NAME
SELECT
    i.*,
    row_number() OVER (PARTITION BY i.measurement_id, i.sequence ORDER BY i.received_at) > 1
    OR i.measurement_id IN (SELECT measurement_id FROM ping_sample WHERE is_round_start AND started_at BETWEEN $since AND $until)
        AS is_duplicate_id
FROM incoming AS i
ORDER BY src, dst, medium, sent_at;
