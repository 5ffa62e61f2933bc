"""`isochrone warehouse`: see to the warehouse itself."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import click

from app.output import emit_json, json_option, note, table, warehouse_option
from records.errors import NoAnswer

__all__ = ["warehouse"]


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


@warehouse.command()
@warehouse_option
@json_option
def rollup(warehouse: str, as_json: bool) -> None:
    """Bring the roll-ups by minute and hour up to date, as a running collector does by itself; a second call adds nothing.

    Example: isochrone warehouse rollup
    """
    from warehouse import open_warehouse
    from warehouse.rollup import rollup as bring_up

    with open_warehouse(warehouse, mode="write") as wh:
        added = bring_up(wh, now=datetime.now(UTC))
    if as_json:
        emit_json(added)
    else:
        click.echo(", ".join(f"{name}: {count} rows added" for name, count in added.items()))
