-- Question: which way do the flows of one pair go now? Grain: medium, protocol, flow; its newest trace. $medium NULL: every medium.
SELECT
    measurement_id, agent, src, dst, medium, target, epoch_us(started_at) * 1000 AS started_at_ns, engine, protocol, flow, hops, reached, path_hash, error
FROM valid_traceroute
WHERE src = $src AND dst = $dst AND medium = coalesce($medium, medium)
QUALIFY row_number() OVER (PARTITION BY medium, protocol, flow ORDER BY started_at DESC, measurement_id DESC) = 1
ORDER BY medium, protocol, flow;
