"""What a demo has measured so far, and its summary at the end: the JSON of `isochrone demo --once --json`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from records.measurement import PROBE_TYPES

if TYPE_CHECKING:
    from app.answers import Links
    from lab.world import Lab

__all__ = ["Progress", "Summary", "boots", "progress", "summarise"]

_WINDOW = timedelta(hours=1)

#: The workload whose routes the summary counts.
_WORKLOAD = "chat"


@dataclass(frozen=True, slots=True)
class Progress:
    """Measurements kept so far by probe type, and links with an estimate."""

    ping: int
    traceroute: int
    throughput: int
    inference: int
    links: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a demo ended.

    lost, duplicated   measurements the agents made that are not kept, and kept more than once
    routes             routes found from every PoP of the lab to the pools, for the workload `chat`
    best               from the first PoP that serves nothing itself: its best route, as in `isochrone route --json`
    """

    lab: str
    hosts: int
    measurements: dict[str, int]
    measured_links: int
    modelled_links: int
    routes: int
    best: dict[str, Any] | None
    warehouse: str
    lost: int
    duplicated: int

    def as_json(self) -> dict[str, Any]:
        """The document of the contract."""
        return {
            "lab": self.lab,
            "hosts": self.hosts,
            "measurements": self.measurements,
            "links": {"measured": self.measured_links, "modelled": self.modelled_links},
            "routes": self.routes,
            "best": self.best,
            "warehouse": self.warehouse,
            "lost": self.lost,
            "duplicated": self.duplicated,
        }


def progress(warehouse: str) -> Progress:
    """Count what is kept now."""
    from warehouse import open_warehouse
    from warehouse.queries import link_estimates, measurement_counts

    with open_warehouse(warehouse) as reader:
        counts = measurement_counts(reader)
        links = len(link_estimates(reader, now=datetime.now(UTC), window=_WINDOW))
    return Progress(counts["ping"], counts["traceroute"], counts["throughput"], counts["inference"], links)


def boots(warehouse: str) -> frozenset[tuple[str, str]]:
    """(agent, boot) of every life of an agent that the warehouse knows: what a later run is told apart from."""
    from warehouse import open_warehouse
    from warehouse.queries import delivery

    with open_warehouse(warehouse) as reader:
        return frozenset((row["agent"], row["boot"]) for row in delivery(reader).to_pylist())


def summarise(warehouse: str, lab: Lab, *, before: frozenset[tuple[str, str]]) -> Summary:
    """Sum up a demo after its agents have ended; lives of agents in `before` belong to earlier runs and are left out."""
    from app.answers import load_links
    from warehouse import open_warehouse
    from warehouse.queries import delivery

    measurements = dict.fromkeys(PROBE_TYPES, 0)
    lost = duplicated = 0
    with open_warehouse(warehouse) as reader:
        for row in delivery(reader).to_pylist():
            if (row["agent"], row["boot"]) in before or row["probe_type"] not in measurements:
                continue
            distinct = row["stored"] - row["duplicated"]
            measurements[row["probe_type"]] += distinct
            duplicated += row["duplicated"]
            # An agent that never reported did not say what it made: then nothing is known to be lost.
            lost += max(0, (row["produced"] or distinct) - distinct)
        known = load_links(reader, now=datetime.now(UTC), window=_WINDOW)
    routes, best, modelled = _routes(known, lab)
    return Summary(
        lab=lab.kind,
        hosts=len(lab.topology.sites),
        measurements=measurements,
        measured_links=sum(link.evidence == "measured" for link in known.links),
        modelled_links=modelled,
        routes=routes,
        best=best,
        warehouse=warehouse,
        lost=lost,
        duplicated=duplicated,
    )


def _routes(known: Links, lab: Lab) -> tuple[int, dict[str, Any] | None, int]:
    """Routes from every PoP of the lab to the lab's pools; the best of the first PoP that serves nothing; modelled legs used."""
    from app.answers import route_answer, workload_of
    from inventory.load import load
    from routing.answer import route_json
    from routing.request import Request

    inventory = load()
    serving = {site.id for site in lab.topology.sites if site.serves}
    pools = [pool for pool in inventory.pools if pool.site in serving]
    if not pools:
        return 0, None, 0  # the inventory describes no pool at the sites of this world
    count = 0
    modelled: set[tuple[str, str, str]] = set()
    best = None
    for site in lab.topology.sites:
        if site.place.kind != "pop":
            continue
        request = Request(source=site.id, workload=workload_of(_WORKLOAD), k=len(pools))
        answer = route_answer(known, request, inventory=inventory, pools=pools)
        count += len(answer.routes)
        modelled |= {leg.key for route in answer.routes for leg in route.legs if leg.evidence == "modelled"}
        if best is None and site.id not in serving and answer.routes:
            best = route_json(answer.routes[0])
    return count, best, len(modelled)
