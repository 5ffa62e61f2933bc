"""The planner's answer, and its JSON as other programs read it (`isochrone route --json`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from records.link import LinkEstimate
from records.serving import ServingPool
from records.units import MS, ms
from routing.breakeven import BreakEven
from routing.cost import Cost
from routing.draws import Together
from routing.quantiles import Quantiles
from routing.request import Request

__all__ = [
    "PARTS",
    "Answer",
    "Binding",
    "Disjoint",
    "Infeasible",
    "ParetoPoint",
    "Parts",
    "Relaxation",
    "Route",
    "RulePrice",
    "break_even_json",
    "link_json",
    "route_json",
    "to_json",
]

#: The parts of E2E in the order they pass; all but the last make TTFT.
PARTS = ("connect", "upload", "relay", "queue", "prefill", "network", "decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the median request spends where, in ns; None for the machine's parts where there is no pool.

    Each is the mean over the requests around the median (the middle 5 % by TTFT), scaled so that the first six add up to
    the median TTFT; with `decode`, to the median E2E.
    """

    connect: float | None
    upload: float | None
    relay: float
    queue: float | None
    prefill: float | None
    network: float
    decode: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disjoint:
    """What a backup shares with the route it backs up, beside the ends: never a site or a link; nothing is best.

    providers  cloud providers of both; groups: risk groups (a metro, or those given) that a site of each is in
    """

    providers: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way to serve the request.

    sites    source, (ingress,) relays, serving site
    pool     what serves; None when the destination asked for has no pool for the model: then only the network is known
    legs     the link estimates used, in order, each with its evidence
    rtt      quantiles of the round trip over all legs, what the relays add included
    ttft, e2e  quantiles; None without a pool
    availability  share of time all its sites stand, 0..1; None where one's is not known
    together  replay: the legs were drawn at the same moments; independent: each by itself
    disjoint  of a backup: what it shares with the first route
    moments   how many moments were replayed; None where legs were drawn independently
    """

    sites: tuple[str, ...]
    pool: ServingPool | None
    legs: tuple[LinkEstimate, ...]
    rtt: Quantiles
    ttft: Quantiles | None
    e2e: Quantiles | None
    cost: Cost | None
    parts: Parts
    reasons: tuple[str, ...]
    availability: float | None = None
    together: Together = "independent"
    disjoint: Disjoint | None = None
    moments: int | None = None

    @property
    def usd_per_1k(self) -> float | None:
        """USD per 1,000 requests; None where a price is missing."""
        return None if self.cost is None else self.cost.usd_per_1k


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A rule that leaves no route: its name, its limit, and the best there is against it."""

    rule: str
    limit: float | str | None
    best: float | str | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """One change that alone gives a route, and what the best route then takes (ms at p95) and costs; None not known."""

    rule: str
    to: float | str
    gives_ms: float | None
    text: str
    gives_usd_per_1k: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasible:
    """Why there is no route, and what would give one, the least intrusive first."""

    binding: tuple[Binding, ...]
    relax: tuple[Relaxation, ...]

    @property
    def cheapest(self) -> int | None:
        """Index of the relaxation whose route costs least, then is soonest; None without any."""
        order = [
            (math.inf if r.gives_usd_per_1k is None else r.gives_usd_per_1k, math.inf if r.gives_ms is None else r.gives_ms, i)
            for i, r in enumerate(self.relax)
        ]
        return min(order)[2] if order else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePrice:
    """What a rule costs the best route: with the rule less without it, of the median objective (ns) and of USD per 1,000.

    usd_per_1k is None where a price is missing, and may be below 0: a rule may make the fastest route a cheaper one.
    """

    rule: str
    price_ns: float
    usd_per_1k: float | None
    without_sites: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoPoint:
    """No candidate is both faster to the first token and cheaper; `route` is its index among the routes, None if not there."""

    ttft_ns: float
    usd_per_1k: float
    route: int | None
    sites: tuple[str, ...]
    pool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Routes best first by the objective; `ties` pairs of them that the evidence cannot tell apart."""

    snapshot: int | None
    request: Request
    routes: tuple[Route, ...]
    ties: tuple[tuple[int, int], ...]
    backup: Route | None
    pareto: tuple[ParetoPoint, ...]
    infeasible: Infeasible | None
    rule_prices: tuple[RulePrice, ...] = ()
    break_even: BreakEven | None = None


def to_json(answer: Answer) -> dict[str, Any]:
    """The answer as plain lists, dicts, strings and numbers; times in ms; null is unknown."""
    return {
        "snapshot": answer.snapshot,
        "request": _request_json(answer.request),
        "routes": [route_json(route) for route in answer.routes],
        "ties": [list(pair) for pair in answer.ties],
        "backup": None if answer.backup is None else route_json(answer.backup),
        "pareto": [
            {
                "ttft_ms": _ms(point.ttft_ns),
                "usd_per_1k": point.usd_per_1k,
                "route": point.route,
                "sites": list(point.sites),
                "pool": point.pool,
            }
            for point in answer.pareto
        ],
        "infeasible": None if answer.infeasible is None else _infeasible_json(answer.infeasible),
        "rule_prices": [
            {"rule": p.rule, "ms": _ms(p.price_ns), "usd_per_1k": p.usd_per_1k, "without": list(p.without_sites)}
            for p in answer.rule_prices
        ],
        "break_even": None if answer.break_even is None else break_even_json(answer.break_even),
    }


def break_even_json(found: BreakEven) -> dict[str, Any]:
    """Two ways to serve, who wins what, and where that flips; null: it does not."""
    return {
        "near": found.near,
        "far": found.far,
        "winner": {"ttft": found.ttft_winner, "e2e": found.e2e_winner, "cost": found.cost_winner},
        "flips_at": {
            "output_tokens": found.output_tokens,
            "upload_bytes": found.payload_bytes,
            "near_usd_per_hour": found.usd_per_hour,
            "far_egress_usd_per_gb": found.usd_per_gb,
        },
    }


def route_json(route: Route) -> dict[str, Any]:
    """One ROUTE of the contract."""
    return {
        "sites": list(route.sites),
        "pool": None if route.pool is None else _pool_json(route.pool),
        "rtt_ms": _quantiles_json(route.rtt),
        "ttft_ms": _quantiles_json(route.ttft),
        "e2e_ms": _quantiles_json(route.e2e),
        "usd_per_1k": route.usd_per_1k,
        "parts": {name: _ms(getattr(route.parts, name)) for name in PARTS},
        "evidence": [link_json(leg) for leg in route.legs],
        "reasons": list(route.reasons),
        "availability": route.availability,
        "quantiles": route.together,
        "quantile_method": "replay" if route.moments is not None else "monte_carlo",
        "moments": route.moments,
        "ports_usd_per_month": None if route.cost is None else route.cost.rent_usd_per_month,
        "disjoint": None if route.disjoint is None else _disjoint_json(route.disjoint),
    }


def _disjoint_json(found: Disjoint) -> dict[str, Any]:
    return {
        "site": True,
        "provider": not found.providers,
        "risk_group": not found.groups,
        "shared": {"providers": list(found.providers), "groups": list(found.groups)},
    }


def link_json(link: LinkEstimate) -> dict[str, Any]:
    """One link as `isochrone links --json` lists it."""
    return {
        "src": link.src,
        "dst": link.dst,
        "medium": link.medium,
        "rtt_ms": {
            "min": _ms(link.rtt_min_ns),
            "p50": _ms(link.rtt_p50_ns),
            "p95": _ms(link.rtt_p95_ns),
            "p99": _ms(link.rtt_p99_ns),
        },
        "loss_ratio": link.loss_ratio,
        "throughput_bps": link.throughput_bps,
        "samples": link.sample_count,
        "age_s": link.age_s,
        "evidence": link.evidence,
        "gate": link.gate,
        "fibre_floor_ms": _ms(link.fibre_floor_ns),
        "inflation": link.inflation,
        "rtt_from": link.rtt_from,
        "grain": link.grain,
    }


def _ms(value_ns: float | None) -> float | None:
    """Milliseconds to the nanosecond: no trail of digits that nobody measured."""
    value = ms(value_ns)
    return None if value is None else round(value, 6)


def _quantiles_json(value: Quantiles | None) -> dict[str, float | None]:
    if value is None:
        return {"p50": None, "p95": None, "p99": None}
    return {"p50": _ms(value.p50_ns), "p95": _ms(value.p95_ns), "p99": _ms(value.p99_ns)}


def _pool_json(pool: ServingPool) -> dict[str, Any]:
    return {
        "id": pool.id,
        "site": pool.site,
        "accelerator": pool.accelerator,
        "devices": pool.device_count,
        "model": pool.model,
        "quantisation": pool.profile.quantisation,
        "engine": pool.profile.engine,
        "provenance": pool.profile.provenance,
        "usd_per_hour": pool.usd_per_hour,
    }


def _request_json(request: Request) -> dict[str, Any]:
    workload = request.workload
    return {
        "from": request.source,
        "to": request.destination,
        "objective": request.objective,
        "relays": request.relays,
        "k": request.k,
        "budget_ms": request.budget_ms,
        "connection": request.connection,
        "relay_ms": request.relay_ms,
        "arrival_rps": request.arrival_rps,
        "cache_hit_ratio": request.cache_hit_ratio,
        "measured_only": request.measured_only,
        "onward": request.onward,
        "relay_mode": request.relay_mode,
        "budget_usd_per_1k": request.budget_usd_per_1k,
        "max_utilisation": request.max_utilisation,
        "min_availability": request.min_availability,
        "max_evidence_age_s": request.max_evidence_age_s,
        "residency": [rule.id for rule in request.residency],
        "subject_country": request.subject_country,
        "min_providers": request.min_providers,
        "workload": {
            "name": workload.name,
            "model": workload.model,
            "input_tokens": workload.input_tokens,
            "output_tokens": workload.output_tokens,
            "upload_bytes": workload.upload_bytes,
            "download_bytes": workload.download_bytes,
            "ttft_budget_ms": None if workload.ttft_budget_ns is None else workload.ttft_budget_ns / MS,
            "e2e_budget_ms": None if workload.e2e_budget_ns is None else workload.e2e_budget_ns / MS,
        },
    }


def _infeasible_json(infeasible: Infeasible) -> dict[str, Any]:
    return {
        "binding": [{"rule": b.rule, "limit": b.limit, "best": b.best, "text": b.text} for b in infeasible.binding],
        "relax": [
            {"rule": r.rule, "to": r.to, "gives_ms": r.gives_ms, "gives_usd_per_1k": r.gives_usd_per_1k, "text": r.text}
            for r in infeasible.relax
        ],
        "cheapest": infeasible.cheapest,
    }
