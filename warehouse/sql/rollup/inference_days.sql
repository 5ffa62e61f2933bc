-- Question: what do the hours of inference requests of the days in `ready`, which lie in [$least, $most), add up to?
-- Grain: as rollup_inference_day. Units: ns.
WITH part AS (
    SELECT * REPLACE (day_of(bucket_at) AS bucket_at)
    FROM rollup_inference
    WHERE bucket_at >= $least AND bucket_at < $most AND day_of(bucket_at) IN (SELECT day_at FROM ready)
)
SELECT
    src, dst, medium, model, connection, bucket_at,
    CAST(sum(requests) AS BIGINT) AS request_count, CAST(sum(errors) AS BIGINT) AS error_count,
    CAST(sum(unstreamed) AS BIGINT) AS unstreamed_count, CAST(sum(tokens) AS BIGINT) AS output_tokens, max(last_at) AS newest_at,
    coalesce(list_sort(list({'quantity': quantity, 'bucket': bucket, 'n': n}) FILTER (bucket IS NOT NULL)), []) AS buckets
FROM (
    SELECT
        src, dst, medium, model, connection, bucket_at, NULL AS quantity, NULL AS bucket, NULL AS n,
        CAST(sum(request_count) AS BIGINT) AS requests, CAST(sum(error_count) AS BIGINT) AS errors,
        CAST(sum(unstreamed_count) AS BIGINT) AS unstreamed, CAST(sum(output_tokens) AS BIGINT) AS tokens, max(newest_at) AS last_at
    FROM part
    GROUP BY ALL
    UNION ALL
    SELECT
        src, dst, medium, model, connection, bucket_at, b.quantity, b.bucket, CAST(sum(b.n) AS BIGINT),
        NULL, NULL, NULL, NULL, NULL
    FROM part, unnest(buckets) AS t (b)
    GROUP BY ALL
)
GROUP BY ALL;
