-- Question: which ways were traced to the end? Grain: trace that reached its target and came in ($since, $until], in the order they began.
SELECT src, dst, medium, protocol, target, flow, started_at, [h.address FOR h IN hops] AS addresses
FROM traceroute
WHERE received_at > $since AND received_at <= $until AND reached AND NOT is_duplicate_id
ORDER BY started_at, measurement_id;
