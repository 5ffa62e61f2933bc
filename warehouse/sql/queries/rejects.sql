-- Question: what could not be stored of late, and why? Grain: reject, newest first.
SELECT received_at, source, agent, boot, batch_sequence, line_number, reason, detail, line
FROM reject
ORDER BY received_at DESC, source, line_number
LIMIT $limit;
