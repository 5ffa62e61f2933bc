-- A merge holds the writer's lock: one that makes a file of 64 MB for seconds, one of DuckLake's 512 MB for the better part of a minute.
CALL wh.set_option('target_file_size', '64MB');
