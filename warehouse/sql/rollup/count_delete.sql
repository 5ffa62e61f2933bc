-- Take out the days in `incoming`, to count them anew.
DELETE FROM measurement_count WHERE (table_name, day_at) IN (SELECT (table_name, day_at) FROM incoming);
