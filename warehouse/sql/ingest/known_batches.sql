-- Question: of these boots of agents, which is the highest batch stored from `least` on, and of the batches asked for, which are stored and
-- with which content? Grain: agent, boot; only those of which any such batch is stored. $least is the least of all.
SELECT
    b.agent,
    b.boot,
    max(b.sequence) AS highest,
    list({'sequence': b.sequence, 'content_sha256': b.content_sha256}) FILTER (list_contains(i.sequences, b.sequence)) AS contents
FROM batch AS b
JOIN incoming AS i ON i.agent = b.agent AND i.boot = b.boot AND b.sequence >= i.least
WHERE b.sequence >= $least
GROUP BY b.agent, b.boot;
