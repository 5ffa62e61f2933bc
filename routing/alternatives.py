"""More than the best: the k best routes of a pair, and what is lost against routes of any number of relays.

With at most two relays every route can be looked at: N candidates over one relay, N^2 over two; no search is needed and
none of Yen's repeated shortest paths (which the tests use, from networkx, as the oracle). Routes are simple: no site
twice. Routes of any number of relays are found by SciPy's Dijkstra and serve to say what two relays miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from records.errors import BadRtt
from records.units import MS
from routing.engine import may_relay, prepared, solved

__all__ = ["Alternative", "HopLoss", "any_hop_ms", "hop_loss", "k_best"]

Floats = NDArray[Any]

#: Sums of whole ns are multiplied by this and each leg adds one, so that of equal routes the one of fewer legs is shorter.
_LEGS = 1024


@dataclass(frozen=True, slots=True)
class Alternative:
    """One route of a pair: its cost in ms, what relays add included, and the relays it crosses in order."""

    cost_ms: float
    relays: tuple[int, ...]


def k_best(
    direct_ms: Floats,
    source: int,
    destination: int,
    k: int,
    *,
    relays: int = 1,
    relay_ms: float = 0.5,
    allowed: Sequence[int] | None = None,
) -> list[Alternative]:
    """The k cheapest routes of a pair over at most `relays` relays, cheapest first; fewer where there are fewer.

    Exact to the nanosecond; ties to fewer relays, then to the lower indices. Parameters and errors as `engine.best`.

    >>> ms = np.array([[0, 30.0, 100.0], [30.0, 0, 40.0], [100.0, 40.0, 0]])
    >>> k_best(ms, 0, 2, 5)
    [Alternative(cost_ms=70.5, relays=(1,)), Alternative(cost_ms=100.0, relays=())]
    """
    direct, relay = prepared(direct_ms, relays=relays, relay_ms=relay_ms, precision="float64")
    if k < 1:
        raise BadRtt(f"{k} routes asked for; ask for 1 or more")
    if source == destination:
        return [Alternative(0.0, ())]
    between = may_relay(len(direct), allowed)
    between = between[(between != source) & (between != destination)]
    costs, vias = [direct[source, destination][None]], [np.full((1, 2), -1)]
    if relays >= 1:
        costs.append(direct[source, between] + relay + direct[between, destination])
        vias.append(np.column_stack([between, np.full(len(between), -1)]))
    if relays == 2:
        two = direct[source, between][:, None] + relay + (direct[np.ix_(between, between)] + relay + direct[between, destination])
        np.fill_diagonal(two, np.inf)
        near = np.flatnonzero(two.ravel() <= _kth(two.ravel(), k))
        costs.append(two.ravel()[near])
        vias.append(np.column_stack([between[near // max(1, len(between))], between[near % max(1, len(between))]]))
    cost, via = np.concatenate(costs), np.concatenate(vias)
    order = np.lexsort((via[:, 1], via[:, 0], (via >= 0).sum(axis=1), cost))[:k]
    return [Alternative(float(cost[at] / MS), tuple(int(site) for site in via[at] if site >= 0)) for at in order if np.isfinite(cost[at])]


def any_hop_ms(direct_ms: Floats, *, relay_ms: float = 0.5, allowed: Sequence[int] | None = None) -> Floats:
    """[N, N] the least cost in ms over any number of relays, each of which adds `relay_ms`; inf where nothing joins a pair."""
    from scipy.sparse import coo_array  # takes longer to load than a route takes to find
    from scipy.sparse.csgraph import dijkstra

    direct, relay = prepared(direct_ms, relays=1, relay_ms=relay_ms, precision="float64")
    count = len(direct)
    if count == 0:
        return direct
    start, end = np.nonzero(np.isfinite(direct))
    weight = (direct[start, end] + relay) * _LEGS + 1
    # A site that may not relay is left only by those who start there: a copy of it, n + i, has its links out.
    bars = np.ones(count, dtype=np.bool_)
    bars[may_relay(count, allowed)] = False
    graph = coo_array((weight, (np.where(bars[start], start + count, start), end)), shape=(2 * count, 2 * count)).tocsr()
    own = np.arange(count)
    length = dijkstra(graph, indices=np.where(bars, own + count, own))[:, :count]
    cost = np.floor(length / _LEGS) - relay
    np.fill_diagonal(cost, 0)
    return np.asarray(cost / MS)


@dataclass(frozen=True, slots=True)
class HopLoss:
    """What a limit on relays loses against any number of them, over the pairs that any number joins.

    relays      the limit
    pairs       how many ordered pairs
    cut         how many of them the limit leaves unjoined
    within      share of the pairs (cut ones included) that lose no more than `near_ms`
    mean_ms, worst_ms  over the pairs that are joined; None where none is
    """

    relays: int
    pairs: int
    cut: int
    near_ms: float
    within: float | None
    mean_ms: float | None
    worst_ms: float | None


def hop_loss(
    direct_ms: Floats, *, relay_ms: float = 0.5, near_ms: float = 1.0, allowed: Sequence[int] | None = None
) -> tuple[HopLoss, HopLoss, HopLoss]:
    """The loss of no, one and two relays against any number, all pairs of a network."""
    whole = any_hop_ms(direct_ms, relay_ms=relay_ms, allowed=allowed)
    joined = np.isfinite(whole) & ~np.eye(len(whole), dtype=np.bool_)
    found = []
    for relays in (0, 1, 2):
        direct, relay = prepared(direct_ms, relays=relays, relay_ms=relay_ms, precision="float64")
        loss = solved(direct, relays, relay, may_relay(len(direct), allowed), "auto").cost[joined] - whole[joined]
        known = loss[np.isfinite(loss)]
        found.append(
            HopLoss(
                relays=relays,
                pairs=len(loss),
                cut=len(loss) - len(known),
                near_ms=near_ms,
                within=float((known <= near_ms + 0.5 / MS).sum() / len(loss)) if len(loss) else None,
                mean_ms=float(known.mean()) if len(known) else None,
                worst_ms=float(known.max()) if len(known) else None,
            )
        )
    return found[0], found[1], found[2]


def _kth(values: Floats, k: int) -> float:
    return float(np.partition(values, k - 1)[k - 1]) if len(values) > k else np.inf
