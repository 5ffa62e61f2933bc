"""When there is no route: which rule binds, and which single change would give one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from records.serving import ServingPool
from records.units import MS
from routing.answer import Binding, Infeasible, Relaxation
from routing.evaluate import Candidate
from routing.queueing import capacity_rps
from routing.request import Request

__all__ = ["explain"]

Feasible = Callable[[Request], list[Candidate]]


def explain(request: Request, found: Sequence[Candidate], pools: Sequence[ServingPool], feasible: Feasible) -> Infeasible:
    """Why a request has no route. `found` are its candidates with the budget left aside; `feasible` finds them anew."""
    workload = request.workload
    where = "" if request.destination is None else f" at {request.destination}"
    if found:
        return _over_budget(request, found, feasible)
    serving = [p for p in pools if p.model == workload.model and request.destination in (None, p.site)]
    if not serving and request.destination is None:
        models = sorted({pool.model for pool in pools})
        return Infeasible(
            binding=(Binding(rule="model", limit=workload.model, best=None, text=f"no pool serves {workload.model}"),),
            relax=tuple(Relaxation(rule="model", to=m, gives_ms=None, text=f"{m} is served") for m in models),
        )
    if serving and request.arrival_rps > 0 and feasible(replace(request, arrival_rps=0.0)):
        most = max(
            capacity_rps(p.profile, p.device_count, workload.input_tokens, workload.output_tokens, request.cache_hit_ratio) for p in serving
        )
        text = f"every pool{where} is full at {request.arrival_rps:g} requests/s; the largest serves {most:.2f}"
        return Infeasible(
            binding=(Binding(rule="arrival_rps", limit=request.arrival_rps, best=most, text=text),),
            relax=(Relaxation(rule="arrival_rps", to=most, gives_ms=None, text=f"less than {most:.2f} requests/s"),),
        )
    return Infeasible(
        binding=(Binding(rule="links", limit=None, best=None, text=f"no usable link leads from {request.source} to a pool{where}"),),
        relax=_working(request, feasible, _changes(request)),
    )


def _over_budget(request: Request, found: Sequence[Candidate], feasible: Feasible) -> Infeasible:
    assert request.budget_ms is not None
    name = "E2E" if request.objective == "e2e" else "TTFT"
    least_ms = min(candidate.budget_value_ns(request) for candidate in found) / MS
    raised = math.ceil(least_ms)
    return Infeasible(
        binding=(
            Binding(
                rule="budget_ms",
                limit=request.budget_ms,
                best=least_ms,
                text=f"the least {name} at p95 is {least_ms:.1f} ms, over the budget of {request.budget_ms:g} ms",
            ),
        ),
        relax=(
            *_working(request, feasible, _changes(request)),
            Relaxation(rule="budget_ms", to=raised, gives_ms=least_ms, text=f"a budget of {raised} ms"),
        ),
    )


def _changes(request: Request) -> list[tuple[str, float | str, str, Request]]:
    """(rule, new value, words, request) of every single change worth a try, the least intrusive first."""
    changes: list[tuple[str, float | str, str, Request]] = [
        ("relays", n, f"{n} relay{'s' if n > 1 else ''} allowed", replace(request, relays=n)) for n in range(request.relays + 1, 3)
    ]
    if request.connection == "cold":
        changes.append(("connection", "warm", "a connection kept open", replace(request, connection="warm")))
    if request.measured_only:
        changes.append(("measured_only", "no", "modelled legs allowed", replace(request, measured_only=False)))
    if request.destination is not None:
        changes.append(("to", "any", "served at any site", replace(request, destination=None)))
    return changes


def _working(request: Request, feasible: Feasible, changes: Sequence[tuple[str, float | str, str, Request]]) -> tuple[Relaxation, ...]:
    found = []
    for rule, to, words, changed in changes:
        values = [candidate.budget_value_ns(changed) / MS for candidate in feasible(changed)]
        least_ms = min(values, default=math.inf)
        if least_ms <= (math.inf if request.budget_ms is None else request.budget_ms) and values:
            found.append(Relaxation(rule=rule, to=to, gives_ms=least_ms, text=f"{words} ({least_ms:.1f} ms at p95)"))
    return tuple(found)
