"""The one loader of the inventory: reads every table, checks each row and each reference, and reports all faults at once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from inventory import places, residency, serving
from inventory.model import Inventory
from inventory.rows import Faults
from records.place import Site
from records.serving import Workload

__all__ = ["BUILT_IN", "Inventory", "load", "read", "workloads"]

#: The folder of the built-in tables.
BUILT_IN = Path(__file__).parent


@lru_cache(maxsize=1)
def load() -> Inventory:
    """The built-in inventory, read once for each process; raises InputError if its files do not hold."""
    return read(BUILT_IN)


def read(folder: Path) -> Inventory:
    """The inventory of a folder that holds every table under its usual name.

    Raises InputError that names every bad row of every file as file:line, one on each line of its message.
    """
    faults = Faults()
    regions = places.read_regions(folder / "regions.csv", faults)
    pops = places.read_pops(folder / "pops.csv", faults)
    metros = places.read_metros(folder / "metros.csv", faults)
    sites: dict[str, Site] = {}
    for site in [*(pop.site for pop in pops), *regions, *(metro.site for metro in metros)]:
        sites[site.id] = site
    aliases = places.read_aliases(folder / "aliases.csv", set(sites), faults)
    accelerators = {found.id: found for found in serving.read_accelerators(folder / "accelerators.csv", faults)}
    profiles = serving.read_profiles(folder / "profiles.csv", set(accelerators), faults)
    pools = serving.read_pools(folder / "pools.csv", set(sites), accelerators, profiles, faults)
    asked = serving.read_workloads(folder / "workloads.csv", faults)
    egress = serving.read_egress(folder / "egress_prices.csv", set(sites), faults)
    of = residency.read_jurisdictions(folder / "jurisdictions.csv", faults)
    jurisdictions = residency.Jurisdictions(of, residency.read_groups(folder / "country_groups.csv", of, faults))
    rules = residency.read_rules(folder / "rules.csv", jurisdictions, faults)
    faults.fail()
    return Inventory(
        sites=sites,
        node_classes={pop.site.id: pop.node_classes for pop in pops},
        population={metro.site.id: metro.population for metro in metros},
        aliases={alias.alias: alias.id for alias in aliases},
        accelerators=accelerators,
        profiles=profiles,
        pools=pools,
        workloads={workload.name: workload for workload in asked},
        egress=egress,
        jurisdictions=jurisdictions,
        rules={rule.id: rule for rule in rules},
    )


def workloads(path: str | Path) -> dict[str, Workload]:
    """The workloads of a user's CSV file by name, in file order; raises InputError that names every bad row."""
    faults = Faults()
    found = serving.read_workloads(Path(path), faults)
    faults.fail()
    return {workload.name: workload for workload in found}
