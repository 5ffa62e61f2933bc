"""How a question is asked: SQL by name, with its parameters, of a warehouse or within one snapshot of it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb

from records.errors import UserError
from records.measurement import Hop, MplsLabel, TracerouteResult
from warehouse.connect import Warehouse
from warehouse.faults import reported
from warehouse.statements import bound

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["answer_rows", "answer_table", "check_parameters", "reading", "traceroute_of"]


@contextlib.contextmanager
def reading(wh: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """One snapshot for several questions, in the order they are asked."""
    with reported(), wh.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            yield cursor
        finally:
            with contextlib.suppress(duckdb.Error):
                cursor.execute("ROLLBACK")


def answer_table(wh: Warehouse | duckdb.DuckDBPyConnection, name: str, without: Collection[str] = (), **parameters: object) -> pa.Table:
    check_parameters(parameters)
    text, parameters = bound(f"queries/{name}", parameters, without)
    with reported():
        if isinstance(wh, duckdb.DuckDBPyConnection):
            return wh.execute(text, parameters or None).to_arrow_table()
        with wh.cursor() as cursor:
            return cursor.execute(text, parameters or None).to_arrow_table()


def check_parameters(parameters: Mapping[str, object]) -> None:
    for key, value in parameters.items():
        if isinstance(value, datetime) and value.tzinfo is None:
            raise UserError(f"{key} {value.isoformat()} has no time zone; give UTC, as in {value.isoformat()}+00:00")
        if isinstance(value, str) and "\0" in value:
            raise UserError(f"{key} {value!r} holds a NUL character")


def answer_rows(wh: Warehouse | duckdb.DuckDBPyConnection, name: str, **parameters: object) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = answer_table(wh, name, (), **parameters).to_pylist()
    return rows


def traceroute_of(row: dict[str, Any]) -> TracerouteResult:
    hops = tuple(Hop(**{**hop, "mpls": tuple(MplsLabel(**entry) for entry in hop["mpls"])}) for hop in row.pop("hops"))
    return TracerouteResult(id=row.pop("measurement_id"), hops=hops, **row)
