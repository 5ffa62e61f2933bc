"""The schema explains itself, and its SQL agrees with the vocabulary's Python."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.histogram import GAMMA, bucket_of, bucket_value_ns
from records.place import Site
from records.place import fibre_floor_ns as floor_of
from warehouse import Warehouse
from warehouse.statements import SQL_FOLDER, folder
from warehouse.workbench import schema

QUERIES = folder("queries")


def test_every_column_has_a_comment(shared: Warehouse) -> None:
    """Every table, view and column says what it means; columns also say what NULL means or that it is never NULL."""
    docs = schema(shared)
    assert {"ping_sample", "traceroute", "throughput", "inference", "agent_status", "site", "batch", "reject", "rtt_matrix"} <= {
        doc.name for doc in docs
    }
    assert [doc.name for doc in docs if not doc.comment] == []
    assert [f"{doc.name}.{column.name}" for doc in docs for column in doc.columns if not column.comment] == []
    silent = [f"{doc.name}.{c.name}" for doc in docs for c in doc.columns if "NULL" not in (c.comment or "")]
    assert silent == []
    with shared.cursor() as cursor:  # and none is passed over, by DuckDB's own count
        counted = cursor.execute("SELECT count(*) FROM duckdb_columns() WHERE database_name = 'wh' AND schema_name = 'main'").fetchone()
    assert counted == (sum(len(doc.columns) for doc in docs),)


def test_duration_columns_name_their_unit(shared: Warehouse) -> None:
    """A column that ends in _ns, _ms, _s, _bps or _bytes says so in its comment too, or its comment speaks of that unit."""
    words = {"_ns": "ns", "_ms": "ms", "_s": "s", "_bps": "bits per second", "_bytes": r"(bytes|Bytes|octets|Octets)"}
    wrong = [
        f"{doc.name}.{column.name}"
        for doc in schema(shared)
        for column in doc.columns
        for ending, word in words.items()
        if column.name.endswith(ending) and not re.search(rf"\b{word}\b", column.comment or "")
    ]
    assert wrong == []


def test_no_comment_speaks_of_a_column_that_is_not_there(shared: Warehouse) -> None:
    """Comments of views fit their columns exactly."""
    with shared.cursor() as cursor:
        stray = cursor.execute(
            "SELECT view_name, column_name FROM view_column EXCEPT SELECT name, column_name FROM data_dictionary"
        ).fetchall()
        double = cursor.execute("SELECT view_name, column_name FROM view_column GROUP BY ALL HAVING count(*) > 1").fetchall()
    assert stray == []
    assert double == []


def test_every_view_answers_on_an_empty_warehouse(wh: Warehouse) -> None:
    """No view fails for want of rows."""
    with wh.cursor() as cursor:
        for doc in schema(wh):
            if doc.kind == "view" and doc.name != "data_dictionary":
                assert cursor.execute(f"FROM {doc.name}").fetchall() == [], doc.name


@pytest.mark.parametrize(("name", "text"), QUERIES, ids=[name for name, _ in QUERIES])
def test_queries_open_with_their_question(name: str, text: str) -> None:
    """Each query file starts with its question and its grain."""
    header = "".join(line for line in text.splitlines() if line.startswith("--"))
    assert text.startswith("-- Question: ")
    assert "Grain:" in header


def test_every_statement_file_says_what_it_is_for() -> None:
    """Each .sql file begins with a comment."""
    assert [path.name for path in SQL_FOLDER.rglob("*.sql") if not path.read_text().startswith("-- ")] == []


def _sql_buckets(wh: Warehouse, values: list[int]) -> list[int]:
    with wh.cursor() as cursor:
        rows = cursor.execute("SELECT rtt_bucket(v) FROM (SELECT unnest($v::BIGINT[]) AS v)", {"v": values}).fetchall()
    return [row[0] for row in rows]


def test_sql_buckets_are_those_of_python_at_every_boundary(shared: Warehouse) -> None:
    """The SQL macro puts the integers around every bucket boundary up to a day into the bucket Python does."""
    top = bucket_of(86_400 * 10**9)
    values = sorted({max(0, math.floor(GAMMA**i) + d) for i in range(top + 1) for d in (-1, 0, 1, 2)})
    assert _sql_buckets(shared, values) == [bucket_of(value) for value in values]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=200))
def test_sql_buckets_are_those_of_python(shared: Warehouse, values: list[int]) -> None:
    """The SQL macro and records.histogram agree on any value."""
    assert _sql_buckets(shared, values) == [bucket_of(value) for value in values]


def test_sql_bucket_values_are_those_of_python(shared: Warehouse) -> None:
    """What a bucket stands for is the same number in SQL and in Python, but for rounding."""
    with shared.cursor() as cursor:
        rows = cursor.execute("SELECT b, rtt_bucket_value_ns(b) FROM range(1700) AS t (b)").fetchall()
    assert all(math.isclose(value, bucket_value_ns(bucket), rel_tol=1e-12) for bucket, value in rows)


@settings(deadline=None)
@given(st.tuples(*[st.floats(-90, 90), st.floats(-180, 180)] * 2))
def test_sql_fibre_floor_is_that_of_python(shared: Warehouse, place: tuple[float, float, float, float]) -> None:
    """The SQL macro gives the fibre floor of records.place, to a microsecond."""
    lat_a, lon_a, lat_b, lon_b = place
    a = Site(id="a", kind="pop", name="A", lat=lat_a, lon=lon_a)
    b = Site(id="b", kind="pop", name="B", lat=lat_b, lon=lon_b)
    with shared.cursor() as cursor:
        row = cursor.execute("SELECT fibre_floor_ns($1, $2, $3, $4)", list(place)).fetchone()
    assert row is not None
    assert row[0] == pytest.approx(floor_of(a, b), abs=1000)
