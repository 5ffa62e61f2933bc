"""A quick placement where sites hold so many people or new sites may cost so much, with a bound on what is possible.

The sites are those of the search without capacities (routing.placement), exchanged until they hold everyone and while an
exchange helps, each weighed by spreading people greedily: to the nearest site with room, and where too many want one,
first those who lose most by going on. For the sites found the spreading is solved exactly. What no choice can beat is
bounded by Lagrange's relaxation of "everyone is served once" (Cornuéjols, Fisher, Nemhauser, "Location of bank accounts
to optimize float", 1977), with capacities left out: they can only make it worse. routing.placement_proof closes the gap.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from records.errors import BadPlacement, NoPlacement
from routing.placement import Placement, Problem, answer, quick
from routing.placement_proof import transport

__all__ = ["least_cost", "quick_limited"]

Floats = NDArray[np.float64]
_STEPS, _PATIENCE = 80, 4
_ROUNDS, _TRIED, _HALVINGS = 6, 12, 12


def quick_limited(problem: Problem) -> Placement:
    """A choice that keeps capacities and spending, its value, and a bound (p50 and within-budget).

    Raises NoPlacement where none was found, BadPlacement for p95 with capacities.
    """
    if problem.capacity is not None and problem.objective == "p95":
        raise BadPlacement("p95 is not offered with capacities; ask for p50 or within-budget")
    chosen = quick(replace(problem, capacity=None))
    if problem.objective == "p95":
        return answer(problem, chosen)
    covering = problem.objective == "within-budget"
    cost = (problem.rtt_ms > problem.budget_ms).astype(np.float64) if covering else problem.rtt_ms
    if problem.capacity is None:
        found = answer(problem, chosen)
        value = 1 - found.value if covering else found.value
    else:
        chosen = _exchanged(problem, cost, _roomy(problem, chosen))
        value, shares = transport(problem, cost, chosen)
        found = replace(answer(problem, chosen), serves=np.asarray(chosen, dtype=np.intp)[shares.argmax(axis=1)])
    bound = least_cost(problem, cost, value)
    return replace(found, value=1 - value if covering else value, bound=1 - bound if covering else bound)


def least_cost(problem: Problem, cost: Floats, value: float) -> float:
    """What the mean of cost [C, S] cannot go below, whatever sites are chosen within k and the spending; `value` can be had.

    For multipliers m of the clients: sum(m) and, of every site that may be chosen, sum(min(0, cost - m)); the most of it
    over steps along the subgradient.
    """
    share = problem.weights / problem.weights.sum()
    keep = np.asarray(sorted(set(problem.keep)), dtype=np.intp)
    price = None if problem.price is None else np.where(np.isin(np.arange(cost.shape[1]), keep), 0.0, problem.price)
    multiplier = cost[:, quick(replace(problem, capacity=None))].min(axis=1)
    best, pace, since = 0.0, 1.0, 0
    for _ in range(_STEPS):
        below = np.minimum(0.0, cost - multiplier[:, None])
        sites, total = _best_sites(problem, share @ below, keep, price)
        bound = float(share @ multiplier) + total
        since = 0 if bound > best else since + 1
        best = max(best, bound)
        if since == _PATIENCE:
            pace, since = pace / 2, 0
        # Along the subgradient for each person alike, not for each client: a metro of millions is no steeper than a town.
        slope = 1.0 - (below[:, sites] < 0).sum(axis=1)
        length = float(share @ slope**2)
        if best >= value * (1 - 1e-9) or length < 1e-18:
            break
        multiplier = np.maximum(0.0, multiplier + pace * (1.01 * value - bound) / length * slope)
    return min(best, value)


def _best_sites(problem: Problem, gain: Floats, keep: NDArray[np.intp], price: Floats | None) -> tuple[NDArray[np.intp], float]:
    """(sites, no more than the least sum of their gains): the k least with those kept.

    The spending is relaxed as well, at the price of a USD that binds it (bisection); any such price gives a bound.
    """

    def at(usd: float) -> tuple[NDArray[np.intp], float]:
        reduced = gain if price is None else gain + usd * price
        others = np.setdiff1d(np.argsort(reduced, kind="stable"), keep, assume_unique=True)[: problem.k - len(keep)]
        sites = np.concatenate([keep, others[reduced[others] < 0]])
        return sites, float(reduced[sites].sum()) - usd * (problem.spend or 0.0)

    best = at(0.0)
    if price is None or problem.spend is None or price[best[0]].sum() <= problem.spend:
        return best
    low, high = 0.0, float((-gain / np.maximum(price, 1e-9)).max())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = at(middle)
        best = max(best, found, key=lambda item: item[1])
        low, high = (middle, high) if price[found[0]].sum() > problem.spend else (low, middle)
    return best


def _roomy(problem: Problem, chosen: list[int]) -> list[int]:
    """The choice with small sites exchanged for large ones until everyone fits; within a budget nobody has to."""
    assert problem.capacity is not None
    room, people = problem.capacity, float(problem.weights.sum()) * (1 - 1e-12)
    if problem.objective == "within-budget":
        return chosen
    kept = set(problem.keep)
    while room[chosen].sum() < people:
        outside = [site for site in np.argsort(-room, kind="stable").tolist() if site not in chosen]
        leaving = sorted((site for site in chosen if site not in kept), key=lambda site: room[site])
        pairs = ((old, new) for old in leaving for new in outside if room[new] > room[old] and _affordable(problem, chosen, old, new))
        swap = next(pairs, None)
        if swap is None:
            raise NoPlacement(
                f"the quick search finds no {problem.k} sites for {problem.weights.sum():g} people; ask for a proof (--prove), for more "
                "sites, or raise the capacities or the spending"
            )
        chosen = [swap[1] if site == swap[0] else site for site in chosen]
    return chosen


def _affordable(problem: Problem, chosen: list[int], old: int, new: int) -> bool:
    if problem.price is None or problem.spend is None:
        return True
    paid = sum(float(problem.price[site]) for site in chosen if site not in problem.keep)
    return paid - float(problem.price[old]) + float(problem.price[new]) <= problem.spend


def _exchanged(problem: Problem, cost: Floats, chosen: list[int]) -> list[int]:
    """Exchanges while one of the few that promise most without capacities helps with them."""
    assert problem.capacity is not None
    people = float(problem.weights.sum())
    value = _spread(problem, cost, chosen)
    for _ in range(_ROUNDS):
        served = cost[:, chosen].min(axis=1)
        promise = np.minimum(cost, served[:, None]).T @ problem.weights
        promise[chosen] = np.inf
        new_sites = np.argsort(promise, kind="stable")[:_TRIED]
        losses = {
            site: float(problem.weights @ cost[:, [o for o in chosen if o != site]].min(axis=1)) for site in chosen if len(chosen) > 1
        }
        leaving = sorted((site for site in losses if site not in problem.keep), key=losses.__getitem__)[:2]
        tried = [
            [new if site == old else site for site in chosen]
            for new in new_sites.tolist()
            if np.isfinite(promise[new])
            for old in leaving
            if _affordable(problem, chosen, old, new)
        ]
        if problem.objective == "p50":
            tried = [sites for sites in tried if problem.capacity[sites].sum() >= people]
        values = [_spread(problem, cost, sites) for sites in tried]
        at = int(np.argmin(values)) if values else -1
        if at < 0 or values[at] >= value * (1 - 1e-9):
            break
        chosen, value = tried[at], values[at]
    return chosen


def _spread(problem: Problem, cost: Floats, chosen: list[int]) -> float:
    """The mean cost of people spread greedily over chosen sites with room; who finds none within a budget is not served."""
    assert problem.capacity is not None
    share = problem.weights / problem.weights.sum()
    room = problem.capacity[chosen] / problem.weights.sum()
    table, covering = cost[:, chosen].copy(), problem.objective == "within-budget"
    left, total = share.copy(), 0.0
    for _ in range(len(chosen) + 1):
        active = np.flatnonzero(left > 1e-15)
        if not active.size:
            return total
        wanted = table[active].argmin(axis=1)
        first = table[active, wanted]
        out = (first >= 1) if covering else np.isinf(first)
        if out.all():
            return total + float(left[active].sum() if covering else np.inf)
        for site in np.unique(wanted[~out]).tolist():
            who = active[(wanted == site) & ~out]
            if left[who].sum() > room[site]:
                rest = np.delete(table[who], site, axis=1)
                regret = (rest.min(axis=1) if rest.shape[1] else np.full(len(who), np.inf)) - table[who, site]
                who = who[np.argsort(-np.where(np.isfinite(regret), regret, 1e18), kind="stable")]
                taken = np.minimum(left[who], np.maximum(0.0, room[site] - np.concatenate([[0.0], np.cumsum(left[who])[:-1]])))
            else:
                taken = left[who].copy()
            total += float(taken @ table[who, site])
            left[who] -= taken
            room[site] -= taken.sum()
            if room[site] <= 1e-15:
                table[:, site] = 1.0 if covering else np.inf
    return total + float(left.sum() if covering else np.inf if left.sum() > 1e-9 else 0.0)
