-- Question: which way did one flow of a pair go at one time? Grain: trace; those of the flow that began at $at (to the microsecond).
SELECT
    measurement_id, agent, src, dst, medium, target, epoch_us(started_at) * 1000 AS started_at_ns, engine, protocol, flow, hops, reached, path_hash
FROM valid_traceroute
WHERE src = $src AND dst = $dst AND medium = $medium AND flow = $flow AND started_at = $at
ORDER BY measurement_id;
