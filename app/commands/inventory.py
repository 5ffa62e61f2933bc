"""`isochrone inventory`: what the inventory holds, and whether a table holds together."""

from __future__ import annotations

from pathlib import Path

import click

from app.commands.fit import fit
from app.inventory_rows import KINDS
from app.output import emit_json, json_option, note, table
from inventory import check as checking
from inventory.load import BUILT_IN, beneath, load, own_folder
from inventory.residency import COUNSEL
from records.errors import InputError, NoAnswer
from records.residency import ACTIVITIES

__all__ = ["inventory"]


_ONLY_IN_JSON = ("source", "note", "conditions")
#: Columns of countries: whole in the JSON, in as few words as they can be said on the screen.
_COUNTRIES = ("applies_to", *ACTIVITIES)


@click.group()
def inventory() -> None:
    """What the inventory knows of places, prices, devices and workloads, and whether a table holds.

    \b
    Examples:
      isochrone inventory list regions
      isochrone inventory check my-sites.csv
    """


@inventory.command("list")
@click.argument("kind", type=click.Choice(list(KINDS)), metavar="KIND")
@json_option
def list_(kind: str, as_json: bool) -> None:
    """List one kind: pops, regions, metros, endpoints, onramps, links, prices, compute-prices, currencies,
    accelerators, models, profiles, workloads, applications, pools,
    jurisdictions, country-groups or rules.

    The JSON also says where each figure is from and when it held; '-' (null in JSON) is not known, which is not zero.

    \b
    Examples:
      isochrone inventory list pops
      isochrone inventory list prices --json
    """
    rows = KINDS[kind](load())
    if kind == "rules":
        note(COUNSEL)
    if as_json:
        emit_json(rows)
        return
    columns = [column for column in rows[0] if column not in _ONLY_IN_JSON] if rows else []
    table(columns, [[_shown(column, row[column]) for column in columns] for row in rows])


def _shown(column: str, value: object) -> object:
    if value is None and column in {"region", "regions"}:
        return "(others)" if column == "region" else "any"
    if column in _COUNTRIES and isinstance(value, list):
        return load().jurisdictions.words(frozenset(map(str, value)))
    return " ".join(map(str, value)) if isinstance(value, list) else value


@inventory.command("check")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@json_option
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Check tables, the built-in ones or FILES, and name every bad row as file:line; with --inventory, those of that folder.

    A file's kind is known by its name (sites.csv, pools.csv, egress_prices.csv, ...) or by its header. Files may refer
    to each other and to the built-in inventory. Exit status: 0 all rows hold, 1 some do not, 2 a file is missing or of
    no known kind.

    \b
    Examples:
      isochrone inventory check
      isochrone inventory check my-sites.csv my-pools.csv
      isochrone --inventory my-network inventory check
    """
    own = own_folder()
    if own is not None and not files:
        files = tuple(sorted(own.glob("*.csv")))
        if not files:
            raise InputError(own, None, "holds no table, or is no folder; write one such as pops.csv")
    checked = checking.check(files or _built_in_files(), beneath(own) if own is not None else load())
    faults = [fault for file in checked for fault in file.faults]
    if as_json:
        emit_json({"ok": not faults, "files": [_file(file) for file in checked]})
    else:
        table(["file", "kind", "rows", "faults"], [[_short(f.path, files), f.kind, f.rows, len(f.faults)] for f in checked])
        for fault in faults:
            note(str(fault))
    if faults:
        raise NoAnswer(f"{len(faults)} fault{'s' if len(faults) > 1 else ''}; mend the lines named above")


def _built_in_files() -> list[Path]:
    return [BUILT_IN / f"{kind}.csv" for kind in checking.HEADERS if kind != "sites"]


def _short(path: Path, files: tuple[Path, ...]) -> str:
    return str(path) if files else path.name


def _file(file: checking.Checked) -> dict[str, object]:
    return {"file": str(file.path), "kind": file.kind, "rows": file.rows, "faults": [_fault(fault) for fault in file.faults]}


def _fault(fault: InputError) -> dict[str, object]:
    return {"line": fault.line, "problem": fault.problem}


inventory.add_command(fit)
