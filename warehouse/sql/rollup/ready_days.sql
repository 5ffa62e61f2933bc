-- Question: which days of before $over are to be made, all of whose hours are? Grain: day; the first $most.
SELECT day_at
FROM rollup_touched_day
WHERE day_at <= $over AND day_at NOT IN (SELECT day_of(hour_at) FROM rollup_touched)
ORDER BY day_at
LIMIT $most;
