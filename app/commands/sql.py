"""`isochrone sql`: questions to the warehouse, reading only."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from app.output import note, table, warehouse_option
from records.errors import OutsideError, UserError

__all__ = ["sql"]


@click.command()
@click.argument("query", metavar="QUERY|-")
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
@click.option("--timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, metavar="SECONDS", help="Most time to take.")
@warehouse_option
def sql(query: str, format_: str, output: str | None, limit: int, timeout: float, warehouse: str) -> None:
    """Ask the warehouse in SQL (DuckDB's), reading only; - reads the query from standard input.

    \b
    Example: isochrone sql "SELECT src, dst, rtt_p50_ms, loss_ratio FROM links ORDER BY rtt_p50_ms DESC"
    Example: isochrone sql "SELECT * FROM data_dictionary" --format csv -o columns.csv
    """
    from warehouse import open_warehouse
    from warehouse import output as writers
    from warehouse.workbench import run

    if format_ == "parquet" and output is None and sys.stdout.isatty():
        raise UserError("Parquet is binary: give a file with -o FILE, or send it into a pipe")
    if query == "-":
        try:
            query = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise UserError("standard input is not UTF-8 text") from error
    with open_warehouse(warehouse) as wh:
        result = run(wh, query, row_limit=limit, timeout_s=timeout)
    if format_ == "table" and output is None:
        table(result.table.column_names, [[_brief(value) for value in row.values()] for row in writers.rows(result.table)])
    else:
        _write(writers.encode(result.table, format_), output)
    if result.truncated:
        note(f"only the first {limit} rows are here; raise --limit for more")
    rows = result.table.num_rows
    note(f"{rows} row{'' if rows == 1 else 's'}, snapshot {result.snapshot_id}, {result.elapsed_s:.2f} s")


def _brief(value: object) -> object:
    """A value as a cell: nested ones as text, whole."""
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


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
