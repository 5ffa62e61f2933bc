"""From the inventory's metros, a warehouse's links and candidates to a placement, for the command line and the dashboard."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.answers import Links
from inventory.candidates import Candidate
from inventory.load import Inventory, load
from records.errors import BadPlacement, UnknownSite
from records.place import Site
from routing.distance import Distances, distances
from routing.placement import Objective, Placement, Problem, place
from routing.placement_limits import quick_limited
from routing.placement_proof import prove

__all__ = ["KINDS", "UNITS", "Placed", "candidates_of", "place_answer", "placement_json"]

#: What of the inventory may be placed at; any is both.
KINDS = ("pop", "region", "any")

#: What the value of an objective is counted in.
UNITS: dict[str, str] = {"p50": "ms", "p95": "ms", "within-budget": "share of people"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A placement with what it was asked of: metros, candidates, the RTT of every pair of them and whether it was measured."""

    problem: Problem
    placement: Placement
    metros: tuple[Site, ...]
    candidates: tuple[str, ...]
    distances: Distances
    snapshot: int | None

    @property
    def known_share(self) -> float:
        """The share of people whose RTT to their site was measured (or assumed from its reverse), 0..1."""
        served = self.distances.known[np.arange(len(self.metros)), self.placement.serves]
        return float(served @ self.problem.weights / self.problem.weights.sum())


def candidates_of(kinds: str, inventory: Inventory) -> list[Candidate]:
    """The inventory's sites of one of KINDS."""
    return [Candidate(id=site.id) for site in (*inventory.pops, *inventory.regions) if kinds in ("any", site.kind)]


def place_answer(
    k: int,
    *,
    objective: Objective = "p50",
    candidates: Sequence[Candidate] | None = None,
    keep: Iterable[str] = (),
    budget_ms: float = 30.0,
    spend_usd: float | None = None,
    proven: bool = False,
    time_limit_s: float = 30.0,
    known: Links | None = None,
    inventory: Inventory | None = None,
) -> Placed:
    """Place k sites among the candidates (None: every PoP and region) for the inventory's metros, weighted by population.

    keep       ids (or other names) of sites that stand already; candidates or not, they count among the k
    spend_usd  the most that new sites may cost; needs a price for every candidate
    proven     ask HiGHS for the optimum or a bound; the quick answer has a (looser) bound where sites have capacities or prices
    known      measured links; None models every distance

    Raises UnknownSite for a candidate or kept site that nothing knows, BadPlacement, NoPlacement.
    """
    inventory = inventory or load()
    sites = dict(inventory.sites) if known is None else inventory.sites | dict(known.sites)
    asked = list(candidates) if candidates is not None else candidates_of("any", inventory)
    chosen: dict[str, Candidate] = {}
    for candidate in asked:
        site = candidate.site or _known(candidate.id, sites, inventory)
        chosen[site.id] = candidate
        sites[site.id] = site
    limited = any(candidate.capacity is not None for candidate in chosen.values())
    stands = [_known(name, sites, inventory).id for name in keep]
    for name in stands:
        if limited and name not in chosen:
            raise BadPlacement(f"site {name} is kept and has no capacity, as the candidates have; give it a row in the file of candidates")
        chosen.setdefault(name, Candidate(id=name, price_usd=0.0))
    names = tuple(chosen)
    if spend_usd is not None and any(candidate.price_usd is None for candidate in chosen.values()):
        missing = next(name for name, candidate in chosen.items() if candidate.price_usd is None)
        raise BadPlacement(f"candidate {missing} has no price_usd and the spending is limited; give a price for every candidate")
    metros = tuple(site for site in inventory.metros if inventory.population.get(site.id))
    found = distances(metros, [sites[name] for name in names], () if known is None else known.links)
    problem = Problem(
        rtt_ms=found.rtt_ms,
        weights=np.array([inventory.population[metro.id] for metro in metros], dtype=np.float64),
        k=k,
        objective=objective,
        keep=tuple(names.index(name) for name in dict.fromkeys(stands)),
        budget_ms=budget_ms,
        capacity=np.array([chosen[name].capacity for name in names], dtype=np.float64) if limited else None,
        price=None if spend_usd is None else np.array([chosen[name].price_usd for name in names], dtype=np.float64),
        spend=spend_usd,
    )
    if proven:
        placement = prove(problem, time_limit_s=time_limit_s, clock=time.monotonic)
    else:
        placement = quick_limited(problem) if limited or spend_usd is not None else place(problem)
    return Placed(
        problem=problem,
        placement=placement,
        metros=metros,
        candidates=names,
        distances=found,
        snapshot=None if known is None else known.snapshot,
    )


def placement_json(placed: Placed) -> dict[str, Any]:
    """`isochrone place --json`: sites, value, bound, gap, marginal, and what they are of."""
    problem, placement, names = placed.problem, placed.placement, placed.candidates
    order = np.argsort(-placement.marginal, kind="stable")
    # What the quantity says of itself (no RTT is below 0, no share above 1) is no bound that was found.
    is_bare = placement.gap != 0 and placement.bound == (1 if problem.objective == "within-budget" else 0)
    return {
        "sites": [names[site] for site in placement.sites],
        "value": placement.value,
        "bound": None if is_bare else placement.bound,
        "gap": None if is_bare else placement.gap,
        "marginal": [
            {
                "site": names[site],
                "gain": float(placement.marginal[site]) if np.isfinite(placement.marginal[site]) else None,
                "chosen": site in placement.sites,
            }
            for site in order.tolist()
        ],
        "objective": problem.objective,
        "unit": UNITS[problem.objective],
        "k": problem.k,
        "keep": [names[site] for site in problem.keep],
        "budget_ms": problem.budget_ms if problem.objective == "within-budget" else None,
        "candidates": len(names),
        "people": float(problem.weights.sum()),
        "measured_share": placed.known_share,
        "snapshot": placed.snapshot,
        "metros": [
            {
                "metro": metro.id,
                "people": float(problem.weights[row]),
                "site": names[site],
                "rtt_ms": round(float(problem.rtt_ms[row, site]), 6),
                "evidence": "measured" if placed.distances.known[row, site] else "modelled",
            }
            for row, (metro, site) in enumerate(zip(placed.metros, placement.serves.tolist(), strict=True))
        ],
    }


def _known(name: str, sites: dict[str, Site], inventory: Inventory) -> Site:
    found = sites.get(name) or sites.get(inventory.resolve(name) or "")
    if found is None:
        raise UnknownSite(name, sites)
    return found
