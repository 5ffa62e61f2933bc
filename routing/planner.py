"""The planner: where to serve a request and over which route, with alternatives, a backup, and what is not certain."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from typing import Any

from records.errors import UnknownSite
from records.link import LinkEstimate
from records.place import Site
from records.serving import EgressScope, ServingPool
from records.units import MS
from routing.answer import Answer, Disjoint, Infeasible, ParetoPoint, Route, RulePrice
from routing.breakeven import BreakEven, break_even
from routing.columns import LinkColumns
from routing.constraints import MemoryOf, Rule, availability_of, binding_residency, keeps, may_pass, residency_refuses_pool, rules
from routing.cost import EgressPrices, LinkPrices, cost_per_1k
from routing.disjoint import default_groups, shared_names
from routing.draws import Draws
from routing.evaluate import Candidate, Ranked, evaluate, pool_decode_ns, pool_prefill_ns, tied
from routing.handshakes import HANDSHAKE_ROUND_TRIPS
from routing.infeasible import explain
from routing.network import Network, Path, Way
from routing.quantiles import quantiles
from routing.queueing import Queue, solve
from routing.reasons import reasons
from routing.request import Request
from routing.sums import Series

__all__ = ["OWN", "Planner", "no_price", "plan"]

#: Paths to one pool that are drawn and compared; the others are longer by medians than all of these.
PATHS_PER_POOL = 8
#: The provider of our own PoPs, where providers are counted.
OWN = "own PoPs"


def no_price(_site: str, _scope: EgressScope, _month_gb: float) -> float | None:
    """No price is known: the cost of every route that leaves a region is unknown."""
    return None


class Planner:
    """Graded links, places, pools and prices, indexed once and asked many times.

    links         graded (routing.gates); the planner keeps them
    link_prices   what private links cost, where they have a price of their own
    egress        prices; availability by site id, provider or kind (routing.constraints.availability_of)
    memory        what a pool's model needs and its device has; a pool known not to fit never serves
    series        samples by time bucket of some links (routing.sums), to draw legs of a route together
    cut           pairs without a link, not even a modelled one
    groups        what fails together by site id, beside the sites of one metro (routing.disjoint): a backup shares none of it
    relay_sites   sites that may relay; None for all
    """

    def __init__(
        self,
        links: Iterable[LinkEstimate],
        sites: Mapping[str, Site],
        pools: Iterable[ServingPool],
        *,
        egress: EgressPrices = no_price,
        seed: int = 0,
        snapshot: int | None = None,
        relay_sites: Collection[str] | None = None,
        availability: Mapping[str, float] | None = None,
        memory: MemoryOf | None = None,
        series: Mapping[tuple[str, str, str], Series] | None = None,
        cut: Collection[tuple[str, str]] = (),
        groups: Mapping[str, Collection[str]] | None = None,
        link_prices: LinkPrices | None = None,
    ) -> None:
        self.links = links if isinstance(links, LinkColumns) else tuple(links)
        self.sites = sites
        self.pools = tuple(pool for pool in pools if pool.site in sites)
        self.egress = egress
        self.snapshot = snapshot
        self.availability = availability or {}
        self.memory: MemoryOf = memory or (lambda _pool, _workload: None)
        self.draws = Draws(seed, series)
        self._relay_sites = relay_sites
        self._cut = cut
        self._more_groups = groups
        self._link_prices = link_prices or {}
        self._networks: dict[tuple[float, frozenset[str] | None, frozenset[str] | None], Network] = {}

    def network(self, request: Request) -> Network:
        """The network as the request may use it: relays and ingress PoPs are those where its rules let data pass."""
        relays, ingress = self._relay_sites, None
        rules = binding_residency(request, self.sites)
        if rules:
            may = self.sites.keys() if relays is None else relays
            relays = frozenset(name for name in may if name in self.sites and may_pass(rules, request.relay_mode, self.sites[name]))
            ingress = frozenset(name for name, site in self.sites.items() if may_pass(rules, request.relay_mode, site, ingress=True))
        key = (request.relay_ms, None if relays is None else frozenset(relays), ingress)
        if key not in self._networks:
            self._networks[key] = Network(
                self.links, self.sites, relay_sites=relays, relay_ms=request.relay_ms, ingress_sites=ingress, cut=self._cut
            )
        return self._networks[key]

    def plan(self, request: Request) -> Answer:
        """Answer a request; see `plan`."""
        self._know(request)
        network = self.network(request)
        kept = self.feasible(request)
        enough = len({self.provider(c) for c in kept}) >= request.min_providers
        if not kept or not enough:
            return _answer(self.snapshot, request, infeasible=explain(request, self, kept))
        chosen = self._distinct(kept, Ranked(kept, request), request)
        backup = self._backup(chosen[0], kept, request)
        routes = [self._route(candidate, request, network) for candidate in chosen]
        if chosen[0].path.modelled:
            routes[0] = _warn_of_model(routes[0], chosen)
        return _answer(
            self.snapshot,
            request,
            routes=tuple(routes),
            ties=tuple((i, j) for (i, a), (j, b) in combinations(enumerate(chosen), 2) if tied(a, b, request)),
            backup=None if backup is None else self._backup_route(backup, chosen[0], request, network),
            pareto=_pareto(kept, chosen),
            rule_prices=self._rule_prices(request, chosen[0]),
            best=tuple(chosen),
        )

    def best(self, request: Request) -> Candidate | None:
        """What `plan` puts first, without all it says beside it; None where it finds nothing. Raises UnknownSite."""
        self._know(request)
        kept = self.feasible(request)
        if not kept or len({self.provider(c) for c in kept}) < request.min_providers:
            return None
        return self._distinct(kept, Ranked(kept, request), request)[0]

    def _know(self, request: Request) -> None:
        for name in (request.source, request.destination):
            if name is not None and name not in self.sites:
                raise UnknownSite(name, self.sites)

    def joint_legs(self, request: Request) -> set[tuple[str, str, str]]:
        """The links of candidates with several legs that were all pinged: whose samples `replay` can put together."""
        paths = {candidate.path.key: candidate.path for candidate in self.candidates(request)}
        pinged = [
            path
            for path in paths.values()
            if len(path.legs) > 1 and all(leg.evidence == "measured" and leg.rtt_from == "ping" for leg in path.legs)
        ]
        return {leg.key for path in pinged for leg in path.legs}

    def replay(self, series: Mapping[tuple[str, str, str], Series]) -> None:
        """From now on draw the legs of a route together where these samples by time bucket (routing.sums) allow it."""
        self.draws = Draws(self.draws.seed, series)

    def feasible(self, request: Request) -> list[Candidate]:
        """Every candidate that keeps every rule of the request, in no particular order."""
        return [c for c in self.candidates(request) if keeps(c, request, self.sites, self.availability)]

    def serving(self, request: Request) -> list[ServingPool]:
        """The pools of the model at the destination asked for, whether or not a rule lets them serve."""
        return [p for p in self.pools if p.model == request.workload.model and request.destination in (None, p.site)]

    def candidates(self, request: Request) -> list[Candidate]:
        """Every (path, pool) that could serve the request, evaluated, in no particular order; limits are not looked at.

        Pools are left out that serve another model, whose model is known not to fit, that are full at the load, or
        where a rule forbids to process or to store. A destination without a pool for the model gives its paths alone.
        """
        network = self.network(request)
        serving = self.serving(request)
        residency = binding_residency(request, self.sites)
        if not serving and request.destination is not None:
            if any(residency_refuses_pool(rule, self.sites[request.destination]) for rule in residency):
                return []
            paths = network.paths(request.source, request.destination, relays=request.relays, measured_only=request.measured_only)
            return [evaluate(path, None, None, request, cost=None, draws=self.draws) for path in paths]
        found = []
        estimate = _estimate_ns(request)
        for pool in serving:
            memory = self.memory(pool, request.workload)
            if memory is not None and not memory.fits:
                continue
            if any(residency_refuses_pool(rule, self.sites[pool.site]) for rule in residency):
                continue
            queue = queue_of(pool, request)
            if queue.overloaded or queue.utilisation > request.max_utilisation:
                continue
            prefill, decode = pool_prefill_ns(pool, request), pool_decode_ns(pool, queue, request)
            paths = network.shortlist(
                request.source, pool.site, relays=request.relays, measured_only=request.measured_only, cost=estimate, most=PATHS_PER_POOL
            )
            for path in paths:
                cost = cost_per_1k(
                    path.legs,
                    pool,
                    queue,
                    prefill_ns=prefill,
                    decode_ns=decode,
                    sites=self.sites,
                    workload=request.workload,
                    prices=self.egress,
                    arrival_rps=request.arrival_rps,
                    own=self._link_prices,
                )
                found.append(evaluate(path, pool, queue, request, cost=cost, draws=self.draws))
        return found

    def provider(self, candidate: Candidate) -> str:
        """Who serves: the cloud provider of the serving site; all our PoPs are one."""
        return self.sites[candidate.path.sites[-1]].provider or OWN

    def limits(self, request: Request) -> list[Rule]:
        """The constraints the request carries."""
        return rules(request, self.sites, self.availability)

    def _rule_prices(self, request: Request, best: Candidate) -> tuple[RulePrice, ...]:
        """What each rule costs the best route: its median objective and its cost over those without the rule."""
        prices = []
        for rule in self.limits(request):
            free = next(iter(Ranked(self.feasible(rule.without), rule.without)), None)
            if free is None:
                continue
            usd = [None if c.cost is None else c.cost.usd_per_1k for c in (best, free)]
            difference_ns = best.objective_ns(request) - free.objective_ns(request)
            changes = (best.path.key, best.pool) != (free.path.key, free.pool)
            prices.append(
                RulePrice(
                    rule=rule.name,
                    price_ns=difference_ns if changes else 0.0,
                    usd_per_1k=None if usd[0] is None or usd[1] is None else usd[0] - usd[1] if changes else 0.0,
                    without_sites=free.path.sites,
                )
            )
        return tuple(prices)

    def _distinct(self, kept: Sequence[Candidate], ranked: Iterable[Candidate], request: Request) -> list[Candidate]:
        """The k best: first for as many providers as must be, then one for each serving site, then other paths or pools."""
        first: list[Candidate] = []
        providers: set[str] = set()
        most = request.k
        if request.min_providers > 1:
            most = max(most, request.min_providers)
            for candidate in ranked:
                if self.provider(candidate) not in providers:
                    providers.add(self.provider(candidate))
                    first.append(candidate)
                    if len(providers) == request.min_providers:
                        break
        served = {candidate.path.sites[-1] for candidate in first}
        sites = {candidate.path.sites[-1] for candidate in kept}
        for candidate in ranked:
            if len(first) >= most or served == sites:
                break
            if candidate.path.sites[-1] not in served:
                served.add(candidate.path.sites[-1])
                first.append(candidate)
        chosen = {id(candidate) for candidate in first[:most]}
        found = []
        others = max(0, request.k - len(chosen))
        for candidate in ranked:
            if id(candidate) in chosen:
                found.append(candidate)
                chosen.remove(id(candidate))
            elif others:
                found.append(candidate)
                others -= 1
            if not chosen and not others:
                break
        return found

    def _route(self, candidate: Candidate, request: Request, network: Network, *extra: str) -> Route:
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
            availability=availability_of(candidate, self.sites, self.availability),
            together=candidate.together,
            moments=candidate.moments,
        )

    def _backup(self, best: Candidate, kept: Sequence[Candidate], request: Request) -> Candidate | None:
        """The best candidate that shares no link and no site with `best`; of those, where there are any, one that shares no
        cloud provider either; and of those one that shares no risk group."""
        ends = _ends(request)
        own_sites = set(best.path.sites) - ends
        found = [
            c
            for c in kept
            if not own_sites & set(c.path.sites)
            and not set(best.path.key) & set(c.path.key)
            and (request.destination is not None or c.path.sites[-1] != best.path.sites[-1])
        ]
        for shared in (self._shared_providers, self._shared_groups):
            found = [c for c in found if not shared(best, c, ends)] or found
        return next(iter(Ranked(found, request)), None)

    def _shared_providers(self, a: Candidate, b: Candidate, ends: set[str]) -> set[str]:
        return _providers(a.path, ends, self.sites) & _providers(b.path, ends, self.sites)

    def _shared_groups(self, a: Candidate, b: Candidate, ends: set[str]) -> frozenset[str]:
        """The risk groups (routing.disjoint) both are in, beside those of the ends that both have by nature."""
        own = [[name for name in c.path.sites if name not in ends] for c in (a, b)]
        return shared_names(*([self._groups.get(name, ()) for name in names] for names in (ends, *own)))

    @cached_property
    def _groups(self) -> dict[str, frozenset[str]]:
        return default_groups(self.sites.values(), self._more_groups)

    def _backup_route(self, backup: Candidate, best: Candidate, request: Request, network: Network) -> Route:
        ends = _ends(request)
        disjoint = Disjoint(
            providers=tuple(sorted(self._shared_providers(best, backup, ends))),
            groups=tuple(sorted(self._shared_groups(best, backup, ends))),
        )
        but = [
            f"its {kind} {', '.join(names)}" for kind, names in (("provider", disjoint.providers), ("risk group", disjoint.groups)) if names
        ]
        note = "shares no site with the first route" + (f", but {' and '.join(but)}" if but else "")
        return replace(self._route(backup, request, network, note), disjoint=disjoint)


def _ends(request: Request) -> set[str]:
    """What a route and its backup have in common by nature."""
    return {request.source} if request.destination is None else {request.source, request.destination}


def _estimate_ns(request: Request) -> Callable[[Way], float]:
    """What crossing the network costs by medians, hand-shakes included: enough to leave out paths that cannot be near the best."""
    first = 1 + HANDSHAKE_ROUND_TRIPS[request.connection]
    behind = 1 + HANDSHAKE_ROUND_TRIPS[request.onward]
    terminate, relay_ns = request.relay_mode == "terminate", request.relay_ms * MS

    def estimate_ns(way: Way) -> float:
        onward = behind if way.access or terminate else first
        return first * way.first_ns + onward * way.rest_ns + onward * way.relays * relay_ns

    return estimate_ns


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
    destination that was asked for excepted) and, where one exists, no cloud provider and no risk group; `pareto` is the front of median
    TTFT against cost over all candidates with a known cost; `rule_prices` says what each constraint costs.

    Sound questions without an answer come back with `infeasible` and no routes. Raises UnknownSite for a source or
    destination that is not in `sites`. For many questions about one world make a Planner once.
    """
    return Planner(links, sites, pools, egress=egress, seed=seed, snapshot=snapshot, relay_sites=relay_sites).plan(request)


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


def _providers(path: Path, without: set[str], sites: Mapping[str, Site]) -> set[str]:
    return {provider for site in path.sites if site not in without and (provider := sites[site].provider) is not None}


def _warn_of_model(first: Route, chosen: Sequence[Candidate]) -> Route:
    """The first route rests on a model: say so, and name the best one that was measured."""
    measured = next((i for i, c in enumerate(chosen) if not c.path.modelled), None)
    instead = "none of the routes named is measured throughout" if measured is None else f"route {measured + 1} is measured throughout"
    return replace(first, reasons=(*first.reasons, f"ranked first on a model; measure it before relying on it ({instead})"))


def _pareto(found: Sequence[Candidate], chosen: Sequence[Candidate]) -> tuple[ParetoPoint, ...]:
    """The candidates that no other beats in both median TTFT and cost, fastest first."""
    index = {id(candidate): i for i, candidate in enumerate(chosen)}
    # As in Ranked: what is not drawn stands at the least it can be, and is left out undrawn where it is no cheaper.
    heap: list[tuple[Any, ...]] = [
        ((c.least_ttft_ns,), False, n, c) for n, c in enumerate(found) if c.pool is not None and c.usd_per_1k is not None
    ]
    heapq.heapify(heap)
    front: list[ParetoPoint] = []
    while heap:
        (ttft_ns, *_), drawn, number, c = heapq.heappop(heap)
        if front and c.usd_per_1k >= front[-1].usd_per_1k:
            continue
        route = index.get(id(c), len(chosen))
        if not drawn:
            heapq.heappush(heap, ((c.ttft_p50_ns, c.usd_per_1k, route, c.path.sites), True, number, c))
            continue
        front.append(
            ParetoPoint(
                ttft_ns=ttft_ns, usd_per_1k=c.usd_per_1k, route=route if route < len(chosen) else None, sites=c.path.sites, pool=c.pool.id
            )
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
    rule_prices: tuple[RulePrice, ...] = (),
    best: tuple[Candidate, ...] = (),
) -> Answer:
    return Answer(
        snapshot=snapshot,
        request=request,
        routes=routes,
        ties=ties,
        backup=backup,
        pareto=pareto,
        infeasible=infeasible,
        rule_prices=rule_prices,
        break_even=_break_even(best, request),
    )


def _break_even(chosen: Sequence[Candidate], request: Request) -> BreakEven | None:
    """The first route against the best one from the other side of the edge: a PoP's pool against a region's."""
    served = [c for c in chosen if c.pool is not None and c.queue is not None]
    if len(served) < 2:
        return None
    near = min(served, key=lambda c: float(c.rtt_ns.mean()))
    far = next(
        (c for c in served if c is not near and c.pool is not None and near.pool is not None and c.pool.profile != near.pool.profile), None
    )
    if far is None:
        return None
    return break_even(
        near.arm(request),
        far.arm(request),
        output_tokens=request.workload.output_tokens,
        far_egress_bytes=request.workload.download_bytes,
    )
