"""The rows of an answer as Python values, or as the bytes of a Parquet file; columns of one name are told apart."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.workbench import distinct

__all__ = ["parquet", "rows"]


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """One dictionary per row; of columns with the same name each keeps its own value under a numbered name."""
    return _distinct(table).to_pylist()  # type: ignore[no-any-return]


def parquet(table: pa.Table) -> bytes:
    """The table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(_distinct(table), sink)
    return sink.getvalue()


def _distinct(table: pa.Table) -> pa.Table:
    return table.rename_columns(distinct(table.column_names))
