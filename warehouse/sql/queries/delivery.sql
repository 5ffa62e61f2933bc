-- Question: did everything that agents made arrive, and only once? Grain: agent, boot, probe type.
-- produced: by the newest report of that boot, NULL: it never reported; stored: rows of the type (ping: rounds); duplicated: stored
-- less distinct ids, counted afresh, not by the marks. Lost is produced - (stored - duplicated), once the agent has stopped.
WITH stored AS (
    SELECT agent, boot, 'ping' AS probe_type, count(*) AS stored, count(*) - count(DISTINCT measurement_id) AS duplicated
    FROM ping_sample WHERE is_round_start GROUP BY ALL
    UNION ALL
    SELECT agent, boot, 'traceroute', count(*), count(*) - count(DISTINCT measurement_id) FROM traceroute GROUP BY ALL
    UNION ALL
    SELECT agent, boot, 'throughput', count(*), count(*) - count(DISTINCT measurement_id) FROM throughput GROUP BY ALL
    UNION ALL
    SELECT agent, boot, 'inference', count(*), count(*) - count(DISTINCT measurement_id) FROM inference GROUP BY ALL
    UNION ALL
    SELECT agent, boot, 'http', count(*), count(*) - count(DISTINCT measurement_id) FROM http GROUP BY ALL
    UNION ALL
    SELECT agent, boot, 'stamp', count(*), count(*) - count(DISTINCT measurement_id) FROM stamp GROUP BY ALL
    UNION ALL
    SELECT agent, boot, 'serving', count(*), count(*) - count(DISTINCT measurement_id) FROM serving GROUP BY ALL
),
newest AS (
    SELECT agent, boot, produced FROM agent_status
    QUALIFY row_number() OVER (PARTITION BY agent, boot ORDER BY reported_at DESC, received_at DESC) = 1
),
produced AS (
    SELECT agent, boot, e.key AS probe_type, e.value AS produced FROM newest, unnest(map_entries(produced)) AS t (e)
)
SELECT
    agent, boot, probe_type,
    produced,
    coalesce(stored, 0) AS stored,
    coalesce(duplicated, 0) AS duplicated
FROM produced FULL JOIN stored USING (agent, boot, probe_type)
ORDER BY agent, boot, probe_type;
