-- Question: which of the incoming batches are stored already, and with which content? Grain: agent, boot, sequence.
SELECT b.agent, b.boot, b.sequence, b.content_sha256
FROM batch AS b
JOIN incoming AS i ON i.agent = b.agent AND i.boot = b.boot AND i.sequence = b.sequence;
