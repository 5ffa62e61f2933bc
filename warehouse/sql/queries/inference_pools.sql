-- Question: how long does each serving site take, and how much of that is the network? Grain: src, dst, medium, model, connection; requests
-- begun in ($since, $until]. Units: ms; medians by nearest rank. Setup is DNS, TCP and TLS of the same request; network is one smoothed
-- round trip of its own connection; machine is what of the TTFT is left (queue and prefill). NULL: no request told.
SELECT
    src, dst, medium, model, connection,
    count(*) AS "count",
    count(*) FILTER (outcome <> 'ok') AS errors,
    quantile_disc(coalesce(dns_ns, 0) + tcp_ns + coalesce(tls_ns, 0), 0.5) FILTER (outcome = 'ok') / 1e6 AS setup_p50_ms,
    quantile_disc(ttft_ns, 0.5) FILTER (outcome = 'ok') / 1e6 AS ttft_p50_ms,
    quantile_disc(ttft_ns, 0.95) FILTER (outcome = 'ok') / 1e6 AS ttft_p95_ms,
    quantile_disc(least(tcp_rtt_ns, ttft_ns), 0.5) FILTER (outcome = 'ok' AND tcp_rtt_ns IS NOT NULL) / 1e6 AS network_p50_ms,
    quantile_disc(greatest(ttft_ns - tcp_rtt_ns, 0), 0.5) FILTER (outcome = 'ok' AND ttft_ns - tcp_rtt_ns IS NOT NULL) / 1e6 AS machine_p50_ms,
    quantile_disc(greatest(ttft_ns - tcp_rtt_ns, 0), 0.95) FILTER (outcome = 'ok' AND ttft_ns - tcp_rtt_ns IS NOT NULL) / 1e6 AS machine_p95_ms,
    quantile_disc(list_avg(token_gaps_ns), 0.5) FILTER (outcome = 'ok' AND len(token_gaps_ns) > 0) / 1e6 AS tpot_p50_ms,
    quantile_disc(list_max(token_gaps_ns), 0.95) FILTER (outcome = 'ok' AND len(token_gaps_ns) > 0) / 1e6 AS longest_gap_p95_ms,
    CAST(sum(output_tokens) AS BIGINT) AS output_tokens,
    count(*) FILTER (is_streamed IS FALSE) AS unstreamed,
    max(started_at) AS last_at,
    'raw' AS grain
FROM valid_inference
WHERE started_at > $since AND started_at <= $until
GROUP BY src, dst, medium, model, connection
ORDER BY dst, model, src, medium, connection;
