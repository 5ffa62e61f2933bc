-- Question: until when are minutes rolled up? Grain: one row; NULL: none is.
SELECT rolled_at FROM rollup_mark;
