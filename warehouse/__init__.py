"""DuckDB on DuckLake: schema, exactly-once ingest, queries, and the collector, the agents' front door.

The only package that imports duckdb and pyarrow. What it hands out are records and Arrow tables.
"""

from warehouse.connect import Warehouse, open_warehouse

__all__ = ["Warehouse", "open_warehouse"]
