"""A split mended instead of solved again, with the proof that it is as good.

A failure changes a few places' costs. Those go to the pool that is best for them at the prices that held before; if that
changed loads, prices are read anew from the pools' curves. Whether the result is optimal is not assumed but shown: any
prices give a lower bound on what every split must cost (Lagrange), and the mended split is taken only when it costs no
more than a millionth above it. Else the programme is solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from routing.load import Curve, Split

__all__ = ["mend"]

Floats = NDArray[np.float64]


def mend(before: Split, cost: Floats, rate: Floats, curves: Sequence[Curve], weight: Floats, *, tolerance: float = 1e-6) -> Split | None:
    """The split for new costs from the one for old costs over the same places and pools; None where it cannot be shown to be best.

    Only without rules over all pools (spread, budget), and where nothing is lost before or after.
    """
    if before.lost.sum() > 0 or before.provider_price or before.budget_price is not None or cost.shape != before.rate.shape:
        return None
    cap = np.array([curve.cap_rps for curve in curves])
    slope = np.array(
        [curve.delay(min(load, room))[1] if room > 0 else 0.0 for curve, load, room in zip(curves, before.load, cap, strict=True)]
    )
    price = slope + before.capacity_price
    asked = cost + weight * price[None, :]
    best = asked.min(axis=1)
    used = before.rate > 0
    if not np.isfinite(best[rate > 0]).all():
        return None
    worst = np.where(used, asked, -np.inf).max(axis=1)
    wrong = (rate > 0) & (worst > best + 1e-9 * np.maximum(1.0, np.abs(best)))
    x = before.rate.copy()
    x[wrong] = 0.0
    x[wrong, asked[wrong].argmin(axis=1)] = rate[wrong]
    load = (x * weight).sum(axis=0)
    moved = np.abs(load - before.load) > 1e-12 * np.maximum(1.0, cap)
    if (load > cap * (1 + 1e-12)).any() or (moved & (before.capacity_price > 0)).any():
        return None
    values = np.zeros(len(curves))
    for p, curve in enumerate(curves):
        if cap[p] > 0:
            values[p], slope[p] = curve.delay(min(load[p], cap[p]))
    price = slope + before.capacity_price
    served = x > 0
    primal = float((np.where(served, cost, 0.0) * x).sum() + values.sum())
    asked = cost + weight * price[None, :]
    best = asked.min(axis=1)
    # sum_m rate min_p (cost + weight price) + sum_p min over loads of D - slope load, less the price of the room that is full
    bound = float((np.where(rate > 0, best, 0.0) * rate).sum() + (values - slope * load).sum() - (before.capacity_price * cap).sum())
    gap = (primal - bound) / max(abs(primal), 1e-12)
    if not gap <= tolerance:
        return None
    return replace(before, rate=x, load=load, demand_price=best, objective=primal, gap=max(0.0, gap), rounds=0)
