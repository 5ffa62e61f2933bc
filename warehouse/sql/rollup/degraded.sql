-- Question: in which unbroken times did agents fail their own checks, by what is known now? Grain: agent, boot, time (from, until].
SELECT agent, boot, min(degraded_from_at) AS degraded_from_at, max(degraded_until_at) AS degraded_until_at
FROM (
    SELECT *, count(*) FILTER (is_start) OVER (PARTITION BY agent, boot ORDER BY degraded_from_at) AS number
    FROM (
        SELECT
            *,
            degraded_from_at > coalesce(
                lag(degraded_until_at) OVER (PARTITION BY agent, boot ORDER BY degraded_from_at), '-infinity'::TIMESTAMPTZ
            ) AS is_start
        FROM agent_degraded
    )
)
GROUP BY agent, boot, number;
