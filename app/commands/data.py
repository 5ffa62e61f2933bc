"""`isochrone import`, `sql` and `warehouse`: data in and out."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.output import emit_json, json_option, note, table, warehouse_option
from records.errors import NoAnswer, OutsideError, UserError

if TYPE_CHECKING:
    from warehouse.importers.rtt_matrix import ImportReport

__all__ = ["import_", "sql", "warehouse"]


def _pairs(option: str, pairs: Iterable[str], example: str) -> dict[str, str]:
    """NAME=VALUE options as a dictionary."""
    made: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not name or not value:
            raise UserError(f"{option} {pair!r} is not NAME=VALUE, as in {option} {example}")
        if name in made:
            raise UserError(f"{option} {name} is given twice: {made[name]!r} and {value!r}")
        made[name] = value
    return made


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"--at {text!r} is no ISO 8601 time, as in 2026-04-16 or 2026-04-16T12:00:00Z") from error
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


@click.command("import")
@click.argument("format_name", metavar="FORMAT")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--sites", "sites_file", metavar="SITES.csv", help="Places of your own beside the inventory's: id,name,lat,lon,...")
@click.option("--map", "maps", multiple=True, metavar="COLUMN=NAME", help="The file calls COLUMN by another NAME. May be repeated.")
@click.option("--where", "wheres", multiple=True, metavar="NAME=VALUE", help="Read only rows in which NAME is VALUE. May be repeated.")
@click.option("--medium", default="internet", show_default=True, help="internet, backbone or direct-connect, for rows that do not say.")
@click.option("--at", metavar="TIME", help="When it was measured, for rows that do not say. [default: not dated]")
@warehouse_option
@json_option
def import_(
    format_name: str,
    files: tuple[str, ...],
    sites_file: str | None,
    maps: tuple[str, ...],
    wheres: tuple[str, ...],
    medium: str,
    at: str | None,
    warehouse: str,
    as_json: bool,
) -> None:
    """Store other people's measurements; says how many rows were read, stored, and rejected for which reason.

    FORMAT is rtt-matrix: a CSV file with the header src,dst,rtt_ms and optionally
    min_ms,p50_ms,p95_ms,stddev_ms,loss_ratio,at,medium. Sites are those of the inventory, of the
    warehouse, and of --sites.

    \b
    Example: isochrone import rtt-matrix rtt.csv --sites sites.csv
    Example, the Skyplane grid of AWS, Azure and Google Cloud, which names its columns differently:
      isochrone import rtt-matrix latency_2022-04.csv --map src=src_region --map dst=dst_region \\
        --map rtt_ms=avg_rtt --map min_ms=min_rtt --map stddev_ms=mdev_rtt \\
        --where src_tier=PREMIUM --where dst_tier=PREMIUM
    """
    from inventory.load import load
    from inventory.sites_csv import read
    from warehouse import open_warehouse, queries
    from warehouse.importers import FORMATS
    from warehouse.importers.rtt_matrix import check_files, import_files

    if format_name not in FORMATS:
        raise UserError(f"unknown format {format_name!r}; formats: {', '.join(FORMATS)}")
    mapping, where, measured_at = _pairs("--map", maps, "rtt_ms=avg_rtt"), _pairs("--where", wheres, "tier=PREMIUM"), _time(at)
    inventory = load()
    own = {site.id: site for site in read(sites_file)} if sites_file else {}
    check_files(files, mapping=mapping, where=where, medium=medium)
    with open_warehouse(warehouse, mode="write") as wh:
        known = {**inventory.sites, **{site.id: site for site in queries.sites(wh)}, **own}
        report = import_files(
            wh,
            files,
            known_sites=known,
            resolve=inventory.resolve,
            mapping=mapping,
            where=where,
            medium=medium,
            at=measured_at,
            now=datetime.now(UTC),
        )
    if as_json:
        emit_json(asdict(report))
    else:
        _say(report, warehouse)


def _say(report: ImportReport, warehouse: str) -> None:
    parts = [f"read {report.read}", f"stored {report.stored}"]
    parts += [f"already stored {report.already}"] if report.already else []
    parts += [f"left out by --where {report.skipped}"] if report.skipped else []
    click.echo(f"{', '.join(parts)}, rejected {sum(report.rejected.values())}")
    for reason, count in report.rejected.items():
        click.echo(f"  rejected {reason}: {count}")
    for reason, count in report.flagged.items():
        click.echo(f"  stored but marked {reason}: {count}")
    if report.already and not report.stored:
        note("nothing new: this content was imported before")
    if report.rejected:
        note(f'each rejected row with its reason: isochrone sql "FROM reject" --warehouse {warehouse}')


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


@click.group()
def warehouse() -> None:
    """See to the warehouse itself.

    Example: isochrone warehouse status
    """


@warehouse.command()
@warehouse_option
@json_option
def status(warehouse: str, as_json: bool) -> None:
    """Say what is kept: rows, files and bytes by table.

    Example: isochrone warehouse status --json
    """
    from warehouse import open_warehouse
    from warehouse.maintain import status as read_status

    with open_warehouse(warehouse) as wh:
        found = read_status(wh)
    if as_json:
        emit_json(asdict(found))
        return
    click.echo(f"{found.location}: snapshot {found.snapshot_id}, schema {found.schema}")
    click.echo(f"catalog {found.catalog_bytes / 1e6:.1f} MB, Parquet {found.data_bytes / 1e6:.1f} MB")
    table(["table", "rows", "files", "MB"], [[t.name, t.row_count, t.file_count, t.file_bytes / 1e6] for t in found.tables])


@warehouse.command()
@warehouse_option
@json_option
def verify(warehouse: str, as_json: bool) -> None:
    """Read every row and hold the books against each other; exit status 1 when something is wrong.

    Example: isochrone warehouse verify
    """
    from warehouse import open_warehouse
    from warehouse.maintain import verify as check

    with open_warehouse(warehouse) as wh:
        faults = check(wh)
    if as_json:
        emit_json({"ok": not faults, "faults": faults})
    for fault in () if as_json else faults:
        click.echo(fault)
    if faults:
        raise NoAnswer(f"{len(faults)} fault{'' if len(faults) == 1 else 's'} in the warehouse {warehouse}")
    note(f"{warehouse} is whole")
