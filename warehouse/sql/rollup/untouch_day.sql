-- The days in `ready` are made.
DELETE FROM rollup_touched_day WHERE day_at IN (SELECT day_at FROM ready);
