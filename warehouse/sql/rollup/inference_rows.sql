-- Part of statements: `request`, inference requests that count, added up by bucket_at. Grain: as rollup_inference. Units: ns.
-- What the quantities are: see inference_pools.
SELECT
    src, dst, medium, model, connection, bucket_at,
    CAST(sum(requests) AS BIGINT) AS request_count, CAST(sum(errors) AS BIGINT) AS error_count,
    CAST(sum(unstreamed) AS BIGINT) AS unstreamed_count, CAST(sum(tokens) AS BIGINT) AS output_tokens, max(last_at) AS newest_at,
    coalesce(list_sort(list({'quantity': quantity, 'bucket': bucket, 'n': n}) FILTER (bucket IS NOT NULL)), []) AS buckets
FROM (
    SELECT
        src, dst, medium, model, connection, bucket_at, NULL AS quantity, NULL AS bucket, NULL AS n,
        count(*) AS requests, count(*) FILTER (outcome <> 'ok') AS errors, count(*) FILTER (is_streamed IS FALSE) AS unstreamed,
        CAST(sum(output_tokens) AS BIGINT) AS tokens, max(started_at) AS last_at
    FROM request
    GROUP BY ALL
    UNION ALL
    SELECT src, dst, medium, model, connection, bucket_at, quantity, rtt_bucket(value_ns), count(*), NULL, NULL, NULL, NULL, NULL
    FROM (
        SELECT src, dst, medium, model, connection, bucket_at, unnest(quantities, recursive := true)
        FROM (
            SELECT
                *,
                [
                    {'quantity': 'ttft', 'value_ns': if(outcome = 'ok', ttft_ns, NULL)::DOUBLE},
                    {'quantity': 'setup', 'value_ns': if(outcome = 'ok', coalesce(dns_ns, 0) + tcp_ns + coalesce(tls_ns, 0), NULL)},
                    {'quantity': 'network', 'value_ns': if(outcome = 'ok' AND tcp_rtt_ns IS NOT NULL, least(tcp_rtt_ns, ttft_ns), NULL)},
                    {'quantity': 'machine', 'value_ns': if(outcome = 'ok' AND ttft_ns - tcp_rtt_ns IS NOT NULL, greatest(ttft_ns - tcp_rtt_ns, 0), NULL)},
                    {'quantity': 'tpot', 'value_ns': if(outcome = 'ok', list_avg(token_gaps_ns), NULL)},
                    {'quantity': 'longest_gap', 'value_ns': if(outcome = 'ok', list_max(token_gaps_ns), NULL)},
                    {'quantity': 'tcp_rtt', 'value_ns': tcp_rtt_ns}
                ] AS quantities
            FROM request
        )
    )
    WHERE value_ns IS NOT NULL
    GROUP BY ALL
)
GROUP BY ALL
