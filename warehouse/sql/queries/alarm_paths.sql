-- Question: which ways are known? Grain: src, dst, medium, protocol, target, flow and path, of traces to the end that came in ($since, $until].
SELECT
    src, dst, medium, protocol, target, flow, max(started_at) AS started_at, count(*) AS times,
    any_value([h.address FOR h IN hops]) AS addresses
FROM traceroute
WHERE received_at > $since AND received_at <= $until AND reached AND NOT is_duplicate_id
GROUP BY src, dst, medium, protocol, target, flow, path_hash
ORDER BY max(started_at), src, dst, medium, protocol, target, flow;
