-- Question: do the books agree? Grain: one sentence per fault.
WITH fault AS (
    SELECT 'batch ' || agent || '/' || boot || '/' || sequence || ' is recorded ' || count(*) || ' times' AS what
    FROM batch GROUP BY agent, boot, sequence HAVING count(*) > 1
    UNION ALL
    SELECT 'batch ' || agent || '/' || boot || '/' || sequence || ' counts ' || line_count || ' lines but '
        || stored_count || ' stored and ' || rejected_count || ' rejected'
    FROM batch WHERE line_count <> stored_count + rejected_count
    UNION ALL
    SELECT count(*) || ' rows of ' || any_value(t) || ' belong to a batch that is not recorded'
    FROM (
        SELECT 'ping_sample' AS t, agent, batch_boot, batch_sequence FROM ping_sample
        UNION ALL SELECT 'traceroute', agent, batch_boot, batch_sequence FROM traceroute
        UNION ALL SELECT 'throughput', agent, batch_boot, batch_sequence FROM throughput
        UNION ALL SELECT 'inference', agent, batch_boot, batch_sequence FROM inference
        UNION ALL SELECT 'http', agent, batch_boot, batch_sequence FROM http
        UNION ALL SELECT 'stamp', agent, batch_boot, batch_sequence FROM stamp
        UNION ALL SELECT 'serving', agent, batch_boot, batch_sequence FROM serving
        UNION ALL SELECT 'agent_status', agent, batch_boot, batch_sequence FROM agent_status
    ) AS r
    ANTI JOIN batch AS b ON b.agent = r.agent AND b.boot = r.batch_boot AND b.sequence = r.batch_sequence
    GROUP BY t
)
SELECT what FROM fault ORDER BY what;
