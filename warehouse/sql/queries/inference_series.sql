-- Question: what did the inference requests of one link say? Grain: request, begun in [$start, $end). Units: ms.
-- tpot_ms is the mean time between the tokens of a request; NULL: fewer than two came.
SELECT
    started_at, model, outcome, connection, ttft_ns / 1e6 AS ttft_ms, list_avg(token_gaps_ns) / 1e6 AS tpot_ms, e2e_ns / 1e6 AS e2e_ms,
    tcp_rtt_ns / 1e6 AS tcp_rtt_ms, tcp_min_rtt_ns / 1e6 AS tcp_min_rtt_ms, output_tokens, error
FROM valid_inference
WHERE src = $src AND dst = $dst AND medium = $medium AND started_at >= $start AND started_at < $end
ORDER BY started_at;
