"""`isochrone sql`: questions to the warehouse, reading only; and `isochrone export`: all of it as one plain DuckDB file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.output import emit_json, form_of, json_option, note, table, warehouse_option
from app.quantities import MOST_S, Number
from records.errors import OutsideError, UserError

if TYPE_CHECKING:
    from warehouse.workbench import SqlResult

__all__ = ["export", "show", "sql"]


@click.command()
@click.argument("query", metavar="[QUERY|-]", required=False)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="How to write the rows.",
)
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to standard output.")
@click.option("--limit", type=click.IntRange(1), default=10_000, show_default=True, help="Most rows to give.")
@click.option("--timeout", type=Number(0.1, MOST_S), default=30.0, show_default=True, metavar="SECONDS", help="Most time to take.")
@click.option("--memory", type=click.IntRange(50), default=1000, show_default=True, metavar="MB", help="Most memory to take.")
@click.option("--examples", is_flag=True, help="Print questions to start from, those of the dashboard's SQL page, and stop.")
@warehouse_option
@json_option
def sql(
    query: str | None,
    format_: str,
    output: str | None,
    limit: int,
    timeout: float,
    memory: int,
    examples: bool,
    warehouse: str,
    as_json: bool,
) -> None:
    """Ask the warehouse in SQL (DuckDB's), reading only.

    A query reads tables and views, and no files, no network and no settings. - reads it from standard
    input. Without one, on a terminal, a shell asks, with completion and a history.
    NULL is '-' in a table and null in JSON; NaN and infinities are said, in JSON as "NaN", "Infinity", "-Infinity".

    \b
    Example: isochrone sql "SELECT src, dst, rtt_p50_ms, loss_ratio FROM links ORDER BY rtt_p50_ms DESC"
    Example: isochrone sql "SELECT * FROM data_dictionary" --format csv -o columns.csv
    Example: isochrone sql --examples
    """
    from app.sql_examples import SQL_EXAMPLES
    from warehouse import open_warehouse
    from warehouse.workbench import bounded_process, run

    format_ = form_of(format_, as_json, name="format_")
    if examples:
        if as_json:
            emit_json([{"name": name, "sql": text} for name, text in SQL_EXAMPLES.items()])
            return
        click.echo("\n\n".join(f"-- {name}\n{text};" for name, text in SQL_EXAMPLES.items()))
        return
    if format_ == "parquet" and output is None and sys.stdout.isatty():
        raise UserError("Parquet is binary: give a file with -o FILE, or send it into a pipe")
    if query is None:
        if not sys.stdin.isatty():
            raise UserError("there is no query; give one, or - to read it from standard input, or --examples for some to start from")
        from app.sql_shell import shell

        with open_warehouse(warehouse) as wh:
            shell(wh, row_limit=limit, timeout_s=timeout, memory_mb=memory)
        return
    if query == "-":
        try:
            query = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise UserError("standard input is not UTF-8 text") from error
    with open_warehouse(warehouse) as wh, bounded_process(memory):
        result = run(wh, query, row_limit=limit, timeout_s=timeout, memory_mb=memory)
    show(result, format_, output, limit)


def show(result: SqlResult, format_: str, output: str | None, limit: int) -> None:
    """Write an answer, and to standard error what is to be said of it."""
    from app.sql_text import as_csv, as_json, as_text, cells
    from warehouse import output as writers

    rows = [] if format_ == "parquet" else writers.rows(result.table)
    names = list(rows[0]) if rows else result.table.column_names
    if format_ == "table" and output is None:
        table(result.table.column_names, cells(names, rows))
    elif format_ == "json":
        _write(as_json(rows).encode(), output)
    elif format_ == "csv":
        _write(as_csv(names, rows).encode(), output)
    elif format_ == "table":
        _write(as_text([names, *cells(names, rows)]).encode(), output)
    else:
        _write(writers.parquet(result.table), output)
    if result.truncated:
        note(f"only the first {limit} rows are here; raise --limit for more")
    count = result.table.num_rows
    note(f"{count} row{'' if count == 1 else 's'}, snapshot {result.snapshot_id}, {result.elapsed_s:.2f} s")


def _write(content: bytes, output: str | None) -> None:
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    try:
        path.write_bytes(content)
    except IsADirectoryError as error:
        raise UserError(f"-o {output} is a folder; name a file") from error
    except FileNotFoundError as error:
        raise UserError(f"-o {output}: there is no folder {path.parent}") from error
    except OSError as error:
        raise OutsideError(f"cannot write {output}: {error.strerror}") from error


@click.command()
@click.argument("file", metavar="FILE.duckdb")
@click.option("--snapshot", type=click.IntRange(0), metavar="N", help="As the warehouse was at snapshot N. [default: now]")
@click.option("--force", is_flag=True, help="Write over FILE where it exists.")
@warehouse_option
@json_option
def export(file: str, snapshot: int | None, force: bool, warehouse: str, as_json: bool) -> None:
    """Write the warehouse as one plain DuckDB file, for any tool that reads DuckDB.

    All tables and views with their comments, of one snapshot. The file needs no extension.

    \b
    Example: isochrone export isochrone.duckdb && duckdb isochrone.duckdb "FROM links"
    """
    from warehouse import open_warehouse
    from warehouse.export import export as write

    with open_warehouse(warehouse) as wh:
        done = write(wh, file, snapshot_id=snapshot, force=force)
    if as_json:
        emit_json({"file": done.file, "snapshot": done.snapshot_id, "bytes": done.file_bytes, "tables": done.row_counts})
        return
    rows = sum(done.row_counts.values())
    click.echo(f"{done.file}: snapshot {done.snapshot_id}, {rows} rows of {len(done.row_counts)} tables, {done.file_bytes / 1e6:.1f} MB")
