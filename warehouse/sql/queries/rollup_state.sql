-- Question: how far are the roll-ups, which hours have been touched since they were made, and since when is what there? Grain: one row.
-- NULL: nothing of it has expired.
SELECT
    (SELECT snapshot_id FROM rollup_mark) AS mark,
    (SELECT coalesce(list(hour_at), []) FROM rollup_touched) AS touched,
    e.raw_from, e.minute_from
FROM (
    SELECT
        max(before_at) FILTER (table_name = 'ping_sample') AS raw_from,
        max(before_at) FILTER (table_name = 'rollup_minute') AS minute_from
    FROM expiry
) AS e;
