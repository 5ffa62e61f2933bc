-- Few rows a commit stay in the catalog until the next maintenance and so make no tiny files; packets and paths come
-- in bulk and go to Parquet at once.
CALL wh.set_option('data_inlining_row_limit', 0, table_name => 'ping_sample');
CALL wh.set_option('data_inlining_row_limit', 0, table_name => 'traceroute');
CALL wh.set_option('data_inlining_row_limit', 0, table_name => 'inference');
CALL wh.set_option('data_inlining_row_limit', 0, table_name => 'rtt_matrix');
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'batch');
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'throughput');
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'reject');
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'site');
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'view_column');
