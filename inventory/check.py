"""Checking tables a user brings: which kind a file is, and every row of it that does not hold."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inventory import access, places, prices, residency, serving, sites_csv, workloads
from inventory.model import Inventory
from inventory.roofline import derive
from inventory.rows import Faults
from records.errors import InputError
from records.place import Site

__all__ = ["HEADERS", "Checked", "check", "recognise"]

#: Kind of table -> the columns its header must have; references point from a later kind to an earlier one.
HEADERS: dict[str, tuple[str, ...]] = {
    "regions": places.REGION_COLUMNS,
    "pops": places.POP_COLUMNS,
    "metros": places.METRO_COLUMNS,
    "sites": sites_csv.REQUIRED_COLUMNS,
    "aliases": places.ALIAS_COLUMNS,
    "endpoints": access.ENDPOINT_COLUMNS,
    "onramps": access.ONRAMP_COLUMNS,
    "links": access.LINK_COLUMNS,
    "accelerators": serving.ACCELERATOR_COLUMNS,
    "models": serving.MODEL_COLUMNS,
    "profiles": serving.PROFILE_COLUMNS,
    "pools": serving.POOL_COLUMNS,
    "workloads": workloads.WORKLOAD_COLUMNS,
    "applications": workloads.APPLICATION_COLUMNS,
    "currencies": prices.CURRENCY_COLUMNS,
    "compute_prices": prices.COMPUTE_COLUMNS,
    "egress_prices": prices.EGRESS_COLUMNS,
    "jurisdictions": residency.JURISDICTION_COLUMNS,
    "country_groups": residency.GROUP_COLUMNS,
    "rules": residency.RULE_COLUMNS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One file checked: what it is, how many rows hold, and the faults of those that do not."""

    path: Path
    kind: str
    rows: int
    faults: tuple[InputError, ...]


def recognise(path: Path) -> str:
    """The kind of table a file is, by its name (``pools.csv``), else by its header.

    Raises InputError when there is no such file, or neither name nor header is one we know.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = {name.strip().lower() for name in next(csv.reader(file), [])}
    except FileNotFoundError:
        raise InputError(path, None, "no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, None, f"cannot be read: {error}; it must be CSV in UTF-8") from None
    if path.stem.lower() in HEADERS:
        return path.stem.lower()
    # Where several fit, the one that asks for the most: every table of places has the columns of a list of sites.
    fitting = [kind for kind, columns in HEADERS.items() if header.issuperset(columns)]
    if not fitting:
        known = "; ".join(f"{kind}: {','.join(columns)}" for kind, columns in HEADERS.items())
        raise InputError(path, 1, f"the header {','.join(sorted(header))!r} is that of no table; known are {known}")
    return max(fitting, key=lambda kind: len(HEADERS[kind]))


def check(paths: Sequence[Path], built_in: Inventory) -> list[Checked]:
    """Check files against each other and the built-in inventory; in the order given.

    A pool may name a site or an accelerator of another file of the same call. Raises InputError only for a file
    that is not there or of no known kind; what is wrong within a file is in its `Checked`.
    """
    kinds = {path: recognise(path) for path in paths}
    sites = dict(built_in.sites)
    accelerators = dict(built_in.accelerators)
    profiles, models = list(built_in.profiles), dict(built_in.models)
    asked, rates = set(built_in.workloads), dict(built_in.currencies)
    of, groups = dict(built_in.jurisdictions.named), dict(built_in.jurisdictions.groups)
    found: dict[Path, Checked] = {}
    for kind in HEADERS:
        for path in (path for path in paths if kinds[path] == kind and path not in found):
            faults = Faults()
            rows = 0
            if kind in ("regions", "pops", "metros", "sites"):
                places_read = _places(kind, path, faults)
                sites.update((site.id, site) for site in places_read)
                rows = len(places_read)
            elif kind == "aliases":
                rows = len(places.read_aliases(path, set(sites), faults))
            elif kind == "endpoints":
                rows = len(access.read_endpoints(path, _regions(sites), faults))
            elif kind == "onramps":
                rows = len(access.read_onramps(path, _regions(sites), faults))
            elif kind == "links":
                rows = len(access.read_links(path, sites, faults))
            elif kind == "accelerators":
                read = serving.read_accelerators(path, faults)
                accelerators.update((accelerator.id, accelerator) for accelerator in read)
                rows = len(read)
            elif kind == "models":
                read_models = serving.read_models(path, faults)
                models.update((model.id, model) for model in read_models)
                rows = len(read_models)
            elif kind == "profiles":
                read_profiles = serving.read_profiles(path, accelerators, faults)
                profiles = [*read_profiles, *profiles]
                rows = len(read_profiles)
            elif kind == "pools":
                fitting = [*profiles, *derive(accelerators.values(), models.values(), profiles)]
                rows = len(serving.read_pools(path, sites, accelerators, fitting, faults))
            elif kind == "workloads":
                read_workloads = workloads.read_workloads(path, faults)
                asked |= {workload.name for workload in read_workloads}
                rows = len(read_workloads)
            elif kind == "applications":
                rows = len(workloads.read_applications(path, asked, faults))
            elif kind == "currencies":
                read_rates = prices.read_currencies(path, faults)
                rates |= read_rates
                rows = len(read_rates)
            elif kind == "compute_prices":
                rows = len(prices.read_compute_prices(path, sites, accelerators, faults))
            elif kind == "jurisdictions":
                read_of = residency.read_jurisdictions(path, faults)
                of.update(read_of)
                rows = len(read_of)
            elif kind == "country_groups":
                read_groups = residency.read_groups(path, of, faults)
                groups.update(read_groups)
                rows = len(read_groups)
            elif kind == "rules":
                rows = len(residency.read_rules(path, residency.Jurisdictions(of, groups), faults))
            else:
                rows = len(prices.read_egress(path, sites, rates, faults))
            found[path] = Checked(path=path, kind=kind, rows=rows, faults=tuple(faults.found))
    return [found[path] for path in dict.fromkeys(paths)]


def _regions(sites: Mapping[str, Site]) -> list[str]:
    return [name for name, site in sites.items() if site.kind == "region"]


def _places(kind: str, path: Path, faults: Faults) -> list[Site]:
    if kind == "regions":
        return places.read_regions(path, faults)
    if kind == "pops":
        return [pop.site for pop in places.read_pops(path, faults)]
    if kind == "metros":
        return [metro.site for metro in places.read_metros(path, faults)]
    return sites_csv.read_sites(path, faults)
