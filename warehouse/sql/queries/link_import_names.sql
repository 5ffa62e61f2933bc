-- Question: which site ids do imported matrices name, and what is the hash of each? Grain: site id.
SELECT id, hash(id) AS id_hash FROM (SELECT src AS id FROM rtt_matrix UNION SELECT dst AS id FROM rtt_matrix) ORDER BY id;
