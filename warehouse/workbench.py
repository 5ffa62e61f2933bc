"""Ad hoc SQL, safely: one read-only statement, within a time and a row limit, that reaches nothing but the warehouse.

Three fences, each of which holds without the others:

1. The connection is attached read-only; files outside the warehouse's data, settings and extensions are closed to it by
   DuckDB itself, and the settings are locked.
2. Exactly one statement, and of a kind that only reads.
3. Its tables and table functions are of a list (warehouse.reach). This one is needed: some extensions' functions (sqlite_scan,
   sqlite_query, those of DuckLake's maintenance) open files themselves and write through a SELECT, and DuckDB's own views show settings
   and addresses.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from records.errors import UserError
from warehouse.connect import Warehouse
from warehouse.faults import outside
from warehouse.reach import check_tables, functions, without_paths
from warehouse.statements import statement

__all__ = ["MEMORY_MB", "TABLE_FUNCTIONS", "ColumnDoc", "SqlResult", "TableDoc", "bounded_process", "distinct", "run", "schema"]

#: Table functions a query may use; all of them only compute, or list what the schema already says.
TABLE_FUNCTIONS = frozenset(
    {
        "unnest",
        "range",
        "generate_series",
        "repeat",
        "repeat_row",
        "generate_subscripts",
        "json_each",
        "json_tree",
        "summary",
        "histogram",
        "histogram_values",
        "icu_calendar_names",
        "pg_timezone_names",
        "duckdb_columns",
        "duckdb_constraints",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_schemas",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "pragma_table_info",
        "pragma_show",
    }
)
#: Scalar functions that do more than compute.
_FORBIDDEN_SCALARS = frozenset({"current_setting", "getenv", "write_log", "nextval", "set_config", "sleep_ms", "pg_sleep"})
_BATCH_ROWS = 2048
_COMMENT = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)"
_EXPLAIN = re.compile(
    rf"{_COMMENT}*EXPLAIN\b{_COMMENT}*(?P<how>ANALYZE\b|\([\w\s,]*\))?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
MEMORY_MB = 1000
#: How long a query that is to end is waited for before it is told again.
_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlResult:
    """What a query gave: an Arrow table, whether rows were left out, the snapshot it read, and how long it took."""

    table: pa.Table
    truncated: bool
    snapshot_id: int
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDoc:
    """One column: name, type in DuckDB's words, and meaning with unit and what NULL says."""

    name: str
    type: str
    comment: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDoc:
    """One table or view with its columns; kind is table or view."""

    name: str
    kind: str
    comment: str | None
    columns: list[ColumnDoc]


def schema(wh: Warehouse) -> list[TableDoc]:
    """Every table and view with the meaning of every column; views first, they are for people."""
    with wh.cursor() as cursor:
        columns: dict[str, list[ColumnDoc]] = {}
        for name, column, kind, comment in cursor.execute(statement("queries/columns")).fetchall():
            columns.setdefault(name, []).append(ColumnDoc(name=column, type=kind, comment=comment))
        tables = cursor.execute(statement("queries/tables")).fetchall()
    docs = [TableDoc(name=name, kind=kind, comment=comment, columns=columns.get(name, [])) for name, kind, comment in tables]
    return sorted(docs, key=lambda doc: (doc.kind != "view", doc.name))


class _Bounds:
    """The bound of this process while any thread of it is bounded: the widest that one of them asks for, and none after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._before = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def enter(self, spare_bytes: int) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            limits = resource.getrlimit(resource.RLIMIT_DATA)
            if self._holders == 0:
                self._before = limits
            self._holders += 1
            pages = int(Path("/proc/self/statm").read_text().split()[5])
            soft, hard = self._before
            most = pages * resource.getpagesize() + spare_bytes
            if self._holders > 1:
                most = max(most, limits[0])
            resource.setrlimit(resource.RLIMIT_DATA, (most if soft == resource.RLIM_INFINITY else min(most, soft), hard))

    def leave(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                resource.setrlimit(resource.RLIMIT_DATA, self._before)


_BOUNDS = _Bounds()


@contextlib.contextmanager
def bounded_process(memory_mb: int, *, spare_mb: int = 512) -> Iterator[None]:
    """Let this process have no more than `memory_mb` beyond what it has, and `spare_mb` for all else it does, for a while.

    DuckDB's limit does not count single giant values; the kernel's does, of the whole process: one that also does other things needs more
    to spare. Does nothing where the kernel has no such limit.
    """
    _BOUNDS.enter((memory_mb + spare_mb) << 20)
    try:
        yield
    finally:
        _BOUNDS.leave()


def run(wh: Warehouse, query: str, *, row_limit: int = 10_000, timeout_s: float = 10.0, memory_mb: int = MEMORY_MB) -> SqlResult:
    """The answer to one statement (SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) in at most `row_limit` rows.

    Its columns have names that differ (`distinct`).

    Raises UserError when it is not one such statement, does not hold, takes longer than `timeout_s` or needs more than
    `memory_mb`, for its work or for its answer; OutsideError when a file of the warehouse cannot be read.
    """
    if row_limit < 1 or not 0 < timeout_s < threading.TIMEOUT_MAX or memory_mb < 1:
        raise UserError(f"row limit {row_limit}, time limit {timeout_s:g} s and memory limit {memory_mb} MB must be above zero and finite")
    cursor = wh.workbench_connection(memory_mb)
    # The clock runs from here: parsing, planning and fetching count too.
    began = time.perf_counter()

    def ask() -> tuple[int, pa.Table, bool]:
        text, is_plan = _only_reads(cursor, query)
        # One transaction, so that the rows are of the very snapshot that is named.
        cursor.execute("BEGIN")
        row = cursor.execute("FROM wh.current_snapshot()").fetchone()
        assert row is not None
        table, truncated = _fetch(cursor.execute(text), row_limit, memory_mb << 20)
        table = table.rename_columns(distinct(table.column_names))
        return int(row[0]), _plan(table, wh.data_path) if is_plan else table, truncated

    is_late = False
    try:
        # In a thread: of what is inside DuckDB nothing hears Ctrl-C, and whoever waits here does.
        with ThreadPoolExecutor(1) as thread:
            asked = thread.submit(ask)
            try:
                is_late = not wait([asked], timeout_s).done
            finally:
                # Also at Ctrl-C, and again where the one before fell between two statements.
                while not asked.done():
                    cursor.interrupt()
                    wait([asked], _AGAIN_S)
            snapshot_id, table, truncated = asked.result()
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise UserError(f"the query needs more memory than the {memory_mb} MB a query may use; aggregate or narrow it") from error
    except duckdb.Error as error:
        if is_late or isinstance(error, duckdb.InterruptException):
            raise UserError(
                f"the query took longer than {timeout_s:g} s, the limit here; narrow its window or its sites, or give it more time with "
                "`isochrone sql --timeout SECONDS`"
            ) from error
        if (fault := outside(error)) is not None:
            raise fault from error
        raise UserError(_told(error)) from error
    finally:
        cursor.close()
    return SqlResult(table=table, truncated=truncated, snapshot_id=snapshot_id, elapsed_s=time.perf_counter() - began)


def distinct(names: Iterable[str]) -> list[str]:
    """The names, a later one that was there before with a number: grids, dictionaries and files have one column of a name.

    >>> distinct(["src", "dst", "src", "src_2", "src"])
    ['src', 'dst', 'src_2', 'src_2_2', 'src_3']
    """
    found: list[str] = []
    taken: set[str] = set()
    tried: dict[str, int] = {}
    for name in names:
        number, free = tried.get(name, 1), name
        while free in taken:
            number += 1
            free = f"{name}_{number}"
        tried[name] = number
        taken.add(free)
        found.append(free)
    return found


def _told(error: duckdb.Error) -> str:
    """DuckDB's message without its banner; the position marks stay, they help."""
    return re.sub(r"^[A-Z][A-Za-z ]*Error: ", "", str(error).strip(), count=1)


def _fetch(cursor: duckdb.DuckDBPyConnection, row_limit: int, most_bytes: int) -> tuple[pa.Table, bool]:
    reader = cursor.to_arrow_reader(_BATCH_ROWS)
    batches: list[pa.RecordBatch] = []
    rows = size = 0
    while rows <= row_limit:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            break
        except (pa.ArrowException, OSError) as error:
            # A fault in the middle of the stream comes wrapped; DuckDB's words are inside.
            if "INTERRUPT" in str(error):
                raise duckdb.InterruptException(str(error)) from error
            if "Out of Memory" in str(error):
                raise duckdb.OutOfMemoryException(str(error)) from error
            kind = duckdb.IOException if isinstance(error, OSError) else duckdb.InvalidInputException
            raise kind(str(error)) from error
        batches.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if size > most_bytes:
            raise MemoryError(f"the answer has more than {most_bytes} bytes")
    table = pa.Table.from_batches(batches, schema=reader.schema)
    return table.slice(0, row_limit), rows > row_limit


def _plan(table: pa.Table, data_path: str) -> pa.Table:
    """What EXPLAIN answered, without where the warehouse's files lie."""
    columns = [pa.array([without_paths(str(text), data_path) for text in column.to_pylist()], column.type) for column in table.columns]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _only_reads(cursor: duckdb.DuckDBPyConnection, query: str) -> tuple[str, bool]:
    """The query, once it is known to be one statement that only reads, and whether it explains another."""
    if "\0" in query:
        raise UserError("the query holds a NUL character")
    try:
        statements = cursor.extract_statements(query)
    except duckdb.Error as error:
        raise UserError(_told(error)) from error
    if len(statements) != 1:
        what = "nothing" if not statements else f"{len(statements)} statements (PIVOT without IN counts as several)"
        raise UserError(f"one statement at a time, and this is {what}; for example: FROM links")
    kind = statements[0].type
    prefix, body = "", query
    if kind == duckdb.StatementType.EXPLAIN:
        # What is run is put together here, of a prefix that holds no comment and the very text that is looked at below: what
        # a comment hides from a pattern, it does not hide from the parser.
        match = _EXPLAIN.match(query)
        prefix, body = (f"EXPLAIN {match['how'] or ''} ", match["rest"]) if match else ("", "")
    elif kind != duckdb.StatementType.SELECT:
        raise UserError(
            f"only reading is allowed here, and this is {kind.name.replace('_', ' ')}; use SELECT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN"
        )
    row = cursor.execute("SELECT json_serialize_sql(?)", [body]).fetchone()
    assert row is not None
    tree = json.loads(row[0])
    if tree.get("error") or len(tree.get("statements", [])) != 1:
        raise UserError("only SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW and SUMMARIZE can be read or explained here")
    check_tables(tree)
    for function, is_table in functions(tree):
        name = function.lower()
        if (is_table and name not in TABLE_FUNCTIONS) or (not is_table and name in _FORBIDDEN_SCALARS):
            raise UserError(f"the function {function} is not allowed here: a query reads the warehouse and nothing else")
    return prefix + body, kind == duckdb.StatementType.EXPLAIN
