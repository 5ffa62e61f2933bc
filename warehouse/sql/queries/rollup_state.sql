-- Question: how far are the roll-ups, and since when is what there? Grain: one row. NULL: no touched hour in [$since, $until); nothing has expired.
SELECT
    (SELECT snapshot_id FROM rollup_mark) AS mark,
    (SELECT min(hour_at) FROM rollup_touched WHERE hour_at >= $since AND hour_at < $until) AS touched_from,
    (SELECT max(hour_at) FROM rollup_touched WHERE hour_at >= $since AND hour_at < $until) AS touched_last,
    (SELECT max(before_at) FROM expiry WHERE table_name = 'ping_sample') AS raw_from,
    (SELECT max(before_at) FROM expiry WHERE table_name = 'rollup_minute') AS minute_from;
