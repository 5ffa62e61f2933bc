-- Question: which minutes hold packets whose agent's grade is known otherwise now (`changed`)? Grain: src, dst, medium, probe type, minute.
-- Rows committed up to snapshot $upto, of [$least, $most].
WITH sample AS (
    -- include rollup/sample
)
SELECT DISTINCT s.src, s.dst, s.medium, s.probe_type, minute_of(s.sample_at) AS bucket_at
FROM sample AS s
JOIN changed AS c
    ON c.agent = s.agent AND c.boot = s.boot AND s.sample_at > c.degraded_from_at AND s.sample_at <= c.degraded_until_at
ORDER BY ALL;
