"""DuckDB on DuckLake: schema, ingest, queries, and the collector, the agents' front door."""
