-- Question: for which times is an agent's grade known otherwise now (`known`) than at the newest pass? Grain: agent, boot, (from, until].
WITH paired AS (
    SELECT
        agent, boot, degraded_from_at,
        k.degraded_until_at AS now_until_at, b.degraded_until_at AS before_until_at
    FROM known AS k
    FULL JOIN rollup_degraded AS b USING (agent, boot, degraded_from_at)
)
SELECT
    agent, boot,
    -- A time that has only become longer or shorter has changed at its end.
    coalesce(least_of_both, degraded_from_at) AS degraded_from_at,
    greatest_of_both AS degraded_until_at
FROM (
    SELECT
        *,
        CASE WHEN now_until_at IS NOT NULL AND before_until_at IS NOT NULL THEN least(now_until_at, before_until_at) END AS least_of_both,
        greatest(coalesce(now_until_at, before_until_at), coalesce(before_until_at, now_until_at)) AS greatest_of_both
    FROM paired
)
WHERE now_until_at IS DISTINCT FROM before_until_at;
