-- Question: which minutes hold packets whose agent's grade is known otherwise now (`changed`)? Grain: src, dst, medium, probe type, minute.
-- Rows committed up to snapshot $mark, of [$least, $most].
WITH sample AS (
    SELECT
        'ping' AS probe_type, agent, boot, src, dst, medium, sent_at AS sample_at, rtt_ns AS value_ns,
        outcome <> 'send_failed' AS is_sent, outcome IN ('timeout', 'unreachable') AS is_lost
    FROM ping_sample
    WHERE snapshot_id <= $mark AND sent_at BETWEEN $least AND $most AND NOT is_duplicate_id AND epoch_us(sent_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT 'http', agent, boot, src, dst, medium, started_at, tcp_rtt_ns, true, NULL
    FROM http
    WHERE snapshot_id <= $mark AND started_at BETWEEN $least AND $most AND NOT is_duplicate_id AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
    UNION ALL
    SELECT 'inference', agent, boot, src, dst, medium, started_at, if(outcome = 'ok', ttft_ns, NULL), true, NULL
    FROM inference
    WHERE snapshot_id <= $mark AND started_at BETWEEN $least AND $most AND NOT is_duplicate_id AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
)
SELECT DISTINCT s.src, s.dst, s.medium, s.probe_type, minute_of(s.sample_at) AS bucket_at
FROM sample AS s
JOIN changed AS c
    ON c.agent = s.agent AND c.boot = s.boot AND s.sample_at > c.degraded_from_at AND s.sample_at <= c.degraded_until_at
ORDER BY ALL;
