-- Question: whose way has changed of late? Grain: src, dst, medium with a flow of more than one path, begun in ($since, $until].
-- A path is told by its hash, silent hops included, so a router that fell silent counts too.
SELECT src, dst, medium, sum(paths - 1)::BIGINT AS changes, max(last_at) AS last_at
FROM (
    SELECT src, dst, medium, protocol, flow, count(DISTINCT path_hash) AS paths, max(started_at) AS last_at
    FROM valid_traceroute
    WHERE started_at > $since AND started_at <= $until
    GROUP BY ALL
)
WHERE paths > 1
GROUP BY ALL
ORDER BY changes DESC, src, dst, medium;
