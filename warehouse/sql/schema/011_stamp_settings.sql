-- Rounds of a whole fleet come in bulk and go to Parquet at once, as in 003.
CALL wh.set_option('data_inlining_row_limit', 0, table_name => 'stamp');
