-- Question: how much was rejected, by reason? Grain: reason.
SELECT reason, count(*) AS n FROM reject GROUP BY reason ORDER BY n DESC, reason;
