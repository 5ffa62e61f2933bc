-- Question: what was each receiver last told of each cause? Grain: receiver, group_key; the newest notice after $since, and how many came after $hour.
SELECT
    receiver, group_key, status, alarm_ids, created_at,
    CAST(sum(recent) OVER (PARTITION BY receiver) AS BIGINT) AS recent_count
FROM (
    SELECT
        receiver, group_key, status, alarm_ids, created_at, id,
        count(*) FILTER (created_at > $hour) OVER causes AS recent,
        row_number() OVER (PARTITION BY receiver, group_key ORDER BY created_at DESC, id DESC) AS place
    FROM alarm_notice
    WHERE created_at > $since
    WINDOW causes AS (PARTITION BY receiver, group_key)
)
WHERE place = 1
ORDER BY receiver, group_key;
