-- Question: what did the throughput tests of one link say? Grain: test, begun in [$start, $end). Units: bits per second, ms.
SELECT
    started_at, direction, tool, throughput_bps, transferred_bytes, duration_ns / 1e9 AS duration_s, retransmits,
    tcp_rtt_ns / 1e6 AS tcp_rtt_ms, tcp_min_rtt_ns / 1e6 AS tcp_min_rtt_ms, congestion_control, stop_reason, error,
    method, is_estimate IS TRUE AS is_estimate, protocol, streams, spent_bytes, idle_rtt_ns / 1e6 AS idle_rtt_ms,
    loaded_rtt_ns / 1e6 AS loaded_rtt_ms, loaded_rtt_p95_ns / 1e6 AS loaded_rtt_p95_ms, failure_source
FROM valid_throughput
WHERE src = $src AND dst = $dst AND medium = $medium AND started_at >= $start AND started_at < $end
ORDER BY started_at;
