-- Question: what is to be sent? Grain: notice that was neither sent nor given up.
SELECT * FROM alarm_notice WHERE sent_at IS NULL AND failed_at IS NULL ORDER BY created_at, id;
