-- Question: what do the minutes of `regraded` hold by what is known now of their agents? Grain: as rollup_minute. Units: ns.
-- Rows committed up to snapshot $upto, of [$least, $most]; those after it come as fragments.
WITH every AS (
    -- include rollup/sample
),
sample AS (
    SELECT s.*
    FROM every AS s
    JOIN regraded AS r
        ON r.src = s.src AND r.dst = s.dst AND r.medium = s.medium AND r.probe_type = s.probe_type AND r.bucket_at = minute_of(s.sample_at)
),
graded AS (
    -- include rollup/graded
)
-- include rollup/minutes
