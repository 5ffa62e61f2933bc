"""When there is no route: which rules bind, and which change would give one, at what price.

A rule binds when leaving it out alone gives a route; where no single one does, the first pair that does is named. What
is offered as a change has been tried: the answer with it exists, and `gives_ms` and `gives_usd_per_1k` are its figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from records.units import MS
from routing.answer import Binding, Infeasible, Relaxation
from routing.constraints import Rule, binding_residency, residency_refuses_pool
from routing.evaluate import Candidate
from routing.queueing import capacity_rps
from routing.request import Request

if TYPE_CHECKING:
    from routing.planner import Planner

__all__ = ["explain"]

Change = tuple[str, float | str, str, Request]


def explain(request: Request, planner: Planner, kept: Sequence[Candidate]) -> Infeasible:
    """Why a request has no route, or (min_providers) not enough of them; `kept` are the routes it does have."""
    where = "" if request.destination is None else f" at {request.destination}"
    serving = planner.serving(request)
    if kept:
        return _too_few_providers(request, planner, kept)
    if not serving and request.destination is None:
        models = sorted({pool.model for pool in planner.pools})
        return Infeasible(
            binding=(Binding(rule="model", limit=request.workload.model, best=None, text=f"no pool serves {request.workload.model}"),),
            relax=tuple(Relaxation(rule="model", to=m, gives_ms=None, text=f"{m} is served") for m in models),
        )
    memory = _memory(request, planner, where)
    if memory is not None:
        return memory
    found = _single(request, planner) or _full(request, planner, where) or _pair(request, planner)
    if found is not None:
        return found
    return Infeasible(
        binding=(Binding(rule="links", limit=None, best=None, text=f"no usable link leads from {request.source} to a pool{where}"),),
        relax=_working(planner, _changes(request)),
    )


def _single(request: Request, planner: Planner) -> Infeasible | None:
    """Every rule without which alone there would be a route."""
    binding, relax = [], []
    for rule in planner.limits(request):
        free = planner.feasible(rule.without)
        if free:
            best = _best(free, rule)
            binding.append(_binding(rule, best, request, planner))
            relax.append(_relaxation(rule, best, request))
    if not binding:
        return None
    return Infeasible(binding=tuple(binding), relax=(*_working(planner, _changes(request)), *relax))


def _pair(request: Request, planner: Planner) -> Infeasible | None:
    """The first two rules without which together there would be a route."""
    for first, second in combinations(planner.limits(request), 2):
        both = next(rule.without for rule in planner.limits(first.without) if rule.name == second.name)
        free = planner.feasible(both)
        if free:
            best = _best(free, replace(second, without=both))
            return Infeasible(
                binding=tuple(_binding(rule, best, request, planner) for rule in (first, second)),
                relax=(
                    Relaxation(
                        rule=f"{first.name} and {second.name}",
                        to="none",
                        gives_ms=best.budget_value_ns(both) / MS,
                        gives_usd_per_1k=_usd(best),
                        text=f"neither {first.name} nor {second.name}: {' → '.join(best.path.sites)}",
                    ),
                ),
            )
    return None


def _best(free: Sequence[Candidate], rule: Rule) -> Candidate:
    """Of what is possible without a rule, what comes nearest to keeping it; where that has no measure, the best route."""
    minimise = {"budget_ms", "budget_usd_per_1k", "max_evidence_age_s", "max_utilisation"}

    def order(candidate: Candidate) -> tuple[object, ...]:
        value = rule.value(candidate)
        if not isinstance(value, int | float) or rule.name not in {*minimise, "min_availability"}:
            return (math.inf, *candidate.objective(rule.without))
        return (-value if rule.name == "min_availability" else value, *candidate.objective(rule.without))

    return min(free, key=order)


def _binding(rule: Rule, best: Candidate, request: Request, planner: Planner) -> Binding:
    value = rule.value(best)
    name = "E2E" if request.objective == "e2e" else "TTFT"
    said = "not known" if value is None else f"{value:.4g}" if isinstance(value, float) else value
    via = " → ".join(best.path.sites)
    residency = next((r for r in request.residency if rule.name == f"residency:{r.id}"), None)
    if rule.name == "budget_ms" and isinstance(value, float):
        text = f"the least {name} at p95 is {value:.1f} ms, over the budget of {rule.limit:g} ms"
    elif residency is not None:
        end = planner.sites[best.path.sites[-1]]
        refused = residency_refuses_pool(residency, end)
        doing = (
            f"processing or storing in {end.country or 'an unknown country'}" if refused else "passing the data on along every other way"
        )
        text = f"{residency.title} ({residency.id}) forbids {doing}; without it {via} would serve"
    else:
        text = f"{rule.name} {rule.limit} is kept by no route; the nearest is {said} ({via})"
    return Binding(rule=rule.name, limit=rule.limit, best=value, text=text)


def _relaxation(rule: Rule, best: Candidate, request: Request) -> Relaxation:
    value = rule.value(best)
    gives = best.budget_value_ns(request) / MS
    if isinstance(value, int | float):
        to: float | str = rule.needed(float(value))
        text = f"a budget of {to} ms" if rule.name == "budget_ms" else f"{rule.name} of {to:g} ({gives:.1f} ms at p95)"
    else:
        to, text = "none", f"without {rule.name}: {' → '.join(best.path.sites)} ({gives:.1f} ms at p95)"
    return Relaxation(rule=rule.name, to=to, gives_ms=gives, gives_usd_per_1k=_usd(best), text=text)


def _full(request: Request, planner: Planner, where: str) -> Infeasible | None:
    """Every pool that may serve is full at the load."""
    if request.arrival_rps == 0 or not planner.feasible(replace(request, arrival_rps=0.0)):
        return None
    workload = request.workload
    most = request.max_utilisation * max(
        capacity_rps(p.profile, p.device_count, workload.input_tokens, workload.output_tokens, request.cache_hit_ratio)
        for p in planner.serving(request)
        if not any(residency_refuses_pool(rule, planner.sites[p.site]) for rule in binding_residency(request, planner.sites))
    )
    text = f"every pool{where} is full at {request.arrival_rps:g} requests/s; the largest serves {most:.2f}"
    return Infeasible(
        binding=(Binding(rule="arrival_rps", limit=request.arrival_rps, best=most, text=text),),
        relax=(Relaxation(rule="arrival_rps", to=most, gives_ms=None, text=f"less than {most:.2f} requests/s"),),
    )


def _memory(request: Request, planner: Planner, where: str) -> Infeasible | None:
    """No pool of the model has the memory for it."""
    needs = [(pool, planner.memory(pool, request.workload)) for pool in planner.serving(request)]
    known = [(pool, need) for pool, need in needs if need is not None]
    if not known or len(known) < len(needs) or any(need.fits for _, need in known):
        return None
    pool, need = min(known, key=lambda item: item[1].need_gb - item[1].have_gb)
    text = f"{request.workload.model} fits no pool{where}: {pool.id} needs {need.need_gb:.1f} GB a device and has {need.have_gb:g} GB"
    return Infeasible(
        binding=(Binding(rule="memory", limit=need.need_gb, best=need.have_gb, text=text),),
        relax=(
            Relaxation(
                rule="memory",
                to=need.need_gb,
                gives_ms=None,
                text="fewer batch slots, a narrower quantisation, or a device with more memory",
            ),
        ),
    )


def _too_few_providers(request: Request, planner: Planner, kept: Sequence[Candidate]) -> Infeasible:
    have = sorted({planner.provider(c) for c in kept})
    text = f"{request.min_providers} providers are asked for; only {len(have)} can serve: {', '.join(have)}"
    best = min(kept, key=lambda c: c.objective(request))
    return Infeasible(
        binding=(Binding(rule="min_providers", limit=request.min_providers, best=len(have), text=text),),
        relax=(
            Relaxation(
                rule="min_providers",
                to=len(have),
                gives_ms=best.budget_value_ns(request) / MS,
                gives_usd_per_1k=_usd(best),
                text=f"{len(have)} provider{'s' if len(have) > 1 else ''}",
            ),
        ),
    )


def _changes(request: Request) -> list[Change]:
    """(rule, new value, words, request) of every single change worth a try, the least intrusive first."""
    changes: list[Change] = [
        ("relays", n, f"{n} relay{'s' if n > 1 else ''} allowed", replace(request, relays=n)) for n in range(request.relays + 1, 3)
    ]
    if request.connection != "warm":
        changes.append(("connection", "warm", "a connection kept open", replace(request, connection="warm")))
    if request.measured_only:
        changes.append(("measured_only", "no", "modelled legs allowed", replace(request, measured_only=False)))
    if request.destination is not None:
        changes.append(("to", "any", "served at any site", replace(request, destination=None)))
    return changes


def _working(planner: Planner, changes: Sequence[Change]) -> tuple[Relaxation, ...]:
    found = []
    for rule, to, words, changed in changes:
        best = min(planner.feasible(changed), key=lambda c: c.budget_value_ns(changed), default=None)
        if best is not None:
            least_ms = best.budget_value_ns(changed) / MS
            text = f"{words} ({least_ms:.1f} ms at p95)"
            found.append(Relaxation(rule=rule, to=to, gives_ms=least_ms, gives_usd_per_1k=_usd(best), text=text))
    return tuple(found)


def _usd(candidate: Candidate) -> float | None:
    return None if candidate.cost is None else candidate.cost.usd_per_1k
