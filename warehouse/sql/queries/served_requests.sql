-- Question: what did every answered inference request to a serving site say of the machine? Grain: request, begun in ($since, $now].
-- Units: ns. sent_at_ns is the start of the upload, since the epoch by the agent's clock; token_ns the mean gap between tokens, NULL for
-- fewer than 8 gaps or an answer that came at once; rtt_ns the least round trip of the connection, by the kernel. NULL: not known.
SELECT
    model,
    epoch_ns(started_at) + coalesce(dns_ns, 0) + coalesce(tcp_ns, 0) + coalesce(tls_ns, 0) AS sent_at_ns,
    ttft_ns, e2e_ns,
    CASE WHEN is_streamed AND len(token_gaps_ns) >= 8 THEN list_avg(token_gaps_ns) END AS token_ns,
    prompt_tokens, request_bytes, coalesce(tcp_min_rtt_ns, tcp_rtt_ns) AS rtt_ns
FROM valid_inference
WHERE dst = $site AND outcome = 'ok' AND e2e_ns IS NOT NULL AND started_at > $since AND started_at <= $now
ORDER BY started_at;
