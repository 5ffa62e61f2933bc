-- Question: which alarms are there? Grain: alarm; those open, and those closed after $since (a time far ahead: none of them).
SELECT * FROM alarm WHERE closed_at IS NULL OR closed_at > $since ORDER BY opened_at, id;
