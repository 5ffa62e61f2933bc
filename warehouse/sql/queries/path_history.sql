-- Question: when did the paths of one link change? Grain: trace, begun in [$start, $end).
SELECT started_at, flow, path_hash, len(hops) AS hop_count, reached
FROM valid_traceroute
WHERE src = $src AND dst = $dst AND medium = $medium AND started_at >= $start AND started_at < $end
ORDER BY started_at, flow;
