-- Question: which of the incoming measurements are kept in ping_sample already? Grain: measurement. $since and $until bound their started_at.
SELECT k.measurement_id
FROM ping_sample AS k
SEMI JOIN incoming AS i ON i.measurement_id = k.measurement_id
WHERE k.started_at BETWEEN $since AND $until AND k.is_round_start;
