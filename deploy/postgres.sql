-- The catalog of a scaled-out warehouse: a database, the role that collectors write with, and one that only reads. Run it as a superuser:
--     psql -f deploy/postgres.sql                        database isochrone
--     psql -v database=other -f deploy/postgres.sql      another name
-- and give each role its password once: psql -c '\password isochrone' and psql -c '\password isochrone_reader'. Again does no harm.
\set ON_ERROR_STOP on
\if :{?database}
\else
\set database isochrone
\endif

SELECT 'CREATE ROLE isochrone LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'isochrone') \gexec
SELECT 'CREATE ROLE isochrone_reader LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'isochrone_reader') \gexec
SELECT format('CREATE DATABASE %I OWNER isochrone ENCODING ''UTF8'' TEMPLATE template0', :'database')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec

REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO isochrone_reader;
\connect :"database"
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO isochrone;
GRANT USAGE ON SCHEMA public TO isochrone_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO isochrone_reader;
-- DuckLake makes tables as it goes: small commits wait in tables of their own.
ALTER DEFAULT PRIVILEGES FOR ROLE isochrone IN SCHEMA public GRANT SELECT ON TABLES TO isochrone_reader;
