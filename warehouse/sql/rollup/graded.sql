-- Part of statements: `sample` with its minute, and whether its agent failed its own checks at that time.
SELECT s.*, d.agent IS NOT NULL AS is_degraded_agent, minute_of(s.sample_at) AS bucket_at
FROM sample AS s
LEFT JOIN agent_degraded AS d
    ON d.agent = s.agent AND d.boot = s.boot AND s.sample_at > d.degraded_from_at AND s.sample_at <= d.degraded_until_at
