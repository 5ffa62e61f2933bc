"""`isochrone survey`: how far every region of the six clouds is from this host, measured now and politely."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from app.commands.measure import MS, keep_lines
from app.output import emit_json, json_option, note, table
from app.quantities import as_options
from app.survey import RegionRow, place_of, region_json, rows, spots
from inventory.load import Inventory, load
from probes.http.client import Certificates, Visitor
from probes.http.config import HttpConfig
from probes.http.survey import Manners, Outcome, Spot, alone
from probes.http.survey import survey as walk
from probes.model import Vantage, new_boot_id
from probes.resolve import Resolver
from records.errors import OutsideError, UserError
from records.place import PROVIDERS, Site, great_circle_km
from records.units import ms

__all__ = ["survey"]

_COLUMNS = ("region", "city", "law", "rtt ms", "floor ms", "inflation", "failed", "tls ms", "resumed ms", "note")


@click.command()
@click.option("--from", "origin", metavar="SITE|LAT,LON|NAME=LAT,LON", help="Where this host is; else floors are bounds (see below).")
@click.option(
    "--provider", "providers", multiple=True, type=click.Choice(list(PROVIDERS)), help="Only this cloud; more than once for more."
)
@click.option("--region", "regions", multiple=True, metavar="ID", help="Only this region; more than once for more.")
@click.option("--near", type=click.IntRange(min=1), metavar="N", help="Measure only the N regions nearest to --from.")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Print only the N fastest.")
@click.option("--by", type=click.Choice(["provider", "continent"]), help="One table for each.")
@click.option("--connections", type=click.IntRange(1, 5), default=3, show_default=True, help="To each region.")
@click.option("--timeout", type=MS, default="3s", show_default=True, help="A phase of a connection that takes longer has failed.")
@click.option("--ca-file", default="", metavar="FILE", help="PEM file of the authority behind the certificates.  [default: the system's]")
@click.option("--contact", default="", metavar="TEXT", help="Whom an endpoint's owner may ask; stands in the User-Agent.")
@json_option
@click.option("-o", "--output", metavar="csv|FILE.csv|FILE.json", help="CSV on standard output, or a file of either kind.")
@click.option("--store", "place", metavar="URL|FOLDER", help="Keep the measurements too: a collector's URL, or a warehouse folder.")
@click.option("--token-file", type=click.Path(path_type=Path), metavar="FILE", help="Bearer token for the collector.")
@click.option("--agent", default="cli", show_default=True, metavar="ID", help="Agent id the measurements are kept under.")
def survey(
    origin: str | None,
    providers: tuple[str, ...],
    regions: tuple[str, ...],
    near: int | None,
    top: int | None,
    by: str | None,
    connections: int,
    timeout: float,
    ca_file: str,
    contact: str,
    output: str | None,
    place: str | None,
    token_file: Path | None,
    agent: str,
    *,
    as_json: bool,
) -> None:
    """Measure every public region of six clouds from this host in half a minute: RTT, fibre floor, TLS; no set-up, no root.

    RTT is the kernel's of a TCP hand-shake. Without --from nothing says where this host is, and nobody is asked: a floor
    is then the least that the RTTs to the nearest regions allow (>=), and an inflation the most (<=).

    Exit status 3 when no region could be measured.

    Example: isochrone survey --from fra --top 20
    """
    inventory = load()
    here = None if origin is None else place_of(origin, inventory)
    if place is not None and (here is None or here.id == "here"):
        raise UserError("--store needs to know the site of this host: give --from SITE, or --from NAME=LAT,LON for one of your own")
    if near is not None and here is None:
        raise UserError("--near needs to know where this host is: give --from SITE or --from LAT,LON")
    write = _writer(output)
    chosen = _chosen(inventory, here, providers, regions, near)
    found, without = spots(chosen, inventory)
    if not found:
        raise UserError(
            f"no endpoint is known of {', '.join(site.id for site in chosen) or 'any region'}; `isochrone inventory list endpoints`"
        )
    with as_options():
        config = HttpConfig(method="HEAD", max_response_bytes=4096, timeout_ms=max(1, round(timeout)), ca_file=ca_file, contact=contact)
    vantage = Vantage(agent=agent, site=here.id if here else "here", boot=new_boot_id())
    manners = Manners(connections=connections)
    with alone():
        done = asyncio.run(_walk(found, config, vantage, manners))
    made = rows(done.results, inventory, here)
    untried = [spot.site for spot in found if spot.site not in {row.site.id for row in made}]
    document = _document(here, made, without, untried, done, top)
    if as_json:
        emit_json(document)
    elif output == "csv":
        click.echo(_csv(made[:top]), nl=False)
    else:
        _show(made, top, by, here)
        _say_failures(made, without, untried, done)
    if write is not None:
        write(document, made[:top])
    if place is not None:
        assert here is not None
        keep_lines(done.results, place, token_file, vantage)
        if "://" not in place:
            _describe(place, [here, *(row.site for row in made)])
    if not any(row.rtt_min_ns is not None for row in made):
        raise OutsideError(f"no region answered ({_commonest(made)}); does this network let TCP port 443 out?")


def _chosen(inventory: Inventory, here: Site | None, providers: Sequence[str], regions: Sequence[str], near: int | None) -> list[Site]:
    chosen = [inventory.site(name) for name in regions] or inventory.regions
    for site in chosen:
        if site.kind != "region":
            raise UserError(f"--region {site.id!r} is no cloud region; `isochrone inventory list regions` names them")
    if providers:
        chosen = [site for site in chosen if site.provider in providers]
    if near is not None and here is not None:
        chosen = sorted(chosen, key=lambda site: great_circle_km(here, site))[:near]
    return list(dict.fromkeys(chosen))


async def _walk(found: Sequence[Spot], config: HttpConfig, vantage: Vantage, manners: Manners) -> Outcome:
    resolver = Resolver(threads=manners.at_once)
    try:
        with _progress(len(found) * manners.connections) as advance:
            visitor = Visitor(config, Certificates(config.ca_file), resolver)
            return await walk(found, visitor, vantage, manners, on_result=lambda _: advance())
    finally:
        resolver.close()


@contextmanager
def _progress(length: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error where that is a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    with click.progressbar(length=length, label="surveying", file=sys.stderr) as bar:
        yield lambda: bar.update(1)


def _document(
    here: Site | None, made: Sequence[RegionRow], without: Sequence[Site], untried: Sequence[str], done: Outcome, top: int | None
) -> dict[str, Any]:
    return {
        "from": None if here is None else {"site": here.id, "lat": here.lat, "lon": here.lon},
        "place": "bounded" if here is None else "given",
        "took_s": round(done.took_ns / 1e9, 3),
        "is_cut_short": done.is_cut_short,
        "connections": len(done.results),
        "regions": [region_json(row) for row in made[:top]],
        "measured": sum(row.rtt_min_ns is not None for row in made),
        "not_measurable": [{"region": site.id, "reason": "no endpoint is known"} for site in without],
        "not_tried": list(untried),
    }


def _show(made: Sequence[RegionRow], top: int | None, by: str | None, here: Site | None) -> None:
    measured = [row for row in made if row.rtt_min_ns is not None]
    groups: dict[str, list[RegionRow]] = {}
    for row in measured:
        key = "" if by is None else (PROVIDERS.get(row.site.provider or "", "") if by == "provider" else row.continent or "unknown")
        groups.setdefault(key, []).append(row)
    for title, some in groups.items():
        if title:
            click.echo(f"{title}: {len(some)} measured")
        table(_COLUMNS, [_cells(row) for row in some[:top]])
        if title:
            click.echo()
    if here is not None and sum(row.is_impossible for row in measured) > len(measured) / 4:
        note(f"{sum(row.is_impossible for row in measured)} regions answered faster than light could from {here.id}: is --from right?")


def _cells(row: RegionRow) -> list[object]:
    floor: float | str | None = ms(row.floor_ns)
    inflation: float | str | None = row.inflation
    if row.floor_is_bound:
        floor = f">={floor:.1f}"
        inflation = None if inflation is None else f"<={inflation:.2f}"
    notes = []
    if row.is_impossible:
        notes.append("faster than light: the name leads elsewhere")
    elif row.terminates not in (None, "region"):
        notes.append("may end at a front end elsewhere")
    if row.tls_error is not None:
        notes.append(f"certificate not accepted: {row.tls_error}")
    return [
        row.site.id,
        row.site.metro or row.site.name,
        row.jurisdiction,
        ms(row.rtt_min_ns),
        floor,
        inflation,
        f"{row.failed}/{row.tried}",
        ms(row.tls_ns),
        ms(row.tls_resumed_ns),
        "; ".join(notes),
    ]


def _say_failures(made: Sequence[RegionRow], without: Sequence[Site], untried: Sequence[str], done: Outcome) -> None:
    """Partial failures with their reasons, then what was not measured at all; on standard error."""
    silent = [row for row in made if row.rtt_min_ns is None]
    measured = len(made) - len(silent)
    note(f"{measured} regions measured with {len(done.results)} connections in {done.took_ns / 1e9:.1f} s, {len(silent)} gave no answer")
    for row in made:
        for failed in row.failures:
            note(f"  {row.site.id}: {failed.count} of {row.tried} failed: {failed.error} [{failed.source}]")
        if row.rtt_min_ns is None and row.failed < row.tried:
            note(f"  {row.site.id}: connected, but each SYN was lost once and sent again: no RTT; the path drops packets")
    if without:
        note(f"{len(without)} not measurable, no endpoint is known: {', '.join(site.id for site in without)}")
    if untried:
        note(f"{len(untried)} not tried before the time was up: {', '.join(untried)}")


def _commonest(made: Sequence[RegionRow]) -> str:
    failures = [failed for row in made for failed in row.failures]
    return max(failures, key=lambda failed: failed.count).error if failures else "nothing was tried"


def _csv(made: Sequence[RegionRow]) -> str:
    """The rows of --json, flat; unknown is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    flat = [{**values, "rtt_ms": None} for values in map(region_json, made)]
    names = [name for name in (flat[0] if flat else {}) if name not in ("rtt_ms", "failures")]
    writer.writerow(["rtt_min_ms", "rtt_median_ms", *names, "failures"])
    for row, values in zip(made, flat, strict=True):
        failures = json.dumps(values["failures"], ensure_ascii=False) if values["failures"] else ""
        writer.writerow([ms(row.rtt_min_ns), ms(row.rtt_median_ns), *(values[name] for name in names), failures])
    return out.getvalue()


def _writer(output: str | None) -> Callable[[dict[str, Any], Sequence[RegionRow]], None] | None:
    """What writes `-o FILE`; None where there is no file. Raises UserError for a name of neither kind."""
    if output is None or output == "csv":
        return None
    path = Path(output)
    if path.suffix not in {".csv", ".json"}:
        raise UserError(f"-o {output!r} is neither csv nor a file that ends in .csv or .json")

    def write(document: dict[str, Any], made: Sequence[RegionRow]) -> None:
        text = _csv(made) if path.suffix == ".csv" else json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        note(f"written to {path}")

    return write


def _describe(folder: str, sites: Sequence[Site]) -> None:
    """The places of a survey, so that a warehouse that did not know them can show floors and maps."""
    from warehouse import open_warehouse
    from warehouse.queries import put_sites
    from warehouse.queries import sites as known

    with open_warehouse(folder, mode="write") as writer:
        there = {site.id for site in known(writer)}
        put_sites(writer, [site for site in sites if site.id not in there])
