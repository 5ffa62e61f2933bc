-- Question: which of the incoming measurements are kept in throughput already? Grain: measurement. $since and $until bound their started_at.
SELECT k.measurement_id
FROM throughput AS k
SEMI JOIN incoming AS i ON i.measurement_id = k.measurement_id
WHERE k.started_at BETWEEN $since AND $until;
