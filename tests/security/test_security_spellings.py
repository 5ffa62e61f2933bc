"""Functions that DuckDB's own settings do not hold back: SQLite's scanner reads any file, and setting one of DuckLake's options on a
catalog attached for reading ends the process (a segmentation fault).

The look at a statement is the only wall before them. Here they are put wherever SQL lets a table function stand, however they are
spelled; beside each place an allowed function shows that the place is one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from warehouse_builders import ping, put

from records.errors import UserError
from warehouse import Warehouse, open_warehouse
from warehouse.workbench import run

#: Where a table function, or a question that asks one, may stand: {} is a function of one column a.
PLACES = [
    "FROM {}",
    "SELECT a FROM {}",
    "SELECT (SELECT max(a) FROM {})",
    "SELECT * FROM range(1), LATERAL (SELECT * FROM {})",
    "SELECT * FROM (VALUES ((SELECT max(a) FROM {})))",
    "FROM range(1) CROSS JOIN {}",
    "FROM range(1) SEMI JOIN {} ON true",
    "FROM range(1) LEFT JOIN (FROM {}) ON true",
    "FROM range(1) POSITIONAL JOIN {}",
    "FROM range((SELECT count(*) FROM {}))",
    "FROM summary((FROM {}))",
    "WITH r AS (FROM {}) FROM r",
    "WITH r AS MATERIALIZED (FROM {}) FROM r",
    "WITH RECURSIVE r AS (SELECT NULL AS a UNION ALL SELECT NULL FROM {} WHERE false) FROM r",
    "SELECT 1 UNION ALL SELECT 2 FROM {}",
    "SELECT 1 EXCEPT SELECT 2 FROM {}",
    "SELECT 1 WHERE EXISTS (FROM {})",
    "SELECT 1 WHERE 1 = ANY (SELECT 1 FROM {})",
    "SELECT 1 WHERE 1 NOT IN (SELECT 2 FROM {})",
    "SELECT ARRAY(SELECT a FROM {})",
    "SELECT 1 GROUP BY (SELECT count(*) FROM {})",
    "SELECT 1 HAVING (SELECT count(*) FROM {}) >= 0",
    "SELECT 1 ORDER BY (SELECT count(*) FROM {})",
    "SELECT 1 LIMIT (SELECT count(*) FROM {})",
    "SELECT 1 OFFSET (SELECT count(*) - count(*) FROM {})",
    "SELECT row_number() OVER (ORDER BY (SELECT count(*) FROM {}))",
    "SELECT 1 QUALIFY row_number() OVER (ORDER BY (SELECT count(*) FROM {})) = 1",
    "SELECT count(*) FILTER ((SELECT count(*) FROM {}) >= 0)",
    "SELECT CASE WHEN true THEN (SELECT count(*) FROM {}) END",
    "SELECT {{'a': [(SELECT count(*) FROM {})]}}",
    "SELECT struct_pack(a := (SELECT count(*) FROM {}))",
    "SELECT list_transform([(SELECT count(*) FROM {})], lambda x: x)",
    "SELECT DISTINCT ON ((SELECT count(*) FROM {})) 1",
    "SELECT * REPLACE ((SELECT count(*) FROM {}) AS range) FROM range(1)",
    "SELECT (SELECT count(*) FROM {})::VARCHAR COLLATE nocase",
    "PIVOT (SELECT 1 AS a, 2 AS b FROM {}) ON a IN (1) USING sum(b)",
    "UNPIVOT (SELECT 1 AS a FROM {}) ON a",
    "DESCRIBE FROM {}",
    "SUMMARIZE FROM {}",
    "FROM (DESCRIBE FROM {})",
    "EXPLAIN FROM {}",
    "EXPLAIN ANALYZE FROM {}",
    "EXPLAIN (FORMAT json) FROM {}",
    "/* a */ EXPLAIN /* b */ ANALYZE -- c\n FROM {}",
]
#: How the functions may be spelled, and what of them is. {db}: a SQLite file with a secret.
FUNCTIONS = [
    "sqlite_scan('{db}', 't')",
    "SQLite_Scan('{db}', 't')",
    "\"sqlite_scan\"('{db}', 't')",
    "sqlite_scan/* */('{db}', $$t$$)",
    "main.sqlite_scan('{db}', 't')",
    "system.main.sqlite_scan('{db}', 't')",
    '"system"."main"."SQLITE_SCAN"(\'{db}\', \'t\')',
    "sqlite_attach('{db}')",
    "sqlite_query('__ducklake_metadata_wh', 'SELECT 1 AS a')",
    "wh.set_option('data_inlining_row_limit', '7')",
    '"wh"."main"."SET_OPTION"(\'data_inlining_row_limit\', 7)',
    "ducklake_set_option('wh', 'data_inlining_row_limit', '7')",
    "Ducklake_Set_Option('wh', 'data_inlining_row_limit', '7')",
    "wh.set_commit_message('x', 'y')",
    "wh.options()",
]
#: Tables of the catalog, by functions that take a table by its name.
NAMED = [
    "FROM histogram('__ducklake_metadata_wh.ducklake_snapshot', snapshot_id)",
    "FROM histogram_values(__ducklake_metadata_wh.main.ducklake_snapshot, snapshot_id)",
    'FROM histogram("__DuckLake_metadata_wh.ducklake_snapshot", snapshot_id)',
    "FROM histogram('__ducklake' || '_metadata_wh.ducklake_snapshot', snapshot_id)",
    "FROM histogram(col_name := snapshot_id, source := lower('__DUCKLAKE_METADATA_WH.ducklake_snapshot'))",
    "FROM Histogram_Values('{parquet}', rtt_ns)",
    "FROM histogram('{db}', a)",
    "FROM pragma_table_info('__ducklake_metadata_wh.ducklake_snapshot')",
    "FROM pragma_show('__ducklake_metadata_wh.ducklake_snapshot')",
]
#: What asks for a file, or for such a function, in other ways than by a table function.
OTHERS = [
    "FROM '{db}'",
    'FROM "{db}".t',
    "FROM 'sqlite:{db}'",
    "ATTACH '{db}' (TYPE sqlite)",
    "ATTACH 'sqlite:{db}' AS other",
    "COPY (FROM range(1)) TO '{db}.new' (FORMAT sqlite)",
    "CALL sqlite_attach('{db}')",
    "CALL wh.set_option('data_inlining_row_limit', '7')",
    "SELECT sqlite_scan('{db}', 't')",
    "SELECT wh.set_option('data_inlining_row_limit', '7')",
    "FROM query('FROM sqlite_scan(''{db}'', ''t'')')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM sqlite_scan(''{db}'', ''t'')'))",
    "PRAGMA json_execute_serialized_sql('x')",
    "SET sqlite_all_varchar = true",
    "PIVOT sqlite_scan('{db}', 't') ON a USING count(*)",
    "WITH r AS (INSERT INTO site (id) VALUES ('x') RETURNING id) FROM r",
]


@pytest.fixture(scope="module")
def wh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A warehouse with a packet."""
    with open_warehouse(tmp_path_factory.mktemp("spellings") / "kept", mode="write") as opened:
        put(opened, ping(1, [1000]))
        yield opened


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, wh: Warehouse) -> dict[str, str]:
    """A SQLite file that is none of the warehouse's, and a file of the warehouse."""
    path = tmp_path_factory.mktemp("host") / "secret.db"
    with sqlite3.connect(path) as secret:
        secret.execute("CREATE TABLE t AS SELECT 'treasure' AS a")
    secret.close()
    (parquet,) = (wh.location / "data").rglob("ping_sample/**/*.parquet")
    return {"db": str(path), "parquet": str(parquet)}


@pytest.mark.parametrize("place", PLACES)
def test_wherever_they_stand(wh: Warehouse, words: dict[str, str], place: str) -> None:
    """The place is one where a table function works, and there they are named as what is not allowed."""
    assert run(wh, place.format("repeat_row(1, num_rows := 2) AS t (a)")) is not None
    for function in ("sqlite_scan('{db}', 't')", "wh.set_option('data_inlining_row_limit', '7')"):
        with pytest.raises(UserError, match=r"^the function \w+ is not allowed here"):
            run(wh, place.format(function.format(**words)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_however_they_are_spelled(wh: Warehouse, words: dict[str, str], function: str) -> None:
    """By case, quotes, comments and the schema before it, it is the same function."""
    with pytest.raises(UserError, match=r"^the function \w+ is not allowed here"):
        run(wh, f"FROM {function.format(**words)}")


@pytest.mark.parametrize("query", [*NAMED, *OTHERS])
def test_whatever_else_would_reach_them(wh: Warehouse, words: dict[str, str], query: str) -> None:
    """Refused in a sentence that shows nothing of what was asked for, and nothing was made."""
    with pytest.raises(UserError) as caught:
        run(wh, query.format(**words))
    assert "treasure" not in str(caught.value)
    assert [path.name for path in Path(words["db"]).parent.iterdir()] == ["secret.db"]


@pytest.mark.parametrize(
    "query",
    [
        "FROM histogram(ping_sample, rtt_ns)",
        "FROM histogram('ping_sample', rtt_ns, bin_count := 3)",
        "FROM histogram_values(wh.main.ping_sample, rtt_ns / 1e6, 2 + 1, technique := 'equi-height')",
        "FROM histogram_values(source := ping_sample, col_name := rtt_ns)",
        "FROM pragma_show('links')",
        "FROM pragma_table_info('ping_sample')",
    ],
)
def test_tables_of_the_warehouse_can_be_named(wh: Warehouse, query: str) -> None:
    """What these functions are for goes on."""
    assert run(wh, query).table.num_rows >= 1
