"""The best placement with a proof: an integer programme for HiGHS, kept small, and its bound.

p50            A client is served by one of its n nearest candidates, or by "far", priced at its (n+1)-th nearest. No site
               beyond the n nearest is cheaper, so the programme's bound holds for the whole problem, and where its optimum
               leaves "far" alone it is the optimum of the whole. n grows until that is so or the time is up.
within-budget  A client counts when one of the sites that cover it is chosen (the maximal covering problem); exact.
p95            The least threshold at which k sites cover 95 %: the linear relaxation rules out the low ones, the covering
               programme the rest; the bound is the lowest threshold that was not ruled out.

Capacities (p50 and within-budget): people of a metro may be split over sites. For the sites found the people are
assigned once more over all of them as a transport problem, so that the value is one that can be had. Within a budget,
people who are not reached take no capacity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_array, vstack

from records.errors import BadPlacement, NoPlacement
from routing.placement import COVERED, Placement, Problem, answer, quick, value_of

__all__ = ["NEAREST", "prove", "transport"]

Floats = NDArray[np.float64]
Left = Callable[[], float]

#: How many nearest candidates a client is given, from one attempt to the next.
NEAREST = (30, 80, 200, 10**9)
_EXACT = 1e-9  # relative: nearer is equal
_LEAST_S = 0.05


def prove(problem: Problem, *, time_limit_s: float = 30.0, clock: Callable[[], float] | None = None) -> Placement:
    """The best placement found in the time, with what was proven about it; gap 0 is the proven optimum.

    clock  seconds from anywhere (time.monotonic), for a limit over all the attempts; without one each attempt may take
           the whole limit

    Raises NoPlacement where capacities and spending leave no choice, BadPlacement for p95 with capacities.
    """
    start = clock() if clock is not None else 0.0

    def left() -> float:
        return max(_LEAST_S, time_limit_s - (clock() - start if clock is not None else 0.0))

    if problem.capacity is not None:
        return _capacitated(problem, left)
    first = quick(problem)
    if problem.objective == "p95":
        return _p95(problem, first, left)
    if problem.objective == "within-budget":
        sites, bound = _cover(problem, problem.budget_ms, left())
        best = max((first, sites), key=lambda chosen: value_of(problem, chosen)) if sites else first
        return _with_bound(answer(problem, best), min(1.0, bound))
    return _p50(problem, first, left)


def _p50(problem: Problem, best: list[int], left: Left) -> Placement:
    bound, value = 0.0, value_of(problem, best)
    for count in _attempts(problem):
        sites, found, optimal = _assign(problem, problem.rtt_ms, count, left())
        bound = max(bound, found)
        if sites and value_of(problem, sites) < value:
            best, value = sites, value_of(problem, sites)
        if value <= bound * (1 + _EXACT) or not optimal or left() <= _LEAST_S:
            break
    return _with_bound(answer(problem, best), bound)


def _capacitated(problem: Problem, left: Left) -> Placement:
    if problem.objective == "p95":
        raise BadPlacement("p95 is not offered with capacities; ask for p50 or within-budget")
    cost = problem.rtt_ms if problem.objective == "p50" else (problem.rtt_ms > problem.budget_ms).astype(np.float64)
    best: list[int] = []
    value, bound, shares = np.inf, 0.0, np.empty((0, 0))
    for count in _attempts(problem):
        sites, found, optimal = _assign(problem, cost, count, left())
        bound = max(bound, found)
        if sites:
            its_value, its_shares = transport(problem, cost, sites)
            if its_value < value:
                best, value, shares = sites, its_value, its_shares
        if value <= bound * (1 + _EXACT) + _EXACT or not optimal or left() <= _LEAST_S:
            break
    if not best:
        raise NoPlacement("no choice of sites that keeps the capacities was found in the time; give more time or more capacity")
    made = replace(answer(problem, best), serves=np.asarray(best, dtype=np.intp)[shares.argmax(axis=1)])
    if problem.objective == "within-budget":
        return _with_bound(replace(made, value=1 - value), 1 - bound)
    return _with_bound(replace(made, value=value), bound)


def _p95(problem: Problem, best: list[int], left: Left) -> Placement:
    thresholds = np.unique(problem.rtt_ms)
    value = value_of(problem, best)
    low, high = 0, int(np.searchsorted(thresholds, value))
    needed = COVERED * (1 - 1e-12)
    for relaxed in (True, False):
        top = high
        while low < top and left() > _LEAST_S:
            middle = (low + top) // 2
            sites, most = _cover(problem, float(thresholds[middle]), left(), relaxed=relaxed)
            if sites and value_of(problem, sites) < value:
                best, value = sites, value_of(problem, sites)
                high = int(np.searchsorted(thresholds, value))
            if most < needed:
                low = middle + 1
            elif relaxed or (sites and value <= thresholds[middle]):
                top = min(middle, high)
            else:
                break  # neither reached nor ruled out in the time
    return _with_bound(answer(problem, best), float(thresholds[min(low, high)]))


def _with_bound(placement: Placement, bound: float) -> Placement:
    """The bound, or the value itself where the two differ by rounding only."""
    near = abs(placement.value - bound) <= 1e-7 * max(1e-9, abs(placement.value))
    return replace(placement, bound=placement.value if near else bound)


def _attempts(problem: Problem) -> list[int]:
    sites = problem.rtt_ms.shape[1]
    return sorted({min(count, sites) for count in NEAREST})


def _assign(problem: Problem, cost: Floats, count: int, time_limit_s: float) -> tuple[list[int], float, bool]:
    """(sites, bound, whether solved to the end) of serving each client by its `count` cheapest candidates or by "far"."""
    clients, sites = cost.shape
    share = problem.weights / problem.weights.sum()
    order = np.argsort(cost, axis=1, kind="stable")
    near = order[:, :count]
    price = np.take_along_axis(cost, near, axis=1)
    used = price < (cost.max() if problem.objective == "within-budget" else np.inf)  # what is not covered needs no variable
    client, rank = np.nonzero(used)
    site = near[client, rank]
    far = np.take_along_axis(cost, order[:, count : count + 1], axis=1)[:, 0] if count < sites else np.full(clients, np.inf)
    if problem.objective == "within-budget":
        far = np.ones(clients)
    has_far = np.flatnonzero(np.isfinite(far))
    n = len(client)
    objective = np.concatenate([np.zeros(sites), share[client] * price[client, rank], share[has_far] * far[has_far]])
    x = sites + np.arange(n)
    rows = [
        # Everyone is served once.
        _rows((client, x), (has_far, sites + n + np.arange(len(has_far))), shape=(clients, len(objective)), low=1, high=1),
        # Only by a site that stands.
        _rows((np.arange(n), x), (np.arange(n), site, -1.0), shape=(n, len(objective)), low=-np.inf, high=0),
        *_choice_rows(problem, len(objective)),
    ]
    if problem.capacity is not None:
        room = problem.capacity / problem.weights.sum()
        rows.append(
            _rows(
                (site, x, share[client]),
                (np.arange(sites), np.arange(sites), -room),
                shape=(sites, len(objective)),
                low=-np.inf,
                high=0,
            )
        )
        if problem.objective == "p50":
            rows.append(_rows((np.zeros(sites, int), np.arange(sites), room), shape=(1, len(objective)), low=1 - 1e-9, high=np.inf))
    found = _solve(problem, objective, rows, time_limit_s)
    return _chosen(problem, found), float(found.mip_dual_bound if found.mip_dual_bound is not None else 0.0), found.status == 0


def _cover(problem: Problem, threshold_ms: float, time_limit_s: float, *, relaxed: bool = False) -> tuple[list[int], float]:
    """(sites, the most of the weight that k sites can have within the threshold); no sites from the linear relaxation."""
    clients, sites = problem.rtt_ms.shape
    share = problem.weights / problem.weights.sum()
    client, site = np.nonzero(problem.rtt_ms <= threshold_ms)
    objective = np.concatenate([np.zeros(sites), -share])
    own = np.arange(clients)
    rows = [
        _rows((own, sites + own), (client, site, -1.0), shape=(clients, len(objective)), low=-np.inf, high=0),
        *_choice_rows(problem, len(objective)),
    ]
    found = _solve(problem, objective, rows, time_limit_s, relaxed=relaxed)
    most = -float(found.mip_dual_bound if found.mip_dual_bound is not None else -1.0)
    return ([] if relaxed else _chosen(problem, found)), most


def transport(problem: Problem, cost: Floats, chosen: list[int]) -> tuple[float, Floats]:
    """(value, [C, k] share of each client at each site): the cheapest assignment that the sites' capacities allow."""
    assert problem.capacity is not None
    clients, sites = len(cost), len(chosen)
    share = problem.weights / problem.weights.sum()
    client, site = (at.ravel() for at in np.indices((clients, sites)))
    covering = problem.objective == "within-budget"
    serve = coo_array((np.ones(clients * sites), (client, np.arange(clients * sites)))).tocsr()
    fill = coo_array((share[client], (site, np.arange(clients * sites)))).tocsr()
    room = problem.capacity[chosen] / problem.weights.sum()
    price = share[client] * (cost[:, chosen].ravel() - (1.0 if covering else 0.0))
    ones = np.ones(clients)
    if covering:
        found = linprog(price, A_ub=vstack([serve, fill]).tocsr(), b_ub=np.concatenate([ones, room]), bounds=(0, None), method="highs")
    else:
        found = linprog(price, A_ub=fill, b_ub=room * (1 + 1e-9), A_eq=serve, b_eq=ones, bounds=(0, None), method="highs")
    if found.x is None:
        raise NoPlacement(f"the sites found cannot serve everyone: {found.message}")
    return float(found.fun) + (1.0 if covering else 0.0), found.x.reshape(clients, sites)


def _choice_rows(problem: Problem, variables: int) -> list[LinearConstraint]:
    """How many sites, and for how much. Exactly k where they cost nothing: one more never harms."""
    sites = problem.rtt_ms.shape[1]
    zero, each = np.zeros(sites, int), np.arange(sites)
    rows = [_rows((zero, each), shape=(1, variables), low=problem.k if problem.price is None else 0, high=problem.k)]
    if problem.price is not None:
        price = np.where(np.isin(each, problem.keep), 0.0, problem.price)
        rows.append(_rows((zero, each, price), shape=(1, variables), low=-np.inf, high=problem.spend or 0.0))
    return rows


def _rows(*parts: tuple[Any, ...], shape: tuple[int, int], low: float, high: float) -> LinearConstraint:
    """low <= A x <= high with A the sum of parts (rows, columns, values; values 1 where not given)."""
    values = [np.broadcast_to(np.asarray(part[2] if len(part) > 2 else 1.0, dtype=np.float64), np.shape(part[0])) for part in parts]
    at = [np.concatenate([np.asarray(part[axis]) for part in parts]) for axis in (0, 1)]
    return LinearConstraint(coo_array((np.concatenate(values), (at[0], at[1])), shape=shape).tocsr(), low, high)


def _solve(problem: Problem, objective: Floats, rows: list[LinearConstraint], time_limit_s: float, *, relaxed: bool = False) -> Any:
    sites = problem.rtt_ms.shape[1]
    lower, whole = np.zeros(len(objective)), np.zeros(len(objective))
    lower[list(problem.keep)] = 1
    whole[:sites] = 0 if relaxed else 1
    found = milp(
        objective,
        integrality=whole,
        bounds=Bounds(lower, np.ones(len(objective))),
        constraints=rows,
        options={"time_limit": max(_LEAST_S, time_limit_s), "mip_rel_gap": 0.0},
    )
    if found.status == 2:
        raise NoPlacement("no choice of sites keeps the capacities and the spending given; raise one of them, or ask for more sites")
    if relaxed:
        found.mip_dual_bound = found.fun if found.status == 0 else -np.inf
    return found


def _chosen(problem: Problem, found: Any) -> list[int]:
    """The sites of a solution, kept ones first; none where the time ran out before the first."""
    if found.x is None:
        return []
    sites = np.flatnonzero(found.x[: problem.rtt_ms.shape[1]] > 0.5).tolist()
    kept = list(dict.fromkeys(problem.keep))
    return [*kept, *(site for site in sites if site not in kept)]
