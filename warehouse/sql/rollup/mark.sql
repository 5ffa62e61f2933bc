-- Move the mark.
UPDATE rollup_mark SET snapshot_id = $upper, rolled_at = $now;
