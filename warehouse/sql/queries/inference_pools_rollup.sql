-- Question: as inference_pools, from roll-ups; ($since, $until]. Grain: src, dst, medium, model, connection. Units: ms.
-- Counts are exact, quantiles within 1 % (nearest rank over the added log buckets).
WITH
-- include rollup/requests_rolled
,
part AS (
    SELECT * FROM rolled
),
pool AS (
    SELECT
        src, dst, medium, model, connection, row_number() OVER () AS pool,
        CAST(sum(request_count) AS BIGINT) AS requests, CAST(sum(error_count) AS BIGINT) AS errors,
        CAST(sum(unstreamed_count) AS BIGINT) AS unstreamed, CAST(sum(output_tokens) AS BIGINT) AS output_tokens, max(newest_at) AS last_at
    FROM part
    GROUP BY src, dst, medium, model, connection
),
bucket AS (
    SELECT pool, b.quantity AS quantity, b.bucket AS bucket, CAST(sum(b.n) AS BIGINT) AS n
    FROM (SELECT l.pool, unnest(p.buckets) AS b FROM part AS p JOIN pool AS l USING (src, dst, medium, model, connection))
    GROUP BY ALL
),
ranked AS (
    SELECT
        *,
        CAST(sum(n) OVER (PARTITION BY pool, quantity ORDER BY bucket) AS BIGINT) AS seen,
        CAST(sum(n) OVER (PARTITION BY pool, quantity) AS BIGINT) AS total
    FROM bucket
),
quantile AS (
    SELECT
        pool, quantity,
        rtt_bucket_value_ns(min(bucket) FILTER (seen >= total - (total * 100 - total * 50) // 100)) / 1e6 AS p50_ms,
        rtt_bucket_value_ns(min(bucket) FILTER (seen >= total - (total * 100 - total * 95) // 100)) / 1e6 AS p95_ms
    FROM ranked
    GROUP BY ALL
)
SELECT
    src, dst, medium, model, connection, any_value(requests) AS "count", any_value(errors) AS errors,
    max(p50_ms) FILTER (quantity = 'setup') AS setup_p50_ms,
    max(p50_ms) FILTER (quantity = 'ttft') AS ttft_p50_ms,
    max(p95_ms) FILTER (quantity = 'ttft') AS ttft_p95_ms,
    max(p50_ms) FILTER (quantity = 'network') AS network_p50_ms,
    max(p50_ms) FILTER (quantity = 'machine') AS machine_p50_ms,
    max(p95_ms) FILTER (quantity = 'machine') AS machine_p95_ms,
    max(p50_ms) FILTER (quantity = 'tpot') AS tpot_p50_ms,
    max(p95_ms) FILTER (quantity = 'longest_gap') AS longest_gap_p95_ms,
    any_value(output_tokens) AS output_tokens, any_value(unstreamed) AS unstreamed, any_value(last_at) AS last_at, $grain AS grain
FROM pool
LEFT JOIN quantile USING (pool)
GROUP BY src, dst, medium, model, connection
ORDER BY dst, model, src, medium, connection;
