-- Merging sorts the rows of the file it makes in memory: of 64 MB those of half a gigabyte, of DuckLake's 512 MB those of several.
CALL wh.set_option('target_file_size', '64MB');
