"""What a parsed statement reaches: its tables, its functions, and where files lie.

Of DuckDB's own views most show what is no question of the warehouse (settings, the addresses of catalog and files), and no setting of
DuckDB closes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import duckdb

from records.errors import UserError

__all__ = ["OWN_VIEWS", "check_tables", "functions", "without_paths"]

#: DuckDB's own views that may be read beside information_schema: they list what the schema says. All others are barred by their names.
OWN_VIEWS = frozenset(
    {"duckdb_columns", "duckdb_constraints", "duckdb_schemas", "duckdb_tables", "duckdb_types", "duckdb_views", "sqlite_master"}
)
#: What may stand before a table's name; DuckDB takes one word for a schema or for a catalog.
_BEFORE = frozenset({(), ("wh",), ("main",), ("wh", "main")})
_BEFORE_LISTS = frozenset({("information_schema",), ("system", "information_schema")})
#: Table functions that take a table by its name, as an argument.
_NAMING = frozenset({"histogram", "histogram_values", "pragma_table_info", "pragma_show"})
#: A name that DuckDB may take for a file.
_FILE = re.compile(r"[/\\.:*]")
#: A column that DuckLake's tables have without saying so: each row's file, with its whole path.
_PATH_COLUMN = "filename"
_BOXED = re.compile(r"│([^│├]*Filename\(s\):[^│├]*)[│├]")


@cache
def _barred() -> frozenset[str]:
    """The names of DuckDB's own views, as it says itself, but for those that may be read: without a schema they are found too."""
    with duckdb.connect(":memory:") as plain:
        found = plain.execute(
            "SELECT lower(view_name) FROM duckdb_views() WHERE internal AND schema_name <> 'information_schema'"
        ).fetchall()
    return frozenset(str(name) for (name,) in found) - OWN_VIEWS


def check_tables(tree: object) -> None:
    """Raises UserError when a serialised statement reads anything but the warehouse's tables and views and the lists of what there is."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            kind = node.get("type")
            if kind == "BASE_TABLE":
                _check([str(node.get(key) or "") for key in ("catalog_name", "schema_name", "table_name")])
            elif kind == "SHOW_REF":
                # What is shown is a list of names, or a query, which is looked at by itself.
                _check(
                    [*(str(node.get(key) or "") for key in ("catalog_name", "schema_name")), str(node.get("table_name") or "").strip('"')]
                )
            elif kind == "TABLE_FUNCTION" and str(node["function"].get("function_name", "")).lower() in _NAMING:
                for place, argument in enumerate(node["function"].get("children", [])):
                    _check_argument(argument, is_table=argument["alias"].lower() == "source" or (place == 0 and not argument["alias"]))
            # Wherever a column's name may stand (USING, GROUP BY of a PIVOT); a constant is no name.
            stack += [value for key, value in node.items() if not (key == "value" and node.get("class") == "CONSTANT")]
        elif isinstance(node, list):
            stack += node
        elif isinstance(node, str) and node.lower() == _PATH_COLUMN:
            raise UserError(f"no column may be called {_PATH_COLUMN} here: it shows where the warehouse's files lie; use another name")


def _check(names: list[str]) -> None:
    """Of a table: its name, and before it what it is in. DuckDB takes quotes out of a name that it is given as a text."""
    plain = [name.replace('"', "").lower() for name in names]
    if _FILE.search(names[-1]):
        raise UserError(f"{names[-1]!r} is no table: a query reads the warehouse and no files")
    before, name = tuple(word for word in plain[:-1] if word), plain[-1].strip()
    if not (before in _BEFORE_LISTS or (before in _BEFORE and name not in _barred())):
        raise UserError(
            f"{'.'.join(filter(None, names))!r} is not to be read here: a query reads the warehouse's tables and views and "
            "information_schema; SHOW TABLES lists them"
        )


def _check_argument(argument: dict[str, Any], *, is_table: bool) -> None:
    """What may name a table: a name or a text, as they stand. Where a column is meant, a table's alias may be before it."""
    value = (argument.get("value") or {}).get("value")
    if argument.get("class") == "COLUMN_REF":
        names = [str(name) for name in argument["column_names"]]
        hidden = any(name.lower() in {"system", "pg_catalog"} or "__ducklake_metadata" in name.lower() for name in names[:-1])
        _check(names if is_table or hidden else names[-1:])
    elif argument.get("class") == "CONSTANT" and isinstance(value, str):
        _check([value])
    elif is_table:
        raise UserError("a table is named as it stands, and this name is computed; for example: FROM histogram(ping_sample, rtt_ns)")


def functions(node: object) -> Iterator[tuple[str, bool]]:
    """(name, is a table function) of every function called anywhere in a serialised statement."""
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if node.get("type") == "TABLE_FUNCTION":
                function = node.get("function") or {}
                yield str(function.get("function_name", "")), True
                # Its arguments may hold subqueries; its own name is not a scalar function.
                stack += [value for key, value in node.items() if key != "function"]
                stack += list(function.get("children", []))
                continue
            if "function_name" in node:
                yield str(node["function_name"]), False
            stack += list(node.values())
        elif isinstance(node, list):
            stack += node


def without_paths(plan: str, data_path: str) -> str:
    """A plan as EXPLAIN gives it, in any format, without where the files lie; boxes, in which names are broken over lines, without them."""
    lines = plan.split("\n")
    for first, line in enumerate(lines):
        for start, end in (match.span(1) for match in _BOXED.finditer(line)):
            for at in range(first, len(lines)):
                part = lines[at][start:end]
                if not part.strip() or "─" in part:
                    break
                lines[at] = lines[at][:start] + " " * len(part) + lines[at][end:]
    return "\n".join(lines).replace(data_path, "")
