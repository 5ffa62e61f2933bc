-- Keep a record of what was removed.
INSERT INTO expiry VALUES ($table_name, $before_at, $row_count, $expired_at);
