-- Part of statements: what `graded` adds to rollup_minute. Grain: as rollup_minute. Units: ns.
-- A sum that no number holds is the largest there is: values of one link must not stop the roll-ups of all.
-- Counted by bucket first: few rows remain after that step, whatever there is. (A sorted aggregate takes ten times as long as list_sort.)
SELECT
    src, dst, medium, probe_type, is_degraded_agent, bucket_at,
    CAST(sum(sent) AS BIGINT) AS sent_count, CAST(sum(CASE WHEN probe_type = 'ping' THEN lost END) AS BIGINT) AS lost_count,
    CAST(sum(n) AS BIGINT) AS reply_count,
    min(least_ns) AS min_ns, max(most_ns) AS max_ns,
    CAST(if(sum(total_ns) > 9223372036854775807, 9223372036854775807, sum(total_ns)) AS BIGINT) AS sum_ns, max(last_at) AS newest_at,
    coalesce(list_sort(list({'bucket': bucket, 'n': n}) FILTER (bucket IS NOT NULL)), []) AS buckets
FROM (
    SELECT
        src, dst, medium, probe_type, is_degraded_agent, bucket_at, CASE WHEN value_ns IS NOT NULL THEN rtt_bucket(value_ns) END AS bucket,
        count(*) FILTER (is_sent) AS sent, count(*) FILTER (is_lost) AS lost, count(value_ns) AS n,
        min(value_ns) AS least_ns, max(value_ns) AS most_ns, sum(value_ns) AS total_ns, max(sample_at) AS last_at
    FROM graded
    GROUP BY ALL
)
GROUP BY ALL
