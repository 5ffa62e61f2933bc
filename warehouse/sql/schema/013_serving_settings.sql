-- Connections come a few at a time: they stay in the catalog until the next maintenance, as in 003.
CALL wh.set_option('data_inlining_row_limit', 200, table_name => 'serving');
