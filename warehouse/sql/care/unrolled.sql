-- Question: how many raw rows that arrived before $before_at are not in the roll-ups yet? Grain: one row.
SELECT
    (SELECT count(*) FROM ping_sample WHERE snapshot_id > (SELECT snapshot_id FROM rollup_mark) AND received_at < $before_at)
    + (SELECT count(*) FROM http WHERE snapshot_id > (SELECT snapshot_id FROM rollup_mark) AND received_at < $before_at)
    + (SELECT count(*) FROM inference WHERE snapshot_id > (SELECT snapshot_id FROM rollup_mark) AND received_at < $before_at) AS row_count;
