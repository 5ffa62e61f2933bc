-- Question: how soon does each serving site answer, and how fast? Grain: src, dst, medium, model; requests begun in ($since, $until].
-- Units: ms; quantiles by nearest rank. ttft of answered requests; tpot is the mean time between the tokens of a request; NULL: none.
SELECT
    src, dst, medium, model,
    count(*) AS "count",
    count(*) FILTER (outcome <> 'ok') AS errors,
    quantile_disc(ttft_ns, 0.50) FILTER (outcome = 'ok') / 1e6 AS ttft_p50_ms,
    quantile_disc(ttft_ns, 0.95) FILTER (outcome = 'ok') / 1e6 AS ttft_p95_ms,
    quantile_disc(list_avg(token_gaps_ns), 0.50) FILTER (outcome = 'ok') / 1e6 AS tpot_p50_ms,
    quantile_disc(tcp_rtt_ns, 0.50) / 1e6 AS tcp_rtt_p50_ms,
    max(started_at) AS last_at,
    'raw' AS grain
FROM valid_inference
WHERE started_at > $since AND started_at <= $until
GROUP BY src, dst, medium, model
ORDER BY src, dst, medium, model;
