-- A few rows at a time, often replaced: they stay in the catalog until the next maintenance.
CALL wh.set_option('data_inlining_row_limit', 1000, table_name => 'alarm');
CALL wh.set_option('data_inlining_row_limit', 1000, table_name => 'alarm_silence');
CALL wh.set_option('data_inlining_row_limit', 1000, table_name => 'alarm_notice');
