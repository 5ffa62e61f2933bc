"""From a warehouse and the inventory to an answer: the composition that the command line and the dashboard share.

Reads links and places from the warehouse, places, pools, workloads and prices from the inventory, lets routing grade
and plan, and hands out records and the JSON of docs' contract. No printing, no Streamlit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.memory import fitted, memory_of
from inventory.load import Inventory, load
from inventory.workloads import read_workload_file
from records.errors import NoAnswer, UnknownSite, UserError
from records.link import MEDIA, LinkEstimate
from records.place import PROVIDERS, Site
from records.residency import ResidencyRule
from records.serving import ServingPool, Workload
from records.units import ms
from routing import columns, gates, matrix, modelled
from routing.answer import Answer, link_json
from routing.columns import LinkColumns
from routing.cost import EgressPrices, LinkPrices
from routing.gates import GatePolicy
from routing.matrix import MatrixRow
from routing.media import quantile_ns
from routing.planner import Planner
from routing.request import Request
from routing.sums import Series
from warehouse import Warehouse, queries

if TYPE_CHECKING:
    from routing.scenario import Scenario, WhatIf
    from routing.served import Serving
    from warehouse.imported import LinkRows
    from warehouse.queries import LinkSnapshot

__all__ = [
    "MATRIX_COLUMNS",
    "Links",
    "MomentsOf",
    "availabilities",
    "graded",
    "link_prices_of",
    "links_json",
    "load_links",
    "matrix_json",
    "matrix_rows",
    "planner_of",
    "prices_of",
    "quantile_name",
    "require_links",
    "residency_rules",
    "route_answer",
    "rules_not_in_force",
    "serving_of",
    "site_id",
    "unmeasured",
    "what_if_answer",
    "what_if_answers",
    "workload_of",
    "write_parquet",
]

MATRIX_COLUMNS = ("src", "dst", "direct_ms", "best_ms", "relays", "evidence")

#: Keys of links -> their samples by time bucket.
MomentsOf = Callable[[Collection[tuple[str, str, str]]], Mapping[tuple[str, str, str], Series]]


@dataclass(frozen=True)
class Links:
    """Every link estimate of one snapshot with its verdict, and the places by id (the warehouse's over the inventory's)."""

    links: Sequence[LinkEstimate]
    sites: Mapping[str, Site]
    snapshot: int
    location: str

    def counts(self) -> dict[str, int]:
        """How many links stand at each gate."""
        found = self.links.counts() if isinstance(self.links, LinkColumns) else gates.counts(self.links)
        return {str(gate): n for gate, n in found.items()}

    @cached_property
    def ends(self) -> frozenset[str]:
        """The ids at the ends of links."""
        if isinstance(self.links, LinkColumns):
            return frozenset(self.links.names)
        return frozenset(end for link in self.links for end in (link.src, link.dst))


def load_links(
    warehouse: Warehouse,
    *,
    now: datetime,
    window: timedelta | None = None,
    policy: GatePolicy | None = None,
    inventory: Inventory | None = None,
) -> Links:
    """The graded links of the newest snapshot over (now - window, now]; window None takes everything.

    Links between places that neither the warehouse nor the inventory describes keep their RTT but have no floor.
    """
    return graded(queries.link_snapshot(warehouse, now=now, window=window), warehouse.address, policy=policy, inventory=inventory)


def graded(found: LinkSnapshot, location: str, *, policy: GatePolicy | None = None, inventory: Inventory | None = None) -> Links:
    """What a warehouse says of links, graded."""
    sites = (inventory or load()).sites | {site.id: site for site in found.sites}
    return Links(columns.grade(_columns(found.rows, found.rates), sites, policy), sites, found.snapshot, location)


def _columns(rows: LinkRows, rates: Mapping[tuple[str, str, str], float]) -> LinkColumns:
    found = LinkColumns(**{each.name: getattr(rows, each.name) for each in fields(rows)})
    if not rates:
        return found
    ends = zip(found.src.tolist(), found.dst.tolist(), found.medium.tolist(), strict=True)
    keys = ((found.names[i], found.names[j], MEDIA[m]) for i, j, m in ends)
    return replace(found, throughput_bps={at: rates[key] for at, key in enumerate(keys) if key in rates})


def require_links(known: Links) -> Links:
    """The links, or NoAnswer that says how to get some."""
    if not known.links:
        raise NoAnswer(
            f"the warehouse at {known.location} holds no link; `isochrone demo` measures some here, "
            "`isochrone import rtt-matrix FILE.csv` reads some"
        )
    return known


def site_id(name: str, known: Links, inventory: Inventory | None = None) -> str:
    """The id of the site a person named: an id of a place or a link's end, or one of the inventory's other names.

    Raises UnknownSite with the nearest ids.
    """
    for candidate in (name, name.strip().lower()):
        if candidate in known.sites or candidate in known.ends:
            return candidate
    found = (inventory or load()).resolve(name)
    if found is None:
        raise UnknownSite(name, known.sites)
    return found


def workload_of(name: str, inventory: Inventory | None = None) -> Workload:
    """The workload of a name, or the one of a file: CSV with the columns of inventory/workloads.csv, or JSON with those names.

    Raises UserError for a name that is neither, InputError for a file that does not hold or holds several.
    """
    known = (inventory or load()).workloads
    if name in known:
        return known[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(f"no workload {name!r}, nor a file of that name; known workloads are {', '.join(known)}")
    return read_workload_file(path)


def residency_rules(names: Iterable[str], inventory: Inventory | None = None) -> tuple[ResidencyRule, ...]:
    """The inventory's rules of these ids. Raises UserError for one it does not have."""
    known = (inventory or load()).rules
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.4)
            raise UserError(
                f"no residency rule {name!r}; " + (f"did you mean {', '.join(near)}" if near else "`isochrone inventory list rules`")
            )
    return tuple(known[name] for name in dict.fromkeys(names))


def rules_not_in_force(request: Request, sites: Mapping[str, Site]) -> list[str]:
    """The rules asked for that do nothing, one sentence each: they do not hold for the people whose data it is."""
    country = request.subject_country or (sites[request.source].country if request.source in sites else None)
    return [
        f"{rule.id} does not hold for data of people in {country}"
        for rule in request.residency
        if country is not None and country not in rule.applies_to
    ]


def availabilities(settings: Iterable[str], known: Links) -> dict[str, float]:
    """`WHO=RATIO` settings as a mapping; WHO is a site, a provider, `pop` or `region`.

    Raises UserError for what is neither, UnknownSite for a site nobody knows.
    """
    found = {}
    for setting in settings:
        who, _, text = setting.rpartition("=")
        try:
            ratio = float(text)
        except ValueError:
            ratio = -1.0
        if not who or not 0 <= ratio <= 1:
            raise UserError(f"availability {setting!r} is not WHO=RATIO with a ratio 0..1, as in aws=0.9999 or pop=0.999")
        found[who if who in PROVIDERS or who in ("pop", "region") else site_id(who, known)] = ratio
    return found


def planner_of(
    known: Links,
    *,
    inventory: Inventory | None = None,
    pools: Iterable[ServingPool] | None = None,
    seed: int = 0,
    availability: Mapping[str, float] | None = None,
    series: Mapping[tuple[str, str, str], Series] | None = None,
    groups: Mapping[str, Collection[str]] | None = None,
) -> Planner:
    """A planner over the links of a snapshot with the inventory's pools (or those given) and prices."""
    inventory = inventory or load()
    return Planner(
        known.links,
        known.sites,
        inventory.pools if pools is None else pools,
        egress=prices_of(inventory),
        seed=seed,
        snapshot=known.snapshot,
        availability=availability,
        series=series,
        groups=groups,
        link_prices=link_prices_of(inventory),
        memory=memory_of(inventory),
    )


def route_answer(
    known: Links,
    request: Request,
    *,
    inventory: Inventory | None = None,
    pools: Iterable[ServingPool] | None = None,
    seed: int = 0,
    availability: Mapping[str, float] | None = None,
    groups: Mapping[str, Collection[str]] | None = None,
    moments: MomentsOf | None = None,
) -> Answer:
    """Plan a request over the links of a snapshot with the inventory's pools (or those given) and prices.

    groups   what fails together by site id, beside the sites of one metro
    moments  the samples of links by time bucket (warehouse.moments): legs measured together are then drawn together
    """
    inventory = inventory or load()
    serving = fitted(inventory.pools if pools is None else pools, request.workload, inventory)
    planner = planner_of(known, inventory=inventory, pools=serving, seed=seed, availability=availability, groups=groups)
    if moments is not None:
        legs = planner.joint_legs(request)
        if legs:
            planner.replay(moments(legs))
    return planner.plan(request)


def what_if_answer(
    known: Links,
    edits: Scenario,
    request: Request,
    *,
    inventory: Inventory | None = None,
    pools: Iterable[ServingPool] | None = None,
    seed: int = 0,
) -> WhatIf:
    """A request before and after a scenario, over the links of a snapshot."""
    return what_if_answers(known, edits, [request], inventory=inventory, pools=pools, seed=seed)[0]


def what_if_answers(
    known: Links,
    edits: Scenario,
    requests: Iterable[Request],
    *,
    inventory: Inventory | None = None,
    pools: Iterable[ServingPool] | None = None,
    seed: int = 0,
) -> list[WhatIf]:
    """Requests before and after a scenario, over the links of a snapshot."""
    from routing import scenario  # with all edits, which a route needs none of

    inventory = inventory or load()
    world = scenario.World.of(known.sites, known.links, inventory.pools if pools is None else pools)
    return scenario.what_ifs(edits, world, requests, egress=prices_of(inventory), seed=seed, snapshot=known.snapshot)


def serving_of(known: Links, *, inventory: Inventory | None = None, seed: int = 0) -> Serving:
    """The links of a snapshot with the inventory's pools and prices, ready to say who serves whom (routing.served)."""
    from routing.served import Serving
    from routing.world import World

    inventory = inventory or load()
    return Serving(World.of(known.sites, known.links, inventory.pools), egress=prices_of(inventory), seed=seed, snapshot=known.snapshot)


def matrix_rows(
    known: Links, *, relays: int = 1, relay_ms: float = 0.5, min_gain_ms: float = 0.0, fail: Collection[str] = ()
) -> list[MatrixRow]:
    """The all-pairs table over the links that passed their gates, without the sites of `fail` (ids, see site_id)."""
    return matrix.rows(known.links, relays=relays, relay_ms=relay_ms, min_gain_ms=min_gain_ms, fail=fail)


def links_json(links: Sequence[LinkEstimate], asked: Sequence[float] = ()) -> list[dict[str, Any]]:
    """`isochrone links --json`; `asked` are more quantiles (0..1), each listed under its percentage, as in "p90"."""
    found = []
    for link in links:
        document = link_json(link)
        document["rtt_ms"] |= {quantile_name(q): ms(quantile_ns(link, q)) for q in asked}
        found.append(document)
    return found


def quantile_name(q: float) -> str:
    """What a quantile is called: 0.9 is p90, 0.999 is p99.9.

    >>> quantile_name(0.9), quantile_name(0.999)
    ('p90', 'p99.9')
    """
    return f"p{round(q * 100, 6):g}"


def unmeasured(known: Links) -> list[LinkEstimate]:
    """Modelled (or, from a measured reverse, assumed) links for the pairs of measured places that have no usable link."""
    ends = sorted(known.ends & known.sites.keys())
    usable = [link for link in known.links if link.gate == "ok"]
    found = modelled.links_between([known.sites[name] for name in ends], usable)
    return [link for link in found if not (known.sites[link.src].kind == known.sites[link.dst].kind == "metro")]


def matrix_json(rows: Sequence[MatrixRow]) -> list[dict[str, Any]]:
    """`isochrone matrix --format json`."""
    return [
        {
            "src": row.src,
            "dst": row.dst,
            "direct_ms": row.direct_ms,
            "best_ms": row.best_ms,
            "relays": list(row.relays),
            "evidence": row.evidence,
        }
        for row in rows
    ]


def write_parquet(rows: Sequence[MatrixRow], path: Path) -> None:
    """Write the all-pairs table as Parquet; relays are a list of texts.

    Raises UserError where the file cannot be written.
    """
    import pandas as pd  # comes with Streamlit; nothing else here needs it

    columns = {name: [record[name] for record in matrix_json(rows)] for name in MATRIX_COLUMNS}
    frame = pd.DataFrame(columns).astype({"direct_ms": "float64", "best_ms": "float64"})
    try:
        frame.to_parquet(path, index=False)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def link_prices_of(inventory: Inventory) -> LinkPrices:
    """The private links of an inventory that have a price."""
    priced = (link for link in inventory.links if link.port_usd_per_month is not None or link.usd_per_gb is not None)
    return {(link.src, link.dst, link.medium): link for link in priced}


@dataclass(frozen=True, eq=False)
class _Prices:
    """An inventory's egress prices, each asked for once; goes to other processes with it."""

    inventory: Inventory
    known: dict[tuple[str, Any, float], float | None] = field(default_factory=dict)

    def __call__(self, site: str, scope: Any, month_gb: float) -> float | None:
        key = (site, scope, month_gb)
        if key not in self.known:
            if len(self.known) >= _PRICES:
                self.known.clear()
            self.known[key] = self.inventory.egress_usd_per_gb(site, scope, month_gb) if site in self.inventory.sites else None
        return self.known[key]


#: A planner asks for the same few meters for every candidate.
_PRICES = 4096


def prices_of(inventory: Inventory) -> EgressPrices:
    """Egress prices; a region that only the warehouse knows has no price, which is unknown and not an error."""
    return _Prices(inventory)
