-- Roll-ups of a large fleet come in bulk and go to Parquet at once; the bookkeeping is a few rows and stays in the catalog.
CALL wh.set_option('data_inlining_row_limit', 0, table_name => 'rollup_minute');
CALL wh.set_option('data_inlining_row_limit', 0, table_name => 'rollup_hour');
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'rollup_mark');
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'rollup_touched');
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'rollup_degraded');
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'retention');
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'expiry');
