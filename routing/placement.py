"""Where to put sites: k of the candidates, so that users are near one of them.

Three objectives, each over people (weights), each served by the nearest chosen site:

p50            the mean over people of the median RTT to their site, ms: the p-median problem
p95            the RTT that 95 % of people keep, ms: the least threshold at which k sites cover 95 % of the weight. It is
               searched by bisection over the RTTs that occur, with a covering problem at each step
within-budget  the share of people within `budget_ms`, 0..1, to be largest: the maximal covering problem

All three come down to sum(weight * cost[client, nearest chosen site]); for covering the cost is 1 beyond the threshold
and 0 within it. The quick answer adds greedily and then swaps one site for another while that helps, all swaps weighed
at once (Resende and Werneck, "A fast swap-based local search procedure for location problems", 2007): no worse than
any single exchange, and in practice within two per cent. What is proven about it is in routing.placement_proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from records.errors import BadPlacement, NoPlacement
from routing.placement_cover import Cover

__all__ = ["COVERED", "Objective", "Placement", "Problem", "costs", "marginal", "nearest", "place", "quick", "value_of"]

Objective = Literal["p50", "p95", "within-budget"]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

#: The share of people that p95 speaks of.
COVERED = 0.95
_LEAST_GAIN = 1e-12  # relative: a swap that gains less is rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is asked.

    rtt_ms     [C, S] of every client to every candidate
    weights    [C] people, more than 0
    k          number of sites, kept ones included
    keep       candidates that stand already and stay
    budget_ms  of the objective within-budget
    capacity   [S] people a site can serve, or None; with it people of one metro may be split over sites
    price, spend  [S] what a site costs and the most that all together may, or None; kept sites cost nothing
    """

    rtt_ms: Floats
    weights: Floats
    k: int
    objective: Objective = "p50"
    keep: tuple[int, ...] = ()
    budget_ms: float = 30.0
    capacity: Floats | None = None
    price: Floats | None = None
    spend: float | None = None

    def __post_init__(self) -> None:
        clients, sites = self.rtt_ms.shape
        if self.objective not in get_args(Objective):
            raise BadPlacement(f"objective {self.objective!r} is not one of {', '.join(get_args(Objective))}")
        if not 1 <= self.k <= sites:
            raise BadPlacement(f"{self.k} sites asked for among {sites} candidates; ask for 1 to {sites}, or give more candidates")
        if len(set(self.keep)) > self.k:
            raise BadPlacement(f"{len(set(self.keep))} sites are kept and {self.k} asked for in all; ask for at least as many as are kept")
        if not clients:
            raise BadPlacement("there is nobody to serve; give at least one metro with people")
        if not (self.rtt_ms >= 0).all() or not np.isfinite(self.rtt_ms).all():
            raise BadPlacement("an RTT is NaN, negative or infinite; every metro needs an RTT of 0 ms or more to every candidate")
        if self.weights.shape != (clients,) or not (self.weights > 0).all() or not np.isfinite(self.weights).all():
            raise BadPlacement(f"every one of the {clients} metros needs a weight above 0")
        if self.objective == "within-budget" and not self.budget_ms > 0:
            raise BadPlacement(f"a budget of {self.budget_ms} ms covers nobody; give more than 0")
        for name, values in (("capacity", self.capacity), ("price", self.price)):
            if values is not None and (values.shape != (sites,) or not (values >= 0).all()):
                raise BadPlacement(f"every one of the {sites} candidates needs a {name} of 0 or more")
        if (self.price is None) != (self.spend is None):
            raise BadPlacement("prices and the most to spend belong together; give both or neither")
        if self.capacity is not None and self.objective != "within-budget":
            most, people = float(np.sort(self.capacity)[::-1][: self.k].sum()), float(self.weights.sum())
            if most < people:
                raise NoPlacement(
                    f"the {self.k} largest candidates serve {most:g} people and there are {people:g}; add {people - most:g} of capacity, "
                    "ask for more sites, or name larger candidates"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """An answer.

    sites     the chosen candidates, kept ones first, then in the order they were added
    value     the objective: ms, or a share 0..1
    bound     what no choice of sites can beat, proven; None when nothing was asked to be proven
    marginal  [S] what the objective gains (ms less, or share more) from each candidate as one more site; for a chosen one,
              what it loses without it. Capacity and price are not looked at
    serves    [C] the chosen site nearest to each client (with capacities, the one that serves most of it)
    """

    sites: tuple[int, ...]
    value: float
    marginal: Floats
    serves: Indices
    bound: float | None = None

    @property
    def gap(self) -> float | None:
        """How far the value may be from the best there is, as a share of the value; 0 is proven optimal, None unproven."""
        if self.bound is None:
            return None
        return 0.0 if self.value == self.bound else abs(self.value - self.bound) / max(abs(self.value), 1e-300)


def place(problem: Problem) -> Placement:
    """The quick answer: greedy and swap. With capacities, routing.placement_limits answers."""
    if problem.capacity is not None:
        raise BadPlacement("a placement with capacities spreads people over sites; ask routing.placement_limits.quick_limited")
    return answer(problem, quick(problem))


def answer(problem: Problem, chosen: Sequence[int]) -> Placement:
    """A placement of chosen sites, each client at its nearest, with every candidate's marginal value."""
    return Placement(
        sites=tuple(int(site) for site in chosen),
        value=value_of(problem, chosen),
        marginal=marginal(problem, chosen),
        serves=nearest(problem, chosen),
    )


def quick(problem: Problem) -> list[int]:
    """Sites by greedy and swap for the problem's objective."""
    if problem.objective == "p50":
        return _search(costs(problem), problem)
    rtt = np.ascontiguousarray(problem.rtt_ms)
    if problem.objective == "within-budget":
        return _search_cover(rtt <= problem.budget_ms, problem)
    # Bisection: a threshold that some choice covers is an upper bound; the lowest such that the search finds is the answer.
    # No choice beats all candidates together.
    best = _search_cover(rtt <= rtt.max(), problem)
    best_value = value_of(problem, best)
    thresholds = np.unique(rtt[(rtt >= value_of(problem, range(rtt.shape[1]))) & (rtt <= best_value)])
    low, high = 0, len(thresholds) - 1
    while low < high:
        middle = (low + high) // 2
        found = _search_cover(rtt <= thresholds[middle], problem)
        value = value_of(problem, found)
        if value < best_value:
            best, best_value = found, value
        if value <= thresholds[middle]:
            high = min(middle, int(np.searchsorted(thresholds, value)))
        else:
            low = middle + 1
    return best


def costs(problem: Problem, *, threshold_ms: float | None = None) -> Floats:
    """[S, C] what a client costs at a site: its RTT, or for covering 0 within the threshold and 1 beyond."""
    if threshold_ms is None and problem.objective == "p50":
        return np.ascontiguousarray(problem.rtt_ms.T)
    limit = problem.budget_ms if threshold_ms is None else threshold_ms
    return np.ascontiguousarray((limit < problem.rtt_ms.T).astype(np.float64))


def nearest(problem: Problem, chosen: Sequence[int]) -> Indices:
    """[C] the chosen site nearest to each client; of equals the one named first."""
    at = np.asarray(chosen, dtype=np.intp)
    return np.asarray(at[problem.rtt_ms[:, at].argmin(axis=1)], dtype=np.intp)


def value_of(problem: Problem, chosen: Sequence[int]) -> float:
    """The objective of a choice."""
    return float(_values(problem, problem.rtt_ms[:, list(chosen)].min(axis=1)[None, :])[0])


def marginal(problem: Problem, chosen: Sequence[int]) -> Floats:
    """[S] what each candidate adds as one more site, or for a chosen one, what is lost without it (inf for the only one)."""
    sites = list(chosen)
    served = problem.rtt_ms[:, sites].min(axis=1)
    now = value_of(problem, sites)
    sign = -1.0 if problem.objective == "within-budget" else 1.0
    gain = sign * (now - _values(problem, np.minimum(problem.rtt_ms.T, served)))
    for site in sites:
        others = [other for other in sites if other != site]
        gain[site] = sign * (value_of(problem, others) - now) if others else np.inf
    return gain


def _values(problem: Problem, served_ms: Floats) -> Floats:
    """[n] the objective for each row of [n, C] RTTs people are served at."""
    weights = problem.weights
    if problem.objective == "p50":
        return np.asarray(served_ms @ weights / weights.sum(), dtype=np.float64)
    if problem.objective == "within-budget":
        return np.asarray((served_ms <= problem.budget_ms) @ weights / weights.sum(), dtype=np.float64)
    order = np.argsort(served_ms, axis=1, kind="stable")
    people = np.cumsum(weights[order], axis=1)
    # The first client at which 95 % of the people are served; a hair of rounding must not ask for one more.
    at = (people < COVERED * weights.sum() * (1 - 1e-12)).sum(axis=1)
    return np.take_along_axis(np.take_along_axis(served_ms, order, axis=1), at[:, None], axis=1)[:, 0]


def _search_cover(covers: NDArray[np.bool_], problem: Problem) -> list[int]:
    """Greedy additions, then swaps while one helps; `covers` [C, S]."""
    cover = Cover(covers, problem.weights, problem.keep, price=problem.price, spend=problem.spend)
    cover.add(problem.k)
    if not cover.chosen:
        raise NoPlacement(f"no candidate costs {problem.spend:g} or less; spend more, or name cheaper candidates")
    cover.swap()
    return cover.chosen


def _search(cost: Floats, problem: Problem) -> list[int]:
    """Greedy additions, then swaps while one helps; `cost` [S, C]."""
    chosen = list(dict.fromkeys(problem.keep))
    kept = len(chosen)
    price = None if problem.price is None else np.where(np.isin(np.arange(len(cost)), problem.keep), 0.0, problem.price)
    work, served = np.empty_like(cost), np.full(cost.shape[1], cost.max(initial=0.0) + 1)
    for site in chosen:
        np.minimum(served, cost[site], out=served)
    left = np.inf if problem.spend is None else problem.spend
    while len(chosen) < problem.k:
        np.subtract(served, np.minimum(cost, served, out=work), out=work)
        gain = work @ problem.weights
        gain[chosen] = -np.inf
        if price is not None:
            gain[price > left] = -np.inf
            rate = np.where(np.isfinite(gain), gain / np.maximum(price, 1e-9), gain)
        site = int((gain if price is None else rate).argmax())
        if gain[site] == -np.inf:
            break  # nothing else can be paid for
        chosen.append(site)
        left -= 0.0 if price is None else float(price[site])
        np.minimum(served, cost[site], out=served)
    if not chosen:
        raise NoPlacement(f"no candidate costs {problem.spend:g} or less; spend more, or name cheaper candidates")
    if len(chosen) < len(cost):
        _swap(cost, problem, chosen, kept, price, left)
    return chosen


def _swap(cost: Floats, problem: Problem, chosen: list[int], kept: int, price: Floats | None, left: float) -> None:
    """The best exchange of one chosen site for one other, again and again, while it helps; changes `chosen`."""
    clients = cost.shape[1]
    far = cost.max() + 1
    less, more = np.empty_like(cost), np.empty_like(cost)
    for _ in range(10 * len(cost)):  # each step improves, so it ends by itself; this is a net for rounding
        table = cost[chosen]
        owner = table.argmin(axis=0)
        first = table[owner, np.arange(clients)]
        if len(chosen) > 1:
            table[owner, np.arange(clients)] = far
            second = table.min(axis=0)
        else:
            second = np.full(clients, far)
        shares = np.zeros((clients, len(chosen)))
        shares[np.arange(clients), owner] = problem.weights
        np.minimum(cost, first, out=less)
        np.minimum(cost, second, out=more)
        more -= less
        # Client c pays min(cost, second) where its site goes and min(cost, first) where it stays.
        change = more @ shares + (less @ problem.weights - first @ problem.weights)[:, None]
        change[chosen] = np.inf
        change[:, :kept] = np.inf
        if price is not None:
            change[price[:, None] - price[chosen][None, :] > left] = np.inf
        site, leaves = np.unravel_index(int(change.argmin()), change.shape)
        if not change[site, leaves] < -_LEAST_GAIN * max(1.0, float(first @ problem.weights)):
            return
        if price is not None:
            left -= float(price[site] - price[chosen[leaves]])
        chosen[leaves] = int(site)
