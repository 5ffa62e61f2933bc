-- The hours in `ready` are made.
DELETE FROM rollup_touched WHERE hour_at IN (SELECT hour_at FROM ready);
