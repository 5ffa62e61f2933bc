-- Question: what do the days in `incoming` count now? Grain: table, day of arrival.
SELECT table_name, day_at, CAST(sum(n) AS BIGINT) AS n
FROM (SELECT table_name, day_at, n FROM measurement_count SEMI JOIN incoming USING (table_name, day_at) UNION ALL FROM incoming)
GROUP BY ALL;
