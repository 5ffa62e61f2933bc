-- Part of statements: what was sent in [$least, $most] and committed after snapshot $after, up to $upto. Grain: probe packet, connection,
-- inference request. Which rows count is said as in valid_ping, but that those of a degraded agent are kept apart: a link may have no others.
-- Nothing committed after $after arrived before $..._arrived: files without any are not opened (see warehouse.arrived).
-- part ping_sample
SELECT
    'ping' AS probe_type, agent, boot, src, dst, medium, sent_at AS sample_at, rtt_ns AS value_ns,
    outcome <> 'send_failed' AS is_sent, outcome IN ('timeout', 'unreachable') AS is_lost
FROM ping_sample
WHERE snapshot_id > $after AND snapshot_id <= $upto AND received_at >= $ping_sample_arrived AND sent_at BETWEEN $least AND $most
    AND NOT is_duplicate_id AND epoch_us(sent_at) <= epoch_us(received_at) + 86_400_000_000
-- end ping_sample
-- part http
UNION ALL
SELECT
    'http' AS probe_type, agent, boot, src, dst, medium, started_at AS sample_at, tcp_rtt_ns AS value_ns, true AS is_sent,
    NULL::BOOLEAN AS is_lost
FROM http
WHERE snapshot_id > $after AND snapshot_id <= $upto AND received_at >= $http_arrived AND started_at BETWEEN $least AND $most
    AND NOT is_duplicate_id AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
-- end http
-- part inference
UNION ALL
SELECT
    'inference' AS probe_type, agent, boot, src, dst, medium, started_at AS sample_at, if(outcome = 'ok', ttft_ns, NULL) AS value_ns,
    true AS is_sent, NULL::BOOLEAN AS is_lost
FROM inference
WHERE snapshot_id > $after AND snapshot_id <= $upto AND received_at >= $inference_arrived AND started_at BETWEEN $least AND $most
    AND NOT is_duplicate_id AND epoch_us(started_at) <= epoch_us(received_at) + 86_400_000_000
-- end inference
