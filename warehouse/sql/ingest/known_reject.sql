-- Question: is this whole batch kept among the rejects already? Grain: one number.
SELECT count(*) FROM reject WHERE content_sha256 = $content_sha256 AND line_number IS NULL AND agent IS NOT DISTINCT FROM $agent;
