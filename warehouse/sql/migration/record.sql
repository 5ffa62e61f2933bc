-- Record one applied schema file.
INSERT INTO schema_migration VALUES ($name, $sha256, now());
