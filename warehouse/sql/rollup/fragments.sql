-- Question: what do the rows committed after snapshot $after, up to $upto, add to rollup_minute? Grain: as rollup_minute. Units: ns.
WITH sample AS (
    -- include rollup/sample
),
graded AS (
    -- include rollup/graded
)
-- include rollup/minutes
