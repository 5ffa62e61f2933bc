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
programme. Solved by HiGHS through SciPy, whose marginals are the prices: of a pool's capacity, of each rule, of a request.

The split is the best for all together: at it, no small move of traffic lowers the sum. It is not what selfish users would
settle on (they ignore what they add to others' waits).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

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
    rounds, gap, last = 0, math.inf, None
    while rounds < _ROUNDS:
        rounds += 1
        last = programme.solve()
        columns = programme.widen(last)  # its prices are those of the tangents that stood
        gap = programme.deepen(last, tolerance)
        if gap <= tolerance and not columns:
            break
    return programme.read(last, gap, rounds)


class _Programme:
    """The programme's columns and tangents, growing from round to round."""

    def __init__(
        self, cost: Floats, rate: Floats, curves: Sequence[Curve], weight: Floats, limits: Limits, lost_cost: float, hints: Hints | None
    ) -> None:
        self.cost, self.rate, self.curves, self.weight, self.limits, self.lost_cost = cost, rate, curves, weight, limits, lost_cost
        self.cap = np.array([curve.cap_rps for curve in curves])
        self.scale = float(rate.sum()) or 1.0
        allowed = np.isfinite(cost) & (self.cap > 0)[None, :] & (rate > 0)[:, None]
        first = np.zeros_like(allowed)
        nearest = np.argsort(cost, axis=1, kind="stable")[:, :_NEAREST]
        first[np.arange(len(rate))[:, None], nearest] = True
        if hints is not None:
            for m, p in hints.columns:
                first[m, p] = True
        self.allowed, self.active = allowed, first & allowed
        self.tangents: list[tuple[int, float, float]] = []
        self.touched: dict[int, list[float]] = {}
        for p, cap in enumerate(self.cap):
            if cap > 0:
                extra = [] if hints is None else [at for at in hints.touched.get(p, []) if at <= cap]
                for at in (*(share * cap for share in _TOUCH), *extra):
                    self._touch(p, float(at))

    def _touch(self, p: int, at: float) -> None:
        value, slope = self.curves[p].delay(at)
        self.tangents.append((p, slope, value - slope * at))
        self.touched.setdefault(p, []).append(at)

    def solve(self) -> Any:
        from scipy.optimize import linprog
        from scipy.sparse import csr_matrix, vstack

        self.m, self.p = np.nonzero(self.active)
        n, places, pools = len(self.m), len(self.rate), len(self.cap)
        # Columns: x by active pair, then lost by place, then the delay of each pool, then its load: a column of its own, so that each
        # tangent is a row of two numbers and not of all who may use the pool.
        width, delays, taken = n + places + 2 * pools, n + places + np.arange(pools), n + places + pools + np.arange(pools)
        objective = np.concatenate((self.cost[self.m, self.p], np.full(places, self.lost_cost), np.ones(pools), np.zeros(pools)))
        served = csr_matrix(
            (np.ones(n + places), (np.concatenate((self.m, np.arange(places))), np.arange(n + places))), shape=(places, width)
        )
        loads = csr_matrix(
            (
                np.concatenate((self.weight[self.m, self.p], -np.ones(pools))),
                (np.concatenate((self.p, np.arange(pools))), np.concatenate((np.arange(n), taken))),
            ),
            shape=(pools, width),
        )
        owner = np.array([p for p, _, _ in self.tangents], dtype=np.intp)
        slope = np.array([s for _, s, _ in self.tangents])
        offset = np.array([o for _, _, o in self.tangents])
        row = np.arange(len(owner))
        tangents = csr_matrix(
            (
                np.concatenate((slope, -np.ones(len(owner)))),
                (np.concatenate((row, row)), np.concatenate((taken[owner], delays[owner]))),
            ),
            shape=(len(owner), width),
        )
        caps = csr_matrix((np.ones(pools), (np.arange(pools), taken)), shape=(pools, width))
        blocks, bounds = [caps, tangents], [self.cap, -offset]
        self.rows = {"cap": slice(0, pools), "tangent": slice(pools, pools + len(owner))}
        at = pools + len(owner)
        if self.limits.max_share is not None:
            names = sorted(set(self.limits.provider))
            blocks.append(
                csr_matrix(
                    (np.ones(pools), ([names.index(name) for name in self.limits.provider], taken)),
                    shape=(len(names), width),
                )
            )
            bounds.append(np.full(len(names), self.limits.max_share * float(self.rate.sum())))
            self.rows["provider"] = slice(at, at + len(names))
            at += len(names)
        if self.limits.budget_usd_per_s is not None:
            assert self.limits.usd is not None
            blocks.append(csr_matrix((self.limits.usd[self.m, self.p], (np.zeros(n, dtype=int), np.arange(n))), shape=(1, width)))
            bounds.append(np.array([self.limits.budget_usd_per_s]))
            self.rows["budget"] = slice(at, at + 1)
        # Rates as shares of all demand, so that the programme's numbers are near 1 whatever the traffic.
        upper = np.concatenate(bounds) / self.scale
        found = linprog(
            objective,
            A_ub=vstack(blocks, format="csr"),
            b_ub=upper,
            A_eq=vstack((served, loads), format="csr"),
            b_eq=np.concatenate((self.rate / self.scale, np.zeros(pools))),
            bounds=(0, None),
            method="highs",
        )
        if found.status != 0:
            raise ValueError(f"the split has no solution: {found.message}")
        return found

    def _loads(self, found: Any) -> Floats:
        taken: Floats = found.x[: len(self.m)] * self.weight[self.m, self.p] * self.scale
        return np.bincount(self.p, weights=taken, minlength=len(self.cap)).astype(np.float64)

    def deepen(self, found: Any, tolerance: float) -> float:
        """Add a tangent where a pool's delay lies above those it has; the share of the objective they leave out."""
        loads = np.minimum(self._loads(found), self.cap)
        held = found.x[len(self.m) + len(self.rate) :][: len(self.cap)] * self.scale
        missing = 0.0
        whole = max(abs(found.fun) * self.scale, 1e-12)
        for p, load in enumerate(loads):
            if self.cap[p] <= 0:
                continue
            value, _ = self.curves[p].delay(float(load))
            if value > held[p]:
                missing += value - held[p]
                if value - held[p] > tolerance * whole / max(1, len(self.cap)):
                    self._touch(p, float(load))
        return float(missing / whole)

    def _prices(self, found: Any) -> tuple[Floats, Floats]:
        """(price of a unit of load by pool, price of a request by place)."""
        upper = found.ineqlin.marginals
        price = -upper[self.rows["cap"]].copy()
        for (p, slope, _), dual in zip(self.tangents, -upper[self.rows["tangent"]], strict=True):
            price[p] += slope * dual
        if "provider" in self.rows:
            names = sorted(set(self.limits.provider))
            shares = -upper[self.rows["provider"]]
            price += np.array([shares[names.index(name)] for name in self.limits.provider])
        return price, np.asarray(found.eqlin.marginals)[: len(self.rate)]

    def widen(self, found: Any) -> int:
        """Let in the pairs that would lower the sum: cost + weight x price of load + USD x price of money < price of the request."""
        price, demand = self._prices(found)
        reduced = self.cost + self.weight * price[None, :] - demand[:, None]
        if "budget" in self.rows:
            assert self.limits.usd is not None
            reduced = reduced - self.limits.usd * float(found.ineqlin.marginals[self.rows["budget"]][0])
        new = self.allowed & ~self.active & (reduced < -1e-9 * max(1.0, self.lost_cost))
        self.active |= new
        return int(new.sum())

    def read(self, found: Any, gap: float, rounds: int) -> Split:
        n, places = len(self.m), len(self.rate)
        rate = np.zeros_like(self.cost)
        rate[self.m, self.p] = found.x[:n] * self.scale
        upper = found.ineqlin.marginals
        provider = {}
        if "provider" in self.rows:
            provider = dict(zip(sorted(set(self.limits.provider)), (-upper[self.rows["provider"]]).tolist(), strict=True))
        used = {(int(m), int(p)) for m, p, x in zip(self.m, self.p, found.x[:n], strict=True) if x > 0}
        return Split(
            rate=rate,
            lost=found.x[n : n + places] * self.scale,
            load=self._loads(found),
            capacity_price=-upper[self.rows["cap"]],
            demand_price=np.asarray(found.eqlin.marginals)[:places],
            provider_price=provider,
            budget_price=-float(upper[self.rows["budget"]][0]) if "budget" in self.rows else None,
            lost_cost=self.lost_cost,
            objective=float(found.fun) * self.scale,
            gap=gap if math.isfinite(gap) else 0.0,
            rounds=rounds,
            hints=Hints(used, {p: list(at) for p, at in self.touched.items()}),
        )
