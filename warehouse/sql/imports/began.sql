-- Question: when was the first batch of this boot stored? Grain: one row, or none.
SELECT received_at FROM batch WHERE agent = $agent AND boot = $boot ORDER BY sequence LIMIT 1;
