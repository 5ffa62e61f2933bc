"""The one loader of the inventory: reads every table, checks each row and each reference, and reports all faults at once.

The built-in tables may be overlaid by a folder of a user's own, under the same file names. The tables of the fleet
(`FLEET`) replace the built-in ones: the reference fleet is nobody's network. Every other table is one of facts about
the world: its rows stand beside the built-in ones, and in place of those about the same thing. Built-in rows that
speak of a PoP which is no longer there are left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from inventory import access, places, prices, residency, serving, sites_csv
from inventory import workloads as asking
from inventory.check import HEADERS
from inventory.model import Inventory
from inventory.roofline import derive
from inventory.rows import Faults
from records.errors import InputError
from records.place import Site
from records.serving import Workload

__all__ = ["BUILT_IN", "ENVIRONMENT", "FLEET", "Inventory", "beneath", "load", "own_folder", "read", "workloads"]

T = TypeVar("T")

#: The folder of the built-in tables.
BUILT_IN = Path(__file__).parent

#: The environment variable that names a folder of a user's own tables.
ENVIRONMENT = "ISOCHRONE_INVENTORY"

#: Tables that say what a network has: a user's own stand in place of the built-in ones, not beside them.
FLEET = ("pops", "pools", "links")


def load() -> Inventory:
    """The built-in inventory under the tables of the folder that ISOCHRONE_INVENTORY names; read once for each process.

    Raises InputError if a file does not hold, or the folder is none.
    """
    return _load(own_folder())


def own_folder() -> Path | None:
    """The folder of a user's own tables that ISOCHRONE_INVENTORY names; None where it names none."""
    own = os.environ.get(ENVIRONMENT)
    return Path(own) if own else None


def beneath(own: Path) -> Inventory:
    """The built-in inventory as the tables of a user's folder find it: without the reference PoPs where they bring their own."""
    built_in = read(BUILT_IN)
    if not (own / "pops.csv").is_file():
        return built_in
    return replace(built_in, sites={name: site for name, site in built_in.sites.items() if site.kind != "pop"})


@lru_cache(maxsize=2)
def _load(own: Path | None) -> Inventory:
    return read(BUILT_IN, own=own)


def read(folder: Path, *, own: Path | None = None) -> Inventory:
    """The inventory of a folder that holds every table under its usual name, overlaid by the tables of `own`.

    Raises InputError that names every bad row of every file as file:line, one on each line of its message.
    """
    tables = _Tables(folder, own)
    regions = tables.read("regions", places.read_regions, lambda region: region.id)
    pops = tables.read("pops", places.read_pops, lambda pop: pop.site.id)
    metros = tables.read("metros", places.read_metros, lambda metro: metro.site.id)
    sites: dict[str, Site] = {}
    for site in [*(pop.site for pop in pops), *regions, *(metro.site for metro in metros), *tables.own_sites()]:
        sites[site.id] = site
    names = {site.id: site for site in sites.values() if site.kind == "region"}  # in file order
    aliases = tables.read("aliases", lambda path, faults: places.read_aliases(path, set(sites), faults), lambda alias: alias.alias)
    endpoints = tables.read("endpoints", lambda path, faults: access.read_endpoints(path, names, faults), lambda found: found.region)
    onramps = tables.read(
        "onramps", lambda path, faults: access.read_onramps(path, names, faults), lambda found: (found.provider, found.metro, found.country)
    )
    links = tables.read("links", lambda path, faults: access.read_links(path, sites, faults), lambda found: found)
    devices = tables.read("accelerators", serving.read_accelerators, lambda found: found.id)
    accelerators = {found.id: found for found in devices}
    profiles = tables.read(
        "profiles",
        lambda path, faults: serving.read_profiles(path, set(accelerators), faults),
        lambda found: (found.accelerator, found.model, found.quantisation, found.engine),
    )
    models = tables.read("models", serving.read_models, lambda found: found.id)
    # What was measured comes first, then what others published: a pool takes the first that fits.
    profiles = sorted(profiles, key=lambda found: serving.PROVENANCES.index(found.provenance))
    profiles += derive(devices, models, profiles)
    rates = dict(tables.read("currencies", lambda path, faults: list(prices.read_currencies(path, faults).items()), lambda found: found[0]))
    compute = tables.read(
        "compute_prices",
        lambda path, faults: prices.read_compute_prices(path, set(sites), accelerators, faults),
        lambda price: (price.provider, price.region, price.instance),
    )

    def hourly_usd(accelerator: str, site: str) -> float | None:
        return prices.hourly_usd(compute, rates, accelerator, site)

    pools = tables.read(
        "pools",
        lambda path, faults: serving.read_pools(path, set(sites), accelerators, profiles, faults, hourly_usd),
        lambda pool: pool.id,
    )
    asked = {found.name: found for found in tables.read("workloads", asking.read_workloads, lambda workload: workload.name)}
    applications = tables.read("applications", lambda path, faults: asking.read_applications(path, asked, faults), lambda found: found.name)
    egress = tables.read(
        "egress_prices",
        lambda path, faults: prices.read_egress(path, set(sites), rates, faults),
        lambda price: (price.provider, price.region, price.scope),
    )
    of = dict(
        tables.read("jurisdictions", lambda path, faults: list(residency.read_jurisdictions(path, faults).items()), lambda found: found[0])
    )
    groups = dict(
        tables.read("country_groups", lambda path, faults: list(residency.read_groups(path, of, faults).items()), lambda found: found[0])
    )
    jurisdictions = residency.Jurisdictions(of, groups)
    rules = tables.read("rules", lambda path, faults: residency.read_rules(path, jurisdictions, faults), lambda rule: rule.id)
    tables.fail()
    return Inventory(
        sites=sites,
        node_classes={pop.site.id: pop.node_classes for pop in pops},
        attachment={pop.site.id: pop.attachment for pop in pops if pop.attachment is not None},
        population={metro.site.id: metro.population for metro in metros},
        aliases={alias.alias: alias.id for alias in aliases},
        endpoints=endpoints,
        onramps=onramps,
        links=links,
        accelerators=accelerators,
        models={model.id: model for model in models},
        profiles=profiles,
        pools=pools,
        workloads=asked,
        applications={application.name: application for application in applications},
        egress=egress,
        compute=compute,
        currencies=rates,
        jurisdictions=jurisdictions,
        rules={rule.id: rule for rule in rules},
    )


@dataclass(slots=True)
class _Tables:
    """The tables of one folder, overlaid by those of another, and the faults of each: only the user's own name what is gone."""

    folder: Path
    own: Path | None
    faults: Faults = field(default_factory=Faults)
    own_faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        if self.own is None:
            return
        if not self.own.is_dir():
            raise InputError(self.own, None, f"no such folder; {ENVIRONMENT} or --inventory names one that holds tables such as pops.csv")
        for path in sorted(self.own.glob("*.csv")):
            if path.stem not in HEADERS:
                near = get_close_matches(path.stem, HEADERS, n=1)
                hint = f"did you mean {near[0]}.csv" if near else f"known are {', '.join(f'{kind}.csv' for kind in HEADERS)}"
                self.own_faults.add(path, None, f"is no table of the inventory; {hint}")

    def read(self, kind: str, reader: Callable[[Path, Faults], list[T]], subject: Callable[[T], Hashable]) -> list[T]:
        """The rows of one table; a user's rows replace the built-in ones about the same subject, or all of them (FLEET)."""
        path = self.folder / f"{kind}.csv"
        own_path = self.own / path.name if self.own is not None else None
        if own_path is None or not own_path.is_file():
            return reader(path, self.faults)
        own = reader(own_path, self.own_faults)
        if kind == "pops":
            self._leave_out(reader(path, Faults()), own)
        if kind in FLEET:
            return own
        subjects = {subject(row) for row in own}
        return [*(row for row in reader(path, self.faults) if subject(row) not in subjects), *own]

    def own_sites(self) -> list[Site]:
        """The places of a user's sites.csv: the shortest way to add some."""
        path = self.own / "sites.csv" if self.own is not None else None
        return sites_csv.read_sites(path, self.own_faults) if path is not None and path.is_file() else []

    def _leave_out(self, reference: Sequence[T], own: Sequence[T]) -> None:
        """Built-in rows about PoPs that the user's fleet does not have are dropped, and are no faults."""
        left = {pop.site.id for pop in own if isinstance(pop, places.Pop)}
        for pop in reference:
            if isinstance(pop, places.Pop) and pop.site.id not in left:
                self.faults.spoil(pop.site.id)

    def fail(self) -> None:
        self.faults.found.extend(self.own_faults.found)
        self.faults.fail()


def workloads(path: str | Path) -> dict[str, Workload]:
    """The workloads of a user's CSV file by name, in file order; raises InputError that names every bad row."""
    faults = Faults()
    found = asking.read_workloads(Path(path), faults)
    faults.fail()
    return {workload.name: workload for workload in found}
