"""The exhaustive front of latency, cost and loss over at most one relay: what no other route beats in all three.

Every candidate of every pair is looked at: the direct link and one route over each relay. Latency adds up, what relays
add included; cost adds up over the legs; loss is that of independent legs, 1 - (1 - a)(1 - b). A route whose loss or cost
is not known may be on the front for what is known of it, and never pushes off one of which it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from records.units import MS
from routing.engine import may_relay, prepared

__all__ = ["FrontPoint", "fronts"]

Floats = NDArray[Any]

_BLOCK = 4_000_000  # candidates looked at together: about 100 MB


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A route that no other beats in all three; relay None is the direct link, cost and loss None are not known."""

    latency_ms: float
    cost: float | None
    loss_ratio: float | None
    relay: int | None


def fronts(
    direct_ms: Floats,
    cost: Floats,
    loss_ratio: Floats,
    pairs: Sequence[tuple[int, int]],
    *,
    relay_ms: float = 0.5,
    allowed: Sequence[int] | None = None,
) -> list[list[FrontPoint]]:
    """The front of every pair (source, destination), fastest first; empty where nothing joins the pair.

    direct_ms   [N, N] as in `engine.best`; cost [N, N] of each leg in any unit, loss_ratio [N, N] 0..1: NaN is not known
    allowed     indices of the sites that may relay

    Routes alike in all three are shown once: the direct one, else that of the lowest index.
    """
    direct, relay = prepared(direct_ms, relays=1, relay_ms=relay_ms, precision="float64")
    between = may_relay(len(direct), allowed)
    per_block = max(1, _BLOCK // (len(between) + 1))
    found: list[list[FrontPoint]] = []
    for at in range(0, len(pairs), per_block):
        ends = np.asarray(pairs[at : at + per_block], dtype=np.intp).reshape(-1, 2)
        src, dst = ends[:, 0], ends[:, 1]
        keep = 1 - np.asarray(loss_ratio, dtype=np.float64)
        latency = _candidates(direct, src, dst, between, lambda a, b: a + relay + b)
        price = _candidates(np.asarray(cost, dtype=np.float64), src, dst, between, np.add)
        loss = 1 - _candidates(keep, src, dst, between, np.multiply)
        found += _peel(latency, price, loss, between)
    return found


def _candidates(table: Floats, src: Any, dst: Any, between: Any, join: Any) -> Floats:
    """[P, 1 + R] the direct value of every pair, then that over every relay."""
    return np.column_stack([table[src, dst], join(table[np.ix_(src, between)], table[np.ix_(between, dst)].T)])


def _peel(latency: Floats, price: Floats, loss: Floats, between: Any) -> list[list[FrontPoint]]:
    """Take the fastest candidate left of every pair, drop all it beats, again until none is left: as often as the longest front."""
    rows = np.arange(len(latency))
    known = [np.where(np.isnan(table), np.inf, table) for table in (price, loss)]
    left = np.where(np.isfinite(latency), latency, np.inf)
    front: list[list[FrontPoint]] = [[] for _ in rows]
    while True:
        fastest = left.min(axis=1, initial=np.inf)
        if not np.isfinite(fastest).any():
            return front
        # Among the equally fast the cheapest, then the least lossy, then the direct one and the lowest index.
        tied = left == fastest[:, None]
        for table in known:
            least = np.where(tied, table, np.inf).min(axis=1)
            tied &= table == least[:, None]
        chosen = tied.argmax(axis=1)
        took = np.isfinite(fastest)
        its = [table[rows, chosen] for table in known]
        beaten = (known[0] >= its[0][:, None]) & (known[1] >= its[1][:, None])
        left[beaten & took[:, None]] = np.inf
        for row in np.flatnonzero(took):
            at = chosen[row]
            cost, lost = float(price[row, at]), float(loss[row, at])
            front[row].append(
                FrontPoint(
                    latency_ms=float(fastest[row] / MS),
                    cost=None if np.isnan(cost) else cost,
                    loss_ratio=None if np.isnan(lost) else lost,
                    relay=None if at == 0 else int(between[at - 1]),
                )
            )
