"""`isochrone import`: other people's measurements in."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.output import emit_json, json_option, note, table, warehouse_option
from app.text import plural
from records.errors import NoAnswer, UserError

if TYPE_CHECKING:
    from inventory.model import Inventory
    from records.place import Site
    from warehouse import Warehouse
    from warehouse.importers.report import ImportReport

__all__ = ["import_"]

_PROTOCOLS = ("icmp", "udp", "tcp")


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
@click.option("--sites", "sites_file", metavar="SITES.csv", help="Places of your own beside the inventory's: id,name,lat,lon,...,address")
@click.option("--map-site", "map_sites", multiple=True, metavar="HOST=SITE", help="HOST (address, network, name) is at SITE. Repeatable.")
@click.option("--src", metavar="SITE", help="The site that measured, whatever the files say.")
@click.option("--dst", metavar="SITE", help="The site that was measured, whatever the files say.")
@click.option("--at", metavar="TIME|mtime", help="When, for what is not dated; mtime: the file's time. [matrix: not dated]")
@click.option("--medium", default="internet", show_default=True, help="internet, backbone or direct-connect, for what does not say.")
@click.option("--protocol", type=click.Choice(_PROTOCOLS), help="Of paths whose format does not say. [default: the tool's own]")
@click.option("--target", metavar="ADDRESS", help="Address that was measured, for formats that do not say (mtr --report, --raw).")
@click.option("--map", "maps", multiple=True, metavar="COLUMN=NAME", help="Matrices: the file calls COLUMN by another NAME. Repeatable.")
@click.option("--where", "wheres", multiple=True, metavar="NAME=VALUE", help="Matrices: read only rows in which NAME is VALUE. Repeatable.")
@warehouse_option
@json_option
def import_(
    format_name: str,
    files: tuple[str, ...],
    sites_file: str | None,
    map_sites: tuple[str, ...],
    src: str | None,
    dst: str | None,
    at: str | None,
    medium: str,
    protocol: str | None,
    target: str | None,
    maps: tuple[str, ...],
    wheres: tuple[str, ...],
    warehouse: str,
    as_json: bool,
) -> None:
    """Store other people's measurements; says how many were read, stored, and rejected for which reason.

    FORMAT is one of rtt-matrix, throughput-matrix, ripe-atlas, globalping, scamper, mtr, fping, ping,
    traceroute, iperf3, ndt7, perfsonar, dublin-traceroute, trippy; docs/import.md has what each one needs.
    Hosts are at the sites that --map-site, the column address of --sites, and the inventory say. What
    cannot be stored is kept in the table reject with its reason; the same file twice is stored once.
    Exit status 1 when nothing was stored and something was rejected, or there was nothing in the files.

    \b
    Example: isochrone import rtt-matrix rtt.csv --sites sites.csv
    Example: ping -D -c 10 192.0.2.7 > p.txt; isochrone import ping p.txt --src sin --map-site 192.0.2.0/24=fra
    Example, the Skyplane grid of AWS, Azure and Google Cloud, which names its columns differently:
      isochrone import rtt-matrix latency_2022-04.csv --map src=src_region --map dst=dst_region \\
        --map rtt_ms=avg_rtt --map min_ms=min_rtt --map stddev_ms=mdev_rtt \\
        --where src_tier=PREMIUM --where dst_tier=PREMIUM
    """
    from inventory.load import load
    from inventory.sites_csv import read, read_addresses
    from warehouse.importers import FORMATS

    if format_name not in FORMATS:
        raise UserError(f"unknown format {format_name!r}; formats: {', '.join(FORMATS)}")
    mapping, where = _pairs("--map", maps, "rtt_ms=avg_rtt"), _pairs("--where", wheres, "tier=PREMIUM")
    inventory = load()
    own = {site.id: site for site in read(sites_file)} if sites_file else {}
    if format_name == "rtt-matrix":
        report = _matrix(warehouse, files, inventory, own, mapping, where, medium, _time(at))
    else:
        hosts = {endpoint.host: endpoint.region for endpoint in inventory.endpoints if endpoint.terminates == "region"}
        hosts |= read_addresses(sites_file) if sites_file else {}
        hosts |= _pairs("--map-site", map_sites, "192.0.2.7=fra")
        said = {"src": src, "dst": dst, "medium": medium, "protocol": protocol, "target": target}
        beside: dict[str, object] = {**said, "at": "mtime" if at == "mtime" else _time(at), "mapping": mapping, "where": where}
        report = _measurements(warehouse, format_name, files, inventory, own, hosts, beside)
    if as_json:
        emit_json(asdict(report))
    else:
        _say(report, warehouse)
    if report.rejected and not report.stored and not report.already:
        is_blank = set(report.rejected) == {"empty"}
        raise NoAnswer("nothing was stored: " + ("there is no measurement in what was given" if is_blank else "all of it was rejected"))


def _matrix(
    warehouse: str,
    files: tuple[str, ...],
    inventory: Inventory,
    own: dict[str, Site],
    mapping: dict[str, str],
    where: dict[str, str],
    medium: str,
    at: datetime | None,
) -> ImportReport:
    from warehouse import open_warehouse
    from warehouse.importers.rtt_matrix import PASSES, check_files, import_files

    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(_progress(files, passes=PASSES))
        check_files(files, mapping=mapping, where=where, medium=medium, progress=progress)
        wh = stack.enter_context(open_warehouse(warehouse, mode="write"))
        return import_files(
            wh,
            files,
            known_sites=_known(wh, inventory, own),
            resolve=inventory.resolve,
            mapping=mapping,
            where=where,
            medium=medium,
            at=at,
            now=datetime.now(UTC),
            progress=progress,
        )


def _measurements(
    warehouse: str,
    format_name: str,
    files: tuple[str, ...],
    inventory: Inventory,
    own: dict[str, Site],
    hosts: dict[str, str],
    beside: dict[str, object],
) -> ImportReport:
    from warehouse import open_warehouse
    from warehouse.importers.files import Beside, check_beside, import_measurements
    from warehouse.importers.names import Names

    said = Beside(**beside)  # type: ignore[arg-type]
    check_beside(format_name, said, files)
    with open_warehouse(warehouse, mode="write") as wh, _progress(files) as progress:
        known = _known(wh, inventory, own)
        for site in {*hosts.values()} - known.keys():
            raise UserError(f"{site!r}, named as the site of a host, is no known site; --sites SITES.csv brings sites of your own")
        return import_measurements(
            wh,
            format_name,
            files,
            known_sites=known,
            # Only a matrix names places: a host called london may be anywhere.
            names=Names(sites=frozenset(known), hosts=hosts, resolve=inventory.resolve if format_name.endswith("-matrix") else None),
            beside=said,
            now=datetime.now(UTC),
            progress=progress,
        )


def _known(wh: Warehouse, inventory: Inventory, own: dict[str, Site]) -> dict[str, Site]:
    from warehouse import queries

    return {**inventory.sites, **{site.id: site for site in queries.sites(wh)}, **own}


@contextlib.contextmanager
def _progress(files: tuple[str, ...], *, passes: int = 1) -> Iterator[Callable[[int], object] | None]:
    """A bar by bytes where standard error is a terminal; nothing anywhere else. passes: how often each file is read."""
    paths = [Path(path) for path in files]
    if not sys.stderr.isatty() or not all(path.is_file() for path in paths):  # what is no file is told by who opens it
        yield None
        return
    size = passes * sum(path.stat().st_size for path in paths)
    with click.progressbar(length=size, label="reading", file=sys.stderr) as bar:
        yield bar.update


def _say(report: ImportReport, warehouse: str) -> None:
    blank = report.rejected.get("empty", 0)  # counted as a row each, since each is kept as a reject
    parts = [f"read {report.read - blank}", f"stored {report.stored}"]
    parts += [f"already stored {report.already}"] if report.already else []
    parts += [f"left out by --where {report.skipped}"] if report.skipped else []
    click.echo(f"{', '.join(parts)}, rejected {sum(report.rejected.values()) - blank}")
    if blank:
        click.echo(f"  empty, without a measurement: {plural(blank, 'file')}")
    for reason, count in report.rejected.items():
        if reason != "empty":
            click.echo(f"  rejected {reason}: {count}")
    for reason, count in report.flagged.items():
        click.echo(f"  stored but marked {reason}: {count}")
    if report.unknown_names:
        click.echo("hosts at no known site; --map-site HOST=SITE, or the column address of --sites, says where they are:")
        table(["host", "named"], [[name, count] for name, count in report.unknown_names.items()])
    if report.already and not report.stored:
        note("nothing new: this content was imported before")
    if report.rejected:
        note(f'each rejected row with its reason: isochrone sql "FROM reject" --warehouse {warehouse}')
