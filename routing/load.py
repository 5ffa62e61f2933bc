"""Demand split over pools with their queues: a linear programme with tangents, and the prices its duals are.

    least  sum cost[m, p] x[m, p] + sum D_p(load_p) + lost_cost sum lost[m]
    with   sum_p x[m, p] + lost[m] = rate[m]                          what comes is served or lost
           load_p = sum_m weight[m, p] x[m, p] <= cap_p               a pool is healthy but full at its cap
           sum of a provider's loads <= share x all demand            spread, where asked for
           sum usd[m, p] x[m, p] <= budget                            money, where asked for

x and load are requests a second, cost and the delay D_p / load_p are what the objective counts (ms, or USD). D_p is convex
and stands in the programme as tangents from below; where the solution lies above them a tangent is added there and the
programme is solved again (Kelley's cutting planes), until what the tangents leave out is below `tolerance` of the whole.
Far pools enter as columns only when their reduced cost says they would help, so that the answer is that of the full
programme. Its duals are the prices: of a pool's capacity, of each rule, of a request.

The split is the best for all together: at it, no small move of traffic lowers the sum. It is not what selfish users would
settle on (they ignore what they add to others' waits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from routing.simplex import GrowingProgramme, Solution

__all__ = ["Curve", "Hints", "Limits", "Split", "solve_split"]

Floats = NDArray[np.float64]

_ROUNDS = 30
_NEAREST = 8
#: Where the first tangents touch, as shares of a pool's cap.
_TOUCH = (0.0, 0.4, 0.6, 0.75, 0.85, 0.92, 0.97, 1.0)


class Curve(Protocol):
    """A pool as the programme sees it: its cap, and its total delay with its slope at a load."""

    @property
    def cap_rps(self) -> float:
        """The most the pool is given, requests a second."""
        ...

    def delay(self, load_rps: float) -> tuple[float, float]:
        """(D, dD/dload) at a load from 0 to the cap; D convex, 0 at 0, in cost units x requests a second."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Rules over all pools together.

    provider    a pool's provider by its index; max_share the most of all demand one of them may take, 0..1
    usd         [m, p] USD of one request; budget_usd_per_s the most a second may cost
    """

    provider: tuple[str, ...] = ()
    max_share: float | None = None
    usd: Floats | None = None
    budget_usd_per_s: float | None = None


@dataclass(slots=True)
class Hints:
    """What a solved programme knows that helps the next one like it: columns in use, tangents by pool."""

    columns: set[tuple[int, int]] = field(default_factory=set)
    touched: dict[int, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The answer; rates in requests a second, prices in cost units (ms or USD) for one request a second more.

    rate[m, p]      what goes where; lost[m] what goes nowhere; load[p] weighted
    capacity_price  [p] what one more request a second of this pool's cap would save
    demand_price    [m] what one more request a second of this place costs all together
    provider_price  what one more request a second that a provider may take would save; budget_price: one more USD a second
    lost_cost       what a request that nobody serves was held to cost: a price near it stands for a request lost, not for time
    gap             what the tangents leave out, over the whole objective
    """

    rate: Floats
    lost: Floats
    load: Floats
    capacity_price: Floats
    demand_price: Floats
    provider_price: dict[str, float]
    budget_price: float | None
    lost_cost: float
    objective: float
    gap: float
    rounds: int
    hints: Hints


def solve_split(
    cost: Floats,
    rate: Floats,
    curves: Sequence[Curve],
    *,
    weight: Floats | None = None,
    limits: Limits | None = None,
    lost_cost: float | None = None,
    tolerance: float = 1e-6,
    hints: Hints | None = None,
) -> Split:
    """Split demand over pools (see the module).

    cost    [m, p] of one request, inf where the pool may not serve the place; rate [m] requests a second
    weight  [m, p] how many usual requests one of these is to the pool (a cold cache makes it more); 1 where None
    lost_cost  of a request that nobody serves; above everything a served one can cost where None

    Raises ValueError for negative or NaN rates, costs, caps.
    """
    limits = limits or Limits()
    weight = np.ones_like(cost) if weight is None else weight
    if not (rate >= 0).all() or np.isnan(cost).any() or (cost < 0).any() or any(not curve.cap_rps >= 0 for curve in curves):
        raise ValueError("rates, costs and caps must be numbers from 0 up")
    if lost_cost is None:
        finite = cost[np.isfinite(cost)]
        most = max((curve.delay(curve.cap_rps)[1] for curve in curves if curve.cap_rps > 0), default=0.0)
        lost_cost = 10 * (float(finite.max(initial=1.0)) + most + 1.0)
    programme = _Programme(cost, rate, curves, weight, limits, lost_cost, hints)
    rounds = 0
    while True:
        rounds += 1
        found = programme.solve()
        columns = programme.widen(found)  # its prices are those of the tangents that stood
        gap = programme.deepen(found, tolerance)
        if rounds == _ROUNDS or (gap <= tolerance and not columns):
            return programme.read(found, gap, rounds)


class _Programme:
    """The programme's columns and tangents, growing from round to round.

    Rows: what comes to each place, the load of each pool, its cap, the shares of providers and the budget where asked for, then tangents.
    Columns: what is lost by place, the delay of each pool, its load (a column of its own, so that a tangent is a row of two numbers and not
    of all who may use the pool), then x by pair that was let in. Rates are shares of all demand, so that the programme's numbers are near
    1 whatever the traffic.
    """

    def __init__(
        self, cost: Floats, rate: Floats, curves: Sequence[Curve], weight: Floats, limits: Limits, lost_cost: float, hints: Hints | None
    ) -> None:
        self.cost, self.rate, self.curves, self.weight, self.limits, self.lost_cost = cost, rate, curves, weight, limits, lost_cost
        self.cap = np.array([curve.cap_rps for curve in curves])
        self.scale = float(rate.sum()) or 1.0
        self.allowed = np.isfinite(cost) & (self.cap > 0)[None, :] & (rate > 0)[:, None]
        self.active = np.zeros_like(self.allowed)
        self.m, self.p = np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
        self.tangents: list[tuple[int, float, float]] = []
        self.touched: dict[int, list[float]] = {}
        self._told = 0  # tangents that are rows already
        self._frame()
        first = np.zeros_like(self.allowed)
        nearest = np.argsort(cost, axis=1, kind="stable")[:, :_NEAREST]
        first[np.arange(len(rate))[:, None], nearest] = True
        if hints is not None:
            for m, p in hints.columns:
                first[m, p] = True
        self._let_in(first & self.allowed)
        for p, cap in enumerate(self.cap):
            if cap > 0:
                extra = [] if hints is None else [at for at in hints.touched.get(p, []) if at <= cap]
                for at in (*(share * cap for share in _TOUCH), *extra):
                    self._touch(p, float(at))

    def _frame(self) -> None:
        """All rows but the tangents, all columns but those of pairs."""
        places, pools = len(self.rate), len(self.cap)
        place, pool = np.arange(places), np.arange(pools)
        self.names = sorted(set(self.limits.provider)) if self.limits.max_share is not None else []
        share = np.full(len(self.names), (self.limits.max_share or 0.0) * float(self.rate.sum()))
        budget = [] if self.limits.budget_usd_per_s is None else [self.limits.budget_usd_per_s]
        came = self.rate / self.scale
        self._lp = GrowingProgramme()
        self._lp.add_rows(came, came)
        self._lp.add_rows(np.zeros(pools), np.zeros(pools))
        self._lp.add_rows(-np.inf, np.concatenate((self.cap, share, budget)) / self.scale)
        self.rows = {"load": slice(places, places + pools), "cap": slice(places + pools, places + 2 * pools)}
        at = places + 2 * pools
        self.rows |= {"provider": slice(at, at + len(share)), "budget": slice(at + len(share), at + len(share) + len(budget))}
        self._first_tangent = self._lp.rows
        self._lp.add_columns(np.full(places, self.lost_cost), (place, place, np.ones(places)))
        self._lp.add_columns(np.ones(pools))
        by = np.array([self.names.index(name) for name in self.limits.provider], dtype=np.intp) if self.names else pool[:0]
        taken = (np.concatenate((places + pool, places + pools + pool, at + by)), np.concatenate((pool, pool, pool[: len(by)])))
        self._lp.add_columns(np.zeros(pools), (*taken, np.concatenate((-np.ones(pools), np.ones(pools + len(by))))))
        self._first_pair = self._lp.columns

    def _let_in(self, new: NDArray[np.bool_]) -> int:
        """Columns of more pairs; how many."""
        m, p = np.nonzero(new)
        column, places = np.arange(len(m)), len(self.rate)
        rows, values = [m, places + p], [np.ones(len(m)), self.weight[m, p]]
        if self.limits.budget_usd_per_s is not None:
            assert self.limits.usd is not None
            rows.append(np.full(len(m), self.rows["budget"].start))
            values.append(self.limits.usd[m, p])
        self._lp.add_columns(self.cost[m, p], (np.concatenate(rows), np.tile(column, len(rows)), np.concatenate(values)))
        self.m, self.p = np.concatenate((self.m, m)), np.concatenate((self.p, p))
        self.active |= new
        return len(m)

    def _touch(self, p: int, at: float) -> None:
        value, slope = self.curves[p].delay(at)
        self.tangents.append((p, slope, value - slope * at))
        self.touched.setdefault(p, []).append(at)

    def solve(self) -> Solution:
        """The best with the columns and tangents there are."""
        new, self._told = self.tangents[self._told :], len(self.tangents)
        if new:
            owner = np.array([p for p, _, _ in new])
            slope, offset = np.array([s for _, s, _ in new]), np.array([o for _, _, o in new])
            row, places, pools = np.arange(len(new)), len(self.rate), len(self.cap)
            entries = (
                np.tile(row, 2),
                np.concatenate((places + pools + owner, places + owner)),
                np.concatenate((slope, -np.ones(len(new)))),
            )
            self._lp.add_rows(-np.inf, -offset / self.scale, entries)
        return self._lp.solve()

    def _shares(self, found: Solution) -> Floats:
        """x by pair that was let in, a share of all demand; those let in since had none."""
        shares, known = np.zeros(len(self.m)), found.x[self._first_pair :]
        shares[: len(known)] = known
        return shares

    def _loads(self, found: Solution) -> Floats:
        taken: Floats = self._shares(found) * self.weight[self.m, self.p] * self.scale
        return np.bincount(self.p, weights=taken, minlength=len(self.cap)).astype(np.float64)

    def deepen(self, found: Solution, tolerance: float) -> float:
        """Add a tangent where a pool's delay lies above those it has; the share of the objective they leave out."""
        loads = np.minimum(self._loads(found), self.cap)
        held = found.x[len(self.rate) :][: len(self.cap)] * self.scale
        missing = 0.0
        whole = max(abs(found.value) * self.scale, 1e-12)
        for p, load in enumerate(loads):
            if self.cap[p] <= 0:
                continue
            value, _ = self.curves[p].delay(float(load))
            if value > held[p]:
                missing += value - held[p]
                if value - held[p] > tolerance * whole / max(1, len(self.cap)):
                    self._touch(p, float(load))
        return float(missing / whole)

    def _prices(self, found: Solution) -> tuple[Floats, Floats]:
        """(price of a unit of load by pool, price of a request by place)."""
        price = -found.duals[self.rows["cap"]]
        for (p, slope, _), dual in zip(self.tangents, -found.duals[self._first_tangent :], strict=True):
            price[p] += slope * dual
        if self.names:
            price -= found.duals[self.rows["provider"]][[self.names.index(name) for name in self.limits.provider]]
        return price, found.duals[: len(self.rate)]

    def widen(self, found: Solution) -> int:
        """Let in the pairs that would lower the sum: cost + weight x price of load + USD x price of money < price of the request."""
        price, demand = self._prices(found)
        reduced = self.cost + self.weight * price[None, :] - demand[:, None]
        if self.limits.budget_usd_per_s is not None:
            assert self.limits.usd is not None
            reduced = reduced - self.limits.usd * float(found.duals[self.rows["budget"]][0])
        new = self.allowed & ~self.active & (reduced < -1e-9 * max(1.0, self.lost_cost))
        return self._let_in(new)

    def read(self, found: Solution, gap: float, rounds: int) -> Split:
        shares, places = self._shares(found), len(self.rate)
        rate = np.zeros_like(self.cost)
        rate[self.m, self.p] = shares * self.scale
        provider = dict(zip(self.names, (-found.duals[self.rows["provider"]]).tolist(), strict=True))
        used = {(int(m), int(p)) for m, p, x in zip(self.m, self.p, shares, strict=True) if x > 0}
        return Split(
            rate=rate,
            lost=found.x[:places] * self.scale,
            load=self._loads(found),
            capacity_price=-found.duals[self.rows["cap"]],
            demand_price=found.duals[:places],
            provider_price=provider,
            budget_price=-float(found.duals[self.rows["budget"]][0]) if self.limits.budget_usd_per_s is not None else None,
            lost_cost=self.lost_cost,
            objective=found.value * self.scale,
            gap=gap,
            rounds=rounds,
            hints=Hints(used, {p: list(at) for p, at in self.touched.items()}),
        )
