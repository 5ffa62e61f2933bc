-- Part of statements: what `part`, rows of roll-ups, add up to. Grain: as rollup_hour. Units: ns.
-- A sum that no number holds is the largest there is: values of one link must not stop the roll-ups of all.
SELECT
    src, dst, medium, probe_type, is_degraded_agent, bucket_at,
    CAST(sum(sent) AS BIGINT) AS sent_count, CAST(sum(lost) AS BIGINT) AS lost_count, CAST(sum(replies) AS BIGINT) AS reply_count,
    min(least_ns) AS min_ns, max(most_ns) AS max_ns,
    CAST(if(sum(total_ns) > 9223372036854775807, 9223372036854775807, sum(total_ns)) AS BIGINT) AS sum_ns, max(last_at) AS newest_at,
    coalesce(list_sort(list({'bucket': bucket, 'n': n}) FILTER (bucket IS NOT NULL)), []) AS buckets
FROM (
    SELECT
        src, dst, medium, probe_type, is_degraded_agent, bucket_at, NULL AS bucket, NULL AS n,
        CAST(sum(sent_count) AS BIGINT) AS sent, CAST(sum(lost_count) AS BIGINT) AS lost, CAST(sum(reply_count) AS BIGINT) AS replies,
        min(min_ns) AS least_ns, max(max_ns) AS most_ns,
        CAST(if(sum(sum_ns) > 9223372036854775807, 9223372036854775807, sum(sum_ns)) AS BIGINT) AS total_ns, max(newest_at) AS last_at
    FROM part
    GROUP BY ALL
    UNION ALL
    SELECT
        src, dst, medium, probe_type, is_degraded_agent, bucket_at, b.bucket, CAST(sum(b.n) AS BIGINT),
        NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM part, unnest(buckets) AS t (b)
    GROUP BY ALL
)
GROUP BY ALL
