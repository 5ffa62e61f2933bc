"""The SQL workbench reads the warehouse, and nothing else, whatever it is asked."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warehouse_builders import ping, put, trace

from records.errors import UserError
from warehouse import Warehouse, open_warehouse
from warehouse.output import rows
from warehouse.reach import OWN_VIEWS
from warehouse.workbench import bounded_process, run, schema

ALLOWED = {
    "select": "SELECT count(*) FROM ping_sample",
    "from first": "FROM links",
    "with": "WITH a AS (SELECT 1 AS x) SELECT x FROM a",
    "recursive": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t",
    "values": "VALUES (1), (2)",
    "describe": "DESCRIBE links",
    "describe a query": "DESCRIBE SELECT * FROM links",
    "show": "SHOW TABLES",
    "summarize": "SUMMARIZE ping_sample",
    "explain": "EXPLAIN SELECT * FROM links",
    "explain analyze": "explain analyze select count(*) from ping_sample",
    "explain with options": "/* why */ EXPLAIN (ANALYZE, FORMAT json) SELECT 1 -- so",
    "comments and a semicolon": "-- a question\nSELECT 1;",
    "an earlier snapshot": "SELECT count(*) FROM ping_sample AT (VERSION => {snapshot})",
    "series": "SELECT * FROM range(3) AS r (i), unnest([1, 2]) AS u (j)",
    "nested": "SELECT h.address FROM traceroute, unnest(hops) AS t (h)",
    "macros": "SELECT rtt_bucket(1000000)",
    "dictionary": "SELECT * FROM data_dictionary",
    "pivot with IN": "SELECT * FROM (PIVOT ping_sample ON outcome IN ('reply', 'timeout') USING count(*) GROUP BY dst)",
    "what there is": "FROM information_schema.tables",
    "what there is, by its whole name": "SELECT column_name FROM system.information_schema.columns WHERE table_name = 'links'",
    "what there is, by DuckDB": "SELECT table_name FROM duckdb_tables",
    "all tables": "SHOW ALL TABLES",
    "tables of": "SHOW TABLES FROM wh.main",
    "describe all": "DESCRIBE",
    "a whole name": "FROM wh.main.links LIMIT 1",
    "a schema before": "FROM main.links AS pg LIMIT 1",
    "summarize a query": "SUMMARIZE FROM wh.links",
    "filename as a text": "SELECT 'filename' = 'filename'",
}

FORBIDDEN = [
    # Files, the network, the environment.
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_parquet('/tmp/x.parquet')",
    "SELECT * FROM parquet_metadata('/tmp/x.parquet')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "FROM '/etc/passwd'",
    "FROM '/etc/hosts.csv'",
    "SELECT * FROM 'https://example.org/x.parquet'",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT (SELECT max(content) FROM read_text('/etc/passwd'))",
    "WITH x AS (FROM read_text('/etc/passwd')) FROM x",
    "SELECT * FROM range((SELECT count(*) FROM read_text('/etc/passwd')))",
    "SUMMARIZE FROM read_text('/etc/passwd')",
    "DESCRIBE FROM read_text('/etc/passwd')",
    "EXPLAIN ANALYZE SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM (SELECT * FROM query('SELECT 1'))",
    "SELECT * FROM query_table('site')",
    "SELECT getenv('HOME')",
    "SELECT * FROM duckdb_secrets()",
    # Settings, and where catalog and files are.
    "FROM pg_catalog.pg_settings",
    "FROM pg_settings",
    "FROM 'pg_settings'",
    'FROM "PG_Settings"',
    "TABLE pg_settings",
    "FROM system.pg_catalog.pg_settings",
    "SUMMARIZE pg_settings",
    "DESCRIBE pg_catalog.pg_settings",
    "SELECT (SELECT count(*) FROM pg_settings)",
    "FROM (WITH pg_settings AS (SELECT 1) FROM pg_settings), pg_settings",
    "WITH a AS (FROM pg_settings), pg_settings AS (SELECT 1) FROM a",
    "FROM histogram('pg_settings', name)",
    "FROM histogram('pg_\"settings\"', name)",
    "FROM histogram(pg_catalog.pg_settings, name)",
    "FROM pragma_show('duckdb_databases')",
    "SELECT current_setting('TimeZone')",
    "SELECT current_setting('allowed_paths')",
    "SELECT pg_catalog.Current_Setting('secret_directory')",
    "SELECT 'allowed_directories'.current_setting()",
    "FROM duckdb_settings()",
    "FROM duckdb_databases()",
    "FROM duckdb_databases",
    "FROM main.duckdb_databases",
    "FROM system.duckdb_databases",
    "FROM system.main.duckdb_databases",
    "FROM pragma_database_list",
    "FROM duckdb_logs",
    "SHOW TABLES FROM pg_catalog",
    "SELECT filename FROM ping_sample",
    'SELECT p."FileName" FROM ping_sample AS p',
    "FROM ping_sample FULL JOIN (SELECT '' AS filename) USING (filename)",
    "PIVOT ping_sample ON outcome IN ('reply') USING count(*) GROUP BY filename",
    "FROM histogram(ping_sample, filename)",
    "SELECT * FROM which_secret('s3://x', 's3')",
    # The catalog behind the warehouse's back.
    "SELECT * FROM sqlite_scan('{catalog}', 'ducklake_snapshot')",
    "SELECT * FROM sqlite_query('__ducklake_metadata_wh', 'DELETE FROM ducklake_snapshot')",
    "CALL sqlite_attach('{catalog}')",
    "SELECT * FROM sqlite_attach('{catalog}')",
    "SELECT * FROM ducklake_expire_snapshots('wh', older_than => now())",
    "SELECT * FROM ducklake_cleanup_old_files('wh', cleanup_all => true)",
    "SELECT * FROM ducklake_delete_orphaned_files('wh', cleanup_all => true)",
    "SELECT * FROM ducklake_set_option('wh', 'data_inlining_row_limit', '7')",
    "SELECT * FROM ducklake_merge_adjacent_files('wh')",
    "FROM wh.set_option('data_inlining_row_limit', '7')",
    "FROM checkpoint()",
    "FROM force_checkpoint('wh')",
    "SELECT * FROM Ducklake_Flush_Inlined_Data('wh')",
    "SELECT write_log('x')",
    "SELECT sleep_ms(1)",
    "SELECT list_transform([1], lambda x: getenv('HOME'))",
    "SELECT system.main.GetEnv('HOME')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    # Files by the name of a table, also the warehouse's own.
    "FROM '{data}/**/*.parquet'",
    "DESCRIBE FROM '/etc/passwd'",
    # Comments that hide one statement from a pattern and show another to the parser.
    "EXPLAIN (ANALYZE /* ) SELECT 1 -- */) SELECT * FROM sqlite_query('__ducklake_metadata_wh', 'SELECT 1 AS a')",
    "EXPLAIN ANALYZE SELECT * FROM sqlite_query('__ducklake_metadata_wh', 'SELECT 1 AS a')",
    "/* /* */ EXPLAIN SELECT 1 -- */ */ EXPLAIN ANALYZE SELECT 1",
    # Statements that are no question.
    "INSERT INTO site VALUES ('x')",
    "UPDATE site SET name = 'x'",
    "DELETE FROM ping_sample",
    "WITH a AS (SELECT 1) DELETE FROM ping_sample",
    "CREATE TABLE t (i INTEGER)",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW links AS SELECT 1",
    "DROP TABLE ping_sample",
    "ALTER TABLE site ADD COLUMN x INTEGER",
    "TRUNCATE ping_sample",
    "COPY site TO '/tmp/x.csv'",
    "COPY (SELECT 1) TO '/tmp/x.csv'",
    "EXPORT DATABASE '/tmp/x'",
    "ATTACH '/tmp/x.db'",
    "DETACH wh",
    "USE memory",
    "SET threads = 1",
    "SET enable_external_access = true",
    "RESET memory_limit",
    "SET VARIABLE x = 1",
    "PRAGMA database_size",
    "PRAGMA enable_profiling",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "COMMIT",
    "PREPARE q AS SELECT 1",
    "EXECUTE q",
    "CALL range(3)",
    "EXPLAIN DELETE FROM ping_sample",
    "EXPLAIN ANALYZE DELETE FROM ping_sample",
    "COMMENT ON TABLE site IS 'x'",
    "SELECT 1; DROP TABLE site",
    "SELECT 1; SELECT 2",
    "",
    "   -- nothing",
    ";",
    "SELCT 1",
    "SELECT 'a\0b'",
]


@pytest.fixture(scope="module")
def filled(shared: Warehouse) -> Warehouse:
    """A warehouse with a little of everything."""
    put(shared, *[ping(n, [1_000_000 + n, None]) for n in range(50)], trace(100))
    return shared


@pytest.mark.parametrize("query", ALLOWED.values(), ids=ALLOWED)
def test_reading_is_allowed(filled: Warehouse, query: str) -> None:
    """Every way to ask gives rows, and the snapshot they are of."""
    result = run(filled, query.format(snapshot=filled.snapshot_id()))
    assert result.table.num_rows >= 1
    assert result.snapshot_id == filled.snapshot_id()
    assert not result.truncated


@pytest.mark.parametrize("query", FORBIDDEN)
def test_nothing_else_is_allowed(filled: Warehouse, query: str, tmp_path: Path) -> None:
    """Every other statement or function is refused as the user's mistake, and changes nothing."""
    before = filled.snapshot_id()
    with pytest.raises(UserError):
        run(filled, query.replace("{catalog}", str(filled.location / "catalog.sqlite")).replace("{data}", str(filled.location / "data")))
    assert filled.snapshot_id() == before
    assert run(filled, "SELECT count(*) AS n FROM ping_sample").table.to_pylist() == [{"n": 100}]


def test_of_duckdbs_own_views_none_tells_a_path_or_a_setting(filled: Warehouse) -> None:
    """Every one that there is, by each name it has: it is refused, or shows neither where the warehouse is nor how it is set."""
    with filled.workbench_connection() as cursor:
        found = cursor.execute("SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = 'system'").fetchall()
    assert len(found) > 40
    may_be_read = set()
    for schema_name, name in found:
        for spelled in (name, f"{schema_name}.{name}", f"system.{schema_name}.{name}", f'"{schema_name}"."{name.upper()}"'):
            if schema_name == "information_schema" and spelled == name:
                continue
            try:
                said = str(run(filled, f"FROM {spelled}").table.to_pylist())
            except UserError as error:
                assert "is not to be read here" in str(error)  # noqa: PT017 - those that are not refused are looked at
                continue
            may_be_read.add(f"{schema_name}.{name}")
            assert str(filled.location) not in said
            assert "allowed_directories" not in said
    assert {name for name in may_be_read if not name.startswith("information_schema.")} == {f"main.{name}" for name in OWN_VIEWS}


@pytest.mark.parametrize(
    "how", ["ANALYZE", "(ANALYZE, FORMAT json)", "(ANALYZE, FORMAT html)", "(ANALYZE, FORMAT graphviz)", "(FORMAT json)"]
)
def test_a_plan_does_not_say_where_files_are(filled: Warehouse, how: str) -> None:
    """In no format; in boxes a path is broken over lines, beside others."""
    plan = str(run(filled, f"EXPLAIN {how} SELECT count(*) FROM ping_sample JOIN traceroute USING (src)").table["explain_value"][0])  # noqa: S608
    assert "ping_sample" in plan
    assert str(filled.location) not in plan
    assert how != "ANALYZE" or ".parquet" not in re.sub(r"[^\w.]", "", plan)


def test_the_connection_itself_is_closed_to_files(filled: Warehouse, tmp_path: Path) -> None:
    """Without the look at the statement, DuckDB still refuses files outside the data and changes of settings."""
    (tmp_path / "x.csv").write_text("a\n1\n")
    for query in (f"FROM read_csv('{tmp_path}/x.csv')", f"COPY (SELECT 1) TO '{tmp_path}/y.csv'", "SET threads = 1", "INSTALL httpfs"):
        with filled.workbench_connection() as cursor, pytest.raises(Exception, match=r"disabled|locked"):
            cursor.execute(query)
    assert not (tmp_path / "y.csv").exists()


def test_rows_are_limited_and_said_to_be(filled: Warehouse) -> None:
    """One row more than the limit is truncated, the limit itself is not; an endless result costs no time."""
    assert run(filled, "FROM range(10)", row_limit=10).truncated is False
    result = run(filled, "FROM range(11)", row_limit=10)
    assert (result.table.num_rows, result.truncated) == (10, True)
    assert run(filled, "FROM range(100000000000)", row_limit=5000).table.num_rows == 5000


def test_columns_of_one_name_are_told_apart(filled: Warehouse) -> None:
    """A self-join's second `src` is `src_2`, and a name that is taken by a column of its own is not given again."""
    result = run(filled, "SELECT 1 AS src, 2 AS dst, 3 AS src, 4 AS src_2, 5 AS src")
    assert result.table.to_pylist() == [{"src": 1, "dst": 2, "src_2": 3, "src_2_2": 4, "src_3": 5}]
    assert rows(result.table) == result.table.to_pylist()


def test_time_is_limited(filled: Warehouse) -> None:
    """A query that takes too long is stopped with a message, and the next one works."""
    began = time.monotonic()
    with pytest.raises(UserError, match=r"longer than 0\.3 s"):
        run(filled, "SELECT sum(a.i * b.i % 7) FROM range(1000000) AS a (i), range(1000000) AS b (i)", timeout_s=0.3)
    assert time.monotonic() - began < 30
    assert run(filled, "SELECT 1").table.num_rows == 1


def test_memory_is_limited(filled: Warehouse) -> None:
    """A query that needs more than its share is refused, not the machine brought down."""
    with pytest.raises(UserError, match="more memory"):
        run(filled, "SELECT list(i ORDER BY hash(i)) FROM range(1000000000) AS t (i)", timeout_s=60)


def test_what_a_comment_hides_is_not_run(filled: Warehouse) -> None:
    """The parser nests comments and a pattern does not: what is explained is what was looked at, and nothing else is run."""
    hidden = "/* /* */ EXPLAIN SELECT 1 -- */ EXPLAIN ANALYZE SELECT * FROM sqlite_query('__ducklake_metadata_wh', 'SELECT 1 AS a')"
    plan = str(run(filled, hidden).table.to_pylist())
    assert "physical_plan" in plan
    assert "sqlite" not in plan.lower()


def test_an_answer_is_limited_too(filled: Warehouse) -> None:
    """Many large values are refused by their size, each of them small enough for DuckDB."""
    with pytest.raises(UserError, match="more memory than the 60 MB"):
        run(filled, "SELECT repeat('x', 20000) AS a FROM range(9000)", memory_mb=60)


def test_giant_values_do_not_take_the_machine_down(filled: Warehouse) -> None:
    """DuckDB does not count a single value of 200 MB; the command does, in its own process."""
    query = "SELECT repeat('x', 200000000) FROM range(100)"
    arguments = ["sql", query, "--memory", "200", "--warehouse", str(filled.location)]
    done = subprocess.run([sys.executable, "-m", "app.cli", *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2, done.stderr
    assert "more memory than the 200 MB" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_is_bounded_only_while_it_asks() -> None:
    """What asks and lives on (a shell, a test) has its memory back afterwards, whatever became of the question."""
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def ask() -> None:
        with bounded_process(100):
            soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
            assert soft != before[0]
            assert hard == before[1]
            raise UserError("a mistake")

    with pytest.raises(UserError):
        ask()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_bounds_of_several_threads_end_with_the_last() -> None:
    """Two questions that overlap, the first ends first: the process is bounded until the second has ended, and then as before."""
    before, first, second = resource.getrlimit(resource.RLIMIT_DATA), bounded_process(100), bounded_process(200)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert resource.getrlimit(resource.RLIMIT_DATA) != before
    second.__exit__(None, None, None)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_fault_in_the_middle_of_the_rows_is_told(filled: Warehouse) -> None:
    """An error that comes after the first rows is a message too."""
    with pytest.raises(UserError, match=r"boom|Could not convert"):
        run(filled, "SELECT CASE WHEN i > 5000 THEN error('boom') ELSE i END FROM range(10000) AS t (i)")


def test_mistakes_are_explained(filled: Warehouse) -> None:
    """DuckDB's hint at the name that was meant comes through, without its banner."""
    with pytest.raises(UserError, match=r"^Table with name linkz does not exist!\s*Did you mean \"links\""):
        run(filled, "FROM linkz")


def test_limits_must_make_sense(filled: Warehouse) -> None:
    """A limit of nothing is a mistake."""
    with pytest.raises(UserError, match="above zero and finite"):
        run(filled, "SELECT 1", row_limit=0)


def test_a_reader_sees_new_commits(own: Warehouse) -> None:
    """The locked-down connection follows the warehouse."""
    with open_warehouse(own.location) as reader:
        assert run(reader, "SELECT count(*) AS n FROM ping_sample").table.to_pylist() == [{"n": 0}]
        put(own, ping(1, [1, 2]))
        assert run(reader, "SELECT count(*) AS n FROM ping_sample").table.to_pylist() == [{"n": 2}]


def test_schema_lists_views_first(filled: Warehouse) -> None:
    """What people ask for comes first; every column has its type."""
    docs = schema(filled)
    kinds = [doc.kind for doc in docs]
    assert kinds == sorted(kinds, key=lambda kind: kind != "view")
    links = next(doc for doc in docs if doc.name == "links")
    assert [column.name for column in links.columns][:4] == ["src", "dst", "medium", "rtt_min_ms"]
    assert all(column.type for doc in docs for column in doc.columns)
