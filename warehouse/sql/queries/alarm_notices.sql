-- Question: who was told of an alarm? Grain: notice that tells of the alarm $id, its text left out.
SELECT id, receiver, status, created_at, attempt_count, next_at, sent_at, failed_at, error
FROM alarm_notice
WHERE list_contains(alarm_ids, $id)
ORDER BY created_at, id;
