-- Parquet files of two thirds of the size. Files written before stay as they are, until they are merged.
CALL wh.set_option('parquet_compression', 'zstd');
