-- Question: which of the incoming rejects of whole batches are kept already? Grain: one content of one agent.
SELECT DISTINCT r.content_sha256, r.agent
FROM reject AS r
JOIN incoming AS i ON r.content_sha256 = i.content_sha256 AND r.agent IS NOT DISTINCT FROM i.agent
WHERE r.line_number IS NULL;
