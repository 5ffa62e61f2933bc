-- Question: where do an inference server's own numbers and its clients' waits disagree? Grain: agent, target and reading of its metrics, of the
-- 24 h up to the newest one, beside the requests that the same agent made of the same site since the reading before. Stable.
-- The rule and its tolerance (50 ms and 10 % of its wait for each request) are those of records.claims, docs/inference.md explains them.
CREATE OR REPLACE VIEW serving_claims AS
WITH reading AS (
    SELECT
        *, epoch_ns(started_at) AS begin_ns, epoch_ns(started_at) + took_ns AS end_ns,
        lag(started_at) OVER before AS since_at,
        server_started_at IS NOT DISTINCT FROM lag(server_started_at) OVER before AS is_same_life,
        ttft_count - lag(ttft_count) OVER before AS ttft_n, ttft_sum_ns - lag(ttft_sum_ns) OVER before AS ttft_ns,
        queue_count - lag(queue_count) OVER before AS queue_n, queue_sum_ns - lag(queue_sum_ns) OVER before AS queue_ns,
        prefill_count - lag(prefill_count) OVER before AS prefill_n, prefill_sum_ns - lag(prefill_sum_ns) OVER before AS prefill_ns
    FROM valid_serving
    WHERE outcome = 'ok' AND started_at > (SELECT max(started_at) FROM valid_serving) - INTERVAL 24 HOUR
    WINDOW before AS (PARTITION BY agent, src, dst, medium, target ORDER BY started_at)
),
told AS (
    SELECT
        *,
        CASE
            WHEN NOT is_same_life THEN NULL
            WHEN ttft_n >= 0 AND ttft_ns >= 0 THEN ttft_n
            WHEN least(queue_n, queue_ns, prefill_n, prefill_ns) >= 0 AND queue_ns IS NOT NULL AND prefill_ns IS NOT NULL THEN least(queue_n, prefill_n)
        END AS counted,
        CASE WHEN ttft_n >= 0 AND ttft_ns >= 0 THEN ttft_ns ELSE queue_ns + prefill_ns END AS counted_ns
    FROM reading
),
waited AS (
    SELECT
        agent, src, dst, medium, sent_ns, sent_ns + ttft_ns AS first_ns, rtt_ns,
        greatest(0, ttft_ns - rtt_ns) AS machine_ns, 50_000_000 + greatest(0, ttft_ns - rtt_ns) // 10 AS allowed_ns
    FROM (
        SELECT
            agent, src, dst, medium, ttft_ns, coalesce(tcp_min_rtt_ns, tcp_rtt_ns) AS rtt_ns,
            epoch_ns(started_at) + coalesce(dns_ns, 0) + coalesce(tcp_ns, 0) + coalesce(tls_ns, 0) AS sent_ns
        FROM valid_inference
        WHERE started_at > (SELECT max(started_at) FROM valid_serving) - INTERVAL 25 HOUR
    )
    WHERE ttft_ns IS NOT NULL AND rtt_ns IS NOT NULL
),
beside AS (
    SELECT
        r.agent, r.src, r.dst, r.medium, r.target, r.server, r.since_at, r.started_at, r.counted, r.counted_ns,
        r.requests_running + r.requests_waiting AS said,
        count(w.sent_ns) FILTER (w.sent_ns >= epoch_ns(r.since_at) AND w.first_ns <= r.begin_ns) AS answered,
        sum(w.machine_ns) FILTER (w.sent_ns >= epoch_ns(r.since_at) AND w.first_ns <= r.begin_ns) AS seen_ns,
        sum(w.allowed_ns) FILTER (w.sent_ns >= epoch_ns(r.since_at) AND w.first_ns <= r.begin_ns) AS allowed_ns,
        count(w.sent_ns) FILTER (w.sent_ns + w.rtt_ns + 50_000_000 <= r.begin_ns AND r.end_ns <= w.first_ns - w.rtt_ns - 50_000_000) AS there
    FROM told AS r
    LEFT JOIN waited AS w
        ON w.agent = r.agent AND w.src = r.src AND w.dst = r.dst AND w.medium = r.medium
        AND w.first_ns >= epoch_ns(coalesce(r.since_at, r.started_at)) AND w.sent_ns <= r.begin_ns
    GROUP BY ALL
)
SELECT
    agent, src, dst, medium, target, server, since_at, started_at,
    answered AS answered_count, counted AS counted_count, seen_ns / 1e6 AS waited_ms, CASE WHEN counted IS NOT NULL THEN counted_ns END / 1e6 AS counted_ms,
    there AS waiting_clients, said AS server_requests,
    CASE
        WHEN answered > 0 AND counted < answered THEN 'uncounted'
        WHEN answered > 0 AND counted IS NOT NULL AND seen_ns > counted_ns + allowed_ns THEN 'unaccounted'
        WHEN answered > 0 AND counted = answered AND counted_ns > seen_ns + allowed_ns THEN 'overstated'
        WHEN said < there THEN 'absent'
    END AS disagreement
FROM beside;
COMMENT ON VIEW serving_claims IS 'Every reading of a server''s metrics beside what the same agent''s requests waited since the one before: do they agree?';
INSERT INTO view_column VALUES
('serving_claims', 'agent', 'Agent that read and asked; never NULL'),
('serving_claims', 'src', 'Site id of the agent; never NULL'),
('serving_claims', 'dst', 'Site id of the server; never NULL'),
('serving_claims', 'medium', 'internet, backbone or direct-connect; never NULL'),
('serving_claims', 'target', 'URL of the metrics; never NULL'),
('serving_claims', 'server', 'Whose metrics they are: vllm, sglang, triton, trtllm or llamacpp; never NULL'),
('serving_claims', 'since_at', 'The reading before, UTC; NULL: this is the first'),
('serving_claims', 'started_at', 'This reading, UTC; never NULL'),
('serving_claims', 'answered_count', 'Requests of the agent that were sent and had their first token in between; never NULL'),
('serving_claims', 'counted_count', 'Requests that the server counted in between, of whomever; NULL: it publishes no times, or began anew'),
('serving_claims', 'waited_ms', 'Wait of the agent''s requests, all added up: TTFT less one round trip, ms; NULL: there was none'),
('serving_claims', 'counted_ms', 'Time to first token that the server counted, all added up, ms; NULL: as counted_count'),
('serving_claims', 'waiting_clients', 'Requests of the agent that were certainly with the server at the reading, without a token yet; never NULL'),
('serving_claims', 'server_requests', 'Requests running and waiting by the server''s word; NULL: not published'),
('serving_claims', 'disagreement', 'unaccounted, overstated, uncounted or absent (docs/inference.md); NULL: they agree, or there is nothing to compare');
