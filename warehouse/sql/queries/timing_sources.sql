-- Question: how were the RTTs timed? Grain: agent, ts_source; packets answered in ($since, $until]. NULL: the engine did not say.
SELECT agent, ts_source, count(*) AS n
FROM ping_sample
WHERE sent_at > $since AND sent_at <= $until AND outcome = 'reply' AND NOT is_duplicate_id
GROUP BY ALL
ORDER BY agent, n DESC;
