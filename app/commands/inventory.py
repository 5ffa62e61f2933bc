"""`isochrone inventory`: what the inventory holds, and whether a table holds together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from app.commands.fit import fit
from app.output import emit_json, json_option, note, table
from inventory import check as checking
from inventory.load import BUILT_IN, Inventory, beneath, load, own_folder
from inventory.prices import in_usd
from inventory.residency import COUNSEL
from records.errors import InputError, NoAnswer
from records.place import Site
from records.residency import ACTIVITIES
from records.units import US, ms

__all__ = ["inventory"]


def _place(site: Site) -> dict[str, object]:
    return {"id": site.id, "name": site.name, "metro": site.metro, "country": site.country, "lat": site.lat, "lon": site.lon}


def _pops(inv: Inventory) -> list[dict[str, Any]]:
    return [
        _place(site)
        | {
            "jurisdiction": inv.jurisdiction_of(site),
            "node_classes": list(inv.node_classes[site.id]) if site.id in inv.node_classes else None,
            "attachment": inv.attachment.get(site.id),
        }
        for site in inv.pops
    ]


def _regions(inv: Inventory) -> list[dict[str, Any]]:
    return [{"provider": site.provider, **_place(site), "jurisdiction": inv.jurisdiction_of(site)} for site in inv.regions]


def _endpoints(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(endpoint) for endpoint in inv.endpoints]


def _onramps(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(ramp) | {"regions": None if ramp.regions is None else list(ramp.regions)} for ramp in inv.onramps]


def _links(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(link) | {"usd_per_gb": inv.link_usd_per_gb(link)} for link in inv.links]


def _metros(inv: Inventory) -> list[dict[str, Any]]:
    return [_place(site) | {"population": inv.population.get(site.id)} for site in inv.metros]


def _prices(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(price) for price in inv.egress]


def _compute(inv: Inventory) -> list[dict[str, Any]]:
    return [
        asdict(price) | {"usd_per_device_hour": None if usd is None else usd / price.device_count}
        for price in inv.compute
        for usd in (in_usd(price.price_per_hour, price.currency, inv.currencies),)
    ]


def _currencies(inv: Inventory) -> list[dict[str, Any]]:
    return [{"currency": currency, "usd_per_unit": rate} for currency, rate in inv.currencies.items()]


def _accelerators(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(accelerator) for accelerator in inv.accelerators.values()]


def _models(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(model) for model in inv.models.values()]


def _profiles(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {
            "accelerator": p.accelerator,
            "model": p.model,
            "quantisation": p.quantisation,
            "engine": p.engine,
            "alpha_ms": ms(p.alpha_ns),
            "beta_ms": ms(p.beta_ns),
            "gamma_ms": ms(p.gamma_ns),
            "delta_us": p.delta_ns / US,
            "max_batch": p.max_batch,
            "provenance": p.provenance,
            "error_ratio": p.error_ratio,
            "source": p.source,
            "as_of": p.as_of,
        }
        for p in inv.profiles
    ]


def _workloads(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {
            "name": w.name,
            "title": w.title,
            "model": w.model,
            "input_tokens": w.input_tokens,
            "output_tokens": w.output_tokens,
            "upload_bytes": w.upload_bytes,
            "download_bytes": w.download_bytes,
            "ttft_budget_ms": ms(w.ttft_budget_ns),
            "e2e_budget_ms": ms(w.e2e_budget_ns),
            "data_class": w.data_class,
            "availability": w.availability,
            "peak_to_mean": w.peak_to_mean,
            "note": w.note,
        }
        for w in inv.workloads.values()
    ]


def _applications(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {
            "name": a.name,
            "title": a.title,
            "workload": a.workload,
            "sources": a.sources,
            "stream_mbps": a.stream_bps / 1e6,
            "active_ratio": a.active_ratio,
            "kept_ratio": a.kept_ratio,
            "requests_per_hour": a.requests_per_hour,
            "rtt_budget_ms": ms(a.rtt_budget_ns),
            "stream_tb_per_month": a.stream_bytes_per_month / 1e12,
            "kept_tb_per_month": a.kept_bytes_per_month / 1e12,
            "note": a.note,
        }
        for a in inv.applications.values()
    ]


def _pools(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {
            "id": pool.id,
            "site": pool.site,
            "accelerator": pool.accelerator,
            "device_count": pool.device_count,
            "model": pool.model,
            "quantisation": pool.profile.quantisation,
            "usd_per_hour": pool.usd_per_hour,
        }
        for pool in inv.pools
    ]


def _rules(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {
            "id": rule.id,
            "title": rule.title,
            "jurisdiction": rule.jurisdiction,
            "data_class": rule.data_class,
            "applies_to": sorted(rule.applies_to),
            **{activity: "any" if (mask := rule.mask(activity)) is None else sorted(mask) for activity in ACTIVITIES},
            "conditions": rule.conditions,
            "in_force_from": rule.in_force_from,
            "variant_of": rule.variant_of,
            "source": rule.source,
            "as_of": rule.as_of,
            "note": rule.note,
        }
        for rule in inv.rules.values()
    ]


def _jurisdictions(inv: Inventory) -> list[dict[str, Any]]:
    return [{"country": country, "jurisdiction": jurisdiction} for country, jurisdiction in inv.jurisdictions.named.items()]


def _groups(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {"id": group.id, "title": group.title, "countries": sorted(group.countries), "source": group.source, "as_of": group.as_of}
        for group in inv.jurisdictions.groups.values()
    ]


#: Kind -> its rows. The long texts (source, note) are in the JSON only.
_KINDS: dict[str, Callable[[Inventory], list[dict[str, Any]]]] = {
    "pops": _pops,
    "regions": _regions,
    "metros": _metros,
    "endpoints": _endpoints,
    "onramps": _onramps,
    "links": _links,
    "prices": _prices,
    "compute-prices": _compute,
    "currencies": _currencies,
    "accelerators": _accelerators,
    "models": _models,
    "profiles": _profiles,
    "workloads": _workloads,
    "applications": _applications,
    "pools": _pools,
    "jurisdictions": _jurisdictions,
    "country-groups": _groups,
    "rules": _rules,
}
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
@click.argument("kind", type=click.Choice(list(_KINDS)), metavar="KIND")
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
    rows = _KINDS[kind](load())
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
