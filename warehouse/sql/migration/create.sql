-- The record of migrations; the first thing in a new warehouse.
CREATE TABLE IF NOT EXISTS schema_migration (name VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, applied_at TIMESTAMPTZ NOT NULL);
COMMENT ON TABLE schema_migration IS 'Which schema files were applied: one row each, and one each time the views were made anew';
COMMENT ON COLUMN schema_migration.name IS 'File of sql/schema without .sql, or views; never NULL';
COMMENT ON COLUMN schema_migration.sha256 IS 'SHA-256 of its text, hex; never NULL';
COMMENT ON COLUMN schema_migration.applied_at IS 'When it was applied, UTC; never NULL';
