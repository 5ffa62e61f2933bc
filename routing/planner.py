"""The planner: where to serve a request and over which route, with alternatives, a backup, and what is not certain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from records.link import LinkEstimate
from records.place import Site
from records.serving import EgressScope, ServingPool
from routing.answer import Answer, Infeasible, ParetoPoint, Route
from routing.cost import EgressPrices, cost_per_1k
from routing.evaluate import Candidate, evaluate, pool_decode_ns, pool_prefill_ns, tied
from routing.infeasible import explain
from routing.network import Network, Path
from routing.quantiles import quantiles
from routing.queueing import Queue, solve
from routing.reasons import reasons
from routing.request import Request

__all__ = ["candidates", "no_price", "plan"]


def no_price(_site: str, _scope: EgressScope, _month_gb: float) -> float | None:
    """No price is known: the cost of every route that leaves a region is unknown."""
    return None


def plan(
    request: Request,
    *,
    links: Iterable[LinkEstimate],
    sites: Mapping[str, Site],
    pools: Iterable[ServingPool],
    egress: EgressPrices = no_price,
    seed: int = 0,
    snapshot: int | None = None,
    relay_sites: Collection[str] | None = None,
) -> Answer:
    """Answer a request from graded links (routing.gates) and the places, pools and prices given.

    Every (path, pool) candidate is evaluated on the same seeded draws and ranked by the median of the objective.
    `routes` are the k best with different pools' sites, filled up with other paths where there are fewer; `ties` says
    which of them the evidence cannot tell apart; `backup` shares no relay, ingress or serving site with the first (a
    destination that was asked for excepted) and, where one exists, no cloud provider; `pareto` is the front of median
    TTFT against cost over all candidates with a known cost.

    Sound questions without an answer come back with `infeasible` and no routes. Raises UnknownSite for a source or
    destination that is not in `sites`.
    """
    network = Network(links, sites, relay_sites=relay_sites, relay_ms=request.relay_ms)
    network.site(request.source)
    if request.destination is not None:
        network.site(request.destination)
    pools = [pool for pool in pools if pool.site in sites]

    def feasible(asked: Request) -> list[Candidate]:
        return candidates(asked, network, pools, egress, seed=seed)

    found = feasible(request)
    kept = [c for c in found if request.budget_ms is None or c.budget_value_ns(request) <= request.budget_ms * 1e6]
    if not kept:
        why = explain(request, found, pools, feasible)
        return _answer(snapshot, request, infeasible=why)
    kept.sort(key=lambda candidate: candidate.objective(request))
    chosen = _distinct(kept, request.k)
    backup = _backup(chosen[0], kept, request, sites)
    routes = [_route(candidate, request, network) for candidate in chosen]
    if chosen[0].path.modelled:
        routes[0] = _warn_of_model(routes[0], chosen)
    return _answer(
        snapshot,
        request,
        routes=tuple(routes),
        ties=tuple((i, j) for (i, a), (j, b) in combinations(enumerate(chosen), 2) if tied(a, b, request)),
        backup=None if backup is None else _backup_route(backup, chosen[0], request, network),
        pareto=_pareto(kept, chosen),
    )


def candidates(request: Request, network: Network, pools: Sequence[ServingPool], egress: EgressPrices, *, seed: int) -> list[Candidate]:
    """Every (path, pool) that could serve the request, evaluated, in no particular order; budgets are not looked at.

    Pools that serve another model or are full at the load are left out. A destination without a pool for the model
    gives its paths without a pool.
    """
    serving = [p for p in pools if p.model == request.workload.model and request.destination in (None, p.site)]
    if not serving and request.destination is not None:
        paths = network.paths(request.source, request.destination, relays=request.relays, measured_only=request.measured_only)
        return [evaluate(path, None, None, request, cost=None, seed=seed) for path in paths]
    found = []
    for pool in serving:
        queue = queue_of(pool, request)
        if queue.overloaded:
            continue
        for path in network.paths(request.source, pool.site, relays=request.relays, measured_only=request.measured_only):
            cost = cost_per_1k(
                path.legs,
                pool,
                queue,
                prefill_ns=pool_prefill_ns(pool, request),
                decode_ns=pool_decode_ns(pool, queue, request),
                sites=network.sites,
                workload=request.workload,
                prices=egress,
                arrival_rps=request.arrival_rps,
            )
            found.append(evaluate(path, pool, queue, request, cost=cost, seed=seed))
    return found


def queue_of(pool: ServingPool, request: Request) -> Queue:
    """The queue of a pool under the request's load."""
    return solve(
        pool.profile,
        pool.device_count,
        request.arrival_rps,
        input_tokens=request.workload.input_tokens,
        output_tokens=request.workload.output_tokens,
        cache_hit_ratio=request.cache_hit_ratio,
    )


def _distinct(ranked: Sequence[Candidate], k: int) -> list[Candidate]:
    """The k best: first one for each serving site, then other paths or pools, in the order of the ranking."""
    served: set[str] = set()
    first = []
    for candidate in ranked:
        if candidate.path.sites[-1] not in served:
            served.add(candidate.path.sites[-1])
            first.append(candidate)
    chosen = first[:k]
    others = [candidate for candidate in ranked if not any(candidate is c for c in chosen)]
    keep = {id(candidate) for candidate in (*chosen, *others[: k - len(chosen)])}
    return [candidate for candidate in ranked if id(candidate) in keep]


def _backup(best: Candidate, ranked: Sequence[Candidate], request: Request, sites: Mapping[str, Site]) -> Candidate | None:
    """The best candidate that shares no link and no site with `best`, and no cloud provider where that can be had."""
    ends = {request.source} if request.destination is None else {request.source, request.destination}
    own_sites = set(best.path.sites) - ends
    disjoint = [
        c
        for c in ranked
        if not own_sites & set(c.path.sites)
        and not set(best.path.key) & set(c.path.key)
        and (request.destination is not None or c.path.sites[-1] != best.path.sites[-1])
    ]
    providers = _providers(best.path, ends, sites)
    other = [c for c in disjoint if not providers & _providers(c.path, ends, sites)]
    return next(iter(other or disjoint), None)


def _providers(path: Path, without: set[str], sites: Mapping[str, Site]) -> set[str]:
    return {provider for site in path.sites if site not in without and (provider := sites[site].provider) is not None}


def _route(candidate: Candidate, request: Request, network: Network, *extra: str) -> Route:
    served = candidate.pool is not None
    return Route(
        sites=candidate.path.sites,
        pool=candidate.pool,
        legs=candidate.path.legs,
        rtt=quantiles(candidate.rtt_ns),
        ttft=candidate.ttft if served else None,
        e2e=candidate.e2e if served else None,
        cost=candidate.cost,
        parts=candidate.parts(),
        reasons=(*reasons(candidate, request, network), *extra),
    )


def _backup_route(backup: Candidate, best: Candidate, request: Request, network: Network) -> Route:
    ends = {request.source} if request.destination is None else {request.source, request.destination}
    shared = sorted(_providers(best.path, ends, network.sites) & _providers(backup.path, ends, network.sites))
    note = "shares no site with the first route"
    return _route(backup, request, network, f"{note}, but its provider {', '.join(shared)}" if shared else note)


def _warn_of_model(first: Route, chosen: Sequence[Candidate]) -> Route:
    """The first route rests on a model: say so, and name the best one that was measured."""
    measured = next((i for i, c in enumerate(chosen) if not c.path.modelled), None)
    instead = "none of the routes named is measured throughout" if measured is None else f"route {measured + 1} is measured throughout"
    return replace(first, reasons=(*first.reasons, f"ranked first on a model; measure it before relying on it ({instead})"))


def _pareto(found: Sequence[Candidate], chosen: Sequence[Candidate]) -> tuple[ParetoPoint, ...]:
    """The candidates that no other beats in both median TTFT and cost, fastest first."""
    index = {id(candidate): i for i, candidate in enumerate(chosen)}
    priced = [
        (c.ttft.p50_ns, c.cost.usd_per_1k, index.get(id(c), len(chosen)), c.path.sites, c)
        for c in found
        if c.pool is not None and c.cost is not None and c.cost.usd_per_1k is not None
    ]
    front: list[ParetoPoint] = []
    for ttft_ns, usd, route, sites, c in sorted(priced, key=lambda point: point[:4]):
        if not front or usd < front[-1].usd_per_1k:
            assert c.pool is not None
            front.append(
                ParetoPoint(ttft_ns=ttft_ns, usd_per_1k=usd, route=route if route < len(chosen) else None, sites=sites, pool=c.pool.id)
            )
    return tuple(front)


def _answer(
    snapshot: int | None,
    request: Request,
    *,
    routes: tuple[Route, ...] = (),
    ties: tuple[tuple[int, int], ...] = (),
    backup: Route | None = None,
    pareto: tuple[ParetoPoint, ...] = (),
    infeasible: Infeasible | None = None,
) -> Answer:
    return Answer(snapshot=snapshot, request=request, routes=routes, ties=ties, backup=backup, pareto=pareto, infeasible=infeasible)
