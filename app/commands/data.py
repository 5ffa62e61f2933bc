"""`isochrone warehouse`: see to the warehouse itself."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import click

from app.commands import backup as backups
from app.output import emit_json, json_option, note, table, warehouse_option
from records.errors import NoAnswer, UserError

__all__ = ["warehouse"]


@click.group()
def warehouse() -> None:
    """See to the warehouse itself.

    Example: isochrone warehouse status
    """


for _command in (backups.backup, backups.restore, backups.rollback):
    warehouse.add_command(_command)


@warehouse.command()
@warehouse_option
@json_option
def status(warehouse: str, as_json: bool) -> None:
    """Say what is kept: rows, files and bytes by table; and the lines that open it with DuckDB alone.

    Example: isochrone warehouse status --json
    """
    from warehouse import open_warehouse
    from warehouse.maintain import status as read_status
    from warehouse.opening import python_lines, shell_lines

    with open_warehouse(warehouse) as wh:
        found = read_status(wh)
        opening = {"duckdb": shell_lines(wh.place, wh.data_path), "python": python_lines(wh.place, wh.data_path)}
    if as_json:
        emit_json(asdict(found) | {"open_with": opening})
        return
    click.echo(f"{found.location}: snapshot {found.snapshot_id}, schema {found.schema}")
    click.echo(f"catalog {found.catalog_bytes / 1e6:.1f} MB, Parquet {found.data_bytes / 1e6:.1f} MB")
    rolled = "never" if found.rolled_at is None else f"{found.rolled_at:%Y-%m-%d %H:%M:%S} UTC"
    click.echo(f"roll-ups {rolled}, {found.unrolled_commits} commits since; {found.snapshot_count} snapshots kept")
    click.echo("kept for days: " + ", ".join(f"{name} {'ever' if days is None else days}" for name, days in found.retention.items()))
    table(["table", "rows", "files", "MB"], [[t.name, t.row_count, t.file_count, t.file_bytes / 1e6] for t in found.tables])
    for tool, lines in opening.items():
        click.echo(f"\nto read it with {tool} alone:")
        click.echo("\n".join(f"  {line}" for line in lines))


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


@warehouse.command()
@warehouse_option
@json_option
def compact(warehouse: str, as_json: bool) -> None:
    """Merge small files, and remove files that nothing needs any more; answers do not change, readers are not disturbed.

    A running collector does this by itself, a little at a time.

    Example: isochrone warehouse compact
    """
    from warehouse import open_warehouse
    from warehouse.maintain import clean_steps, tidy_steps
    from warehouse.maintain import status as read_status
    from warehouse.retention import kept

    with open_warehouse(warehouse, mode="write") as wh:
        before = sum(t.file_count for t in read_status(wh).tables)
        steps = []
        for step in tidy_steps(wh, least=2):
            note(step)
            steps.append(step)
        days = {kind.name: kind.keep_days for kind in kept(wh)}
        removed: dict[str, int] = {}
        for step in clean_steps(wh, snapshot_days=days["snapshots"]):
            name, count = step.split()
            removed[name] = removed.get(name, 0) + int(count)
        after = sum(t.file_count for t in read_status(wh).tables)
    if as_json:
        emit_json({"files": {"before": before, "after": after}, "steps": steps, "removed": removed})
    else:
        click.echo(f"{before} files are {after} now; removed " + ", ".join(f"{count} {name}" for name, count in removed.items()))


@warehouse.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@warehouse_option
@json_option
def expire(dry_run: bool, warehouse: str, as_json: bool) -> None:
    """Remove what has been kept for its time (see `isochrone warehouse retention`); raw rows only once they are in the roll-ups.

    A running collector does this by itself. Files go when readers that still use them have had an hour or more.

    Example: isochrone warehouse expire --dry-run
    """
    from warehouse import open_warehouse
    from warehouse.retention import expire_steps
    from warehouse.rollup import rollup as bring_up

    now = datetime.now(UTC)
    with open_warehouse(warehouse, mode="read" if dry_run else "write") as wh:
        if not dry_run:
            bring_up(wh, now=now)
        done = list(expire_steps(wh, now=now, dry_run=dry_run))
    if as_json:
        emit_json({"dry_run": dry_run, "expired": [asdict(one) for one in done]})
        return
    words = "would be removed" if dry_run else "removed"
    table(
        ["table", "before", f"rows {words}", "waits"],
        [[one.table, f"{one.before_at:%Y-%m-%d}", 0 if one.waits else one.row_count, one.waits] for one in done],
    )


@warehouse.command()
@click.argument("changes", metavar="[NAME=DAYS...]", nargs=-1)
@warehouse_option
@json_option
def retention(changes: tuple[str, ...], warehouse: str, as_json: bool) -> None:
    """Say how long what is kept, or change it: a number of days, or forever.

    \b
    Example: isochrone warehouse retention
    Example: isochrone warehouse retention raw=14 hour=forever
    """
    from warehouse import open_warehouse
    from warehouse.retention import kept, set_kept

    new = dict(_days(change) for change in changes)
    with open_warehouse(warehouse, mode="write" if new else "read") as wh:
        found = set_kept(wh, new) if new else kept(wh)
    if as_json:
        emit_json([asdict(kind) for kind in found])
        return
    table(["kind", "days", "what"], [[kind.name, "forever" if kind.keep_days is None else kind.keep_days, kind.meaning] for kind in found])


@warehouse.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@json_option
def copy(source: str, target: str, as_json: bool) -> None:
    """Copy a warehouse to another place, embedded to scaled out or back; broken off, the same command goes on where it stopped.

    SRC and DST are folders or DuckLake addresses; DST must be empty. Stop the collectors of SRC first: agents keep what they measure.

    Example: isochrone warehouse copy ./isochrone-data 'ducklake:postgres:dbname=isochrone host=db user=isochrone data_path=s3://BUCKET/data'
    """
    from warehouse.copy import copy_warehouse

    done = copy_warehouse(source, target, on_chunk=lambda what, rows, total: note(f"{what}: {rows} of {total} rows"))
    if as_json:
        emit_json(asdict(done))
        return
    click.echo(f"{sum(done.row_counts.values())} rows of {len(done.row_counts)} tables are in {done.target}, counted and checked")


def _days(change: str) -> tuple[str, int | None]:
    name, equals, value = change.partition("=")
    if not equals or not (value == "forever" or value.isdecimal()):
        raise UserError(f"{change!r} is not NAME=DAYS, as in raw=14 or hour=forever")
    return name, None if value == "forever" else int(value)
