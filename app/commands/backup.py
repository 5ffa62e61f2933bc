"""`isochrone warehouse backup / restore / rollback`: what one does before something is lost, and after."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from app.output import emit_json, json_option, note, table, warehouse_option

__all__ = ["backup", "restore", "rollback"]

_TOLD_EVERY_S = 3.0


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--check", "is_check", is_flag=True, help="Make none: read every file of the backup in DIR and hold it against its SHA-256.")
@warehouse_option
@json_option
def backup(folder: Path, warehouse: str, *, is_check: bool, as_json: bool) -> None:
    """Back the warehouse up into DIR, beside a running collector; an earlier backup there is brought forward.

    What is in DIR is one moment of the warehouse, read and counted. Files that an earlier backup has are not fetched again.

    \b
    Example: isochrone warehouse backup /mnt/backup/isochrone
    Example: isochrone warehouse backup /mnt/backup/isochrone --check
    """
    from warehouse.backup import backup as make
    from warehouse.backup import check_backup

    fetched = 0
    if is_check:
        made = check_backup(folder)
    else:
        made, fetched = make(warehouse, folder, now=datetime.now(UTC), on_file=_told())
    if as_json:
        said = {key: value for key, value in asdict(made).items() if key != "files"}
        emit_json({**said, "files": len(made.files), "file_bytes": made.file_bytes, "fetched_files": fetched, "checked": is_check})
        return
    rows = sum(made.row_counts.values())
    click.echo(
        f"snapshot {made.snapshot_id} of {made.source}, {made.made_at}: {rows} rows, {len(made.files)} files, "
        f"{made.file_bytes / 1e6:.1f} MB"
    )
    note(f"every file of {folder} is as it was backed up" if is_check else f"{folder} is whole; {fetched} files are new in it")


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@warehouse_option
@json_option
def restore(folder: Path, warehouse: str, *, as_json: bool) -> None:
    """Restore the backup in DIR to an empty place: a folder, or an empty database and a data path where it is of a scaled-out warehouse.

    \b
    Example: isochrone warehouse restore /mnt/backup/isochrone --warehouse ./restored
    """
    from warehouse.restore import restore as put_back

    found = put_back(folder, warehouse, on_file=_told())
    if as_json:
        said = {key: value for key, value in asdict(found).items() if key != "files"}
        emit_json({**said, "files": len(found.files), "file_bytes": found.file_bytes, "warehouse": warehouse})
        return
    click.echo(f"{sum(found.row_counts.values())} rows of {len(found.row_counts)} tables are in {warehouse}, read and counted")


def _told() -> Callable[[int, int], None]:
    """How far it is, every few seconds."""
    said_s = time.monotonic()

    def told(done: int, total: int) -> None:
        nonlocal said_s
        if time.monotonic() - said_s > _TOLD_EVERY_S:
            said_s = time.monotonic()
            note(f"{done} of {total} files")

    return told


@click.command()
@click.option(
    "--discard", "is_discarding", is_flag=True, help="Go back although batches were stored since; they are lost from the warehouse."
)
@click.option("--list", "is_list", is_flag=True, help="Only say which catalogs are kept.")
@warehouse_option
@json_option
def rollback(warehouse: str, *, is_discarding: bool, is_list: bool, as_json: bool) -> None:
    """Go back to the catalog from before the last upgrade, so that the version from before can open the warehouse again.

    An upgrade of the schema keeps the catalog first. Stop the collectors, roll back with this version, then install the one from before.
    What was stored since the upgrade would be lost: without --discard it is only counted.

    \b
    Example: isochrone warehouse rollback --list
    Example: isochrone warehouse rollback
    """
    from warehouse.rollback import kept_catalogs
    from warehouse.rollback import rollback as go_back

    if is_list:
        kept = kept_catalogs(warehouse)
        if as_json:
            emit_json([asdict(one) for one in kept])
        else:
            table(["schema", "kept at"], [[one.schema, f"{one.kept_at:%Y-%m-%d %H:%M:%S} UTC"] for one in kept])
        return
    done = go_back(warehouse, is_discarding=is_discarding)
    if as_json:
        emit_json(asdict(done))
        return
    click.echo(f"{warehouse} has schema {done.schema} again (it had {done.from_schema}); {done.lost_batches} batches were left behind")
    note("install the version of isochrone that this schema is of before a collector is started: this one would upgrade it again")
