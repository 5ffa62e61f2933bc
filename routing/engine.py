"""The engine: least-latency routes between all pairs over at most two relays, as min-plus products in NumPy.

On real grids one relay comes within 1 ms of any number of hops for nine pairs in ten, as RON found in 2001 (Andersen
et al., SOSP 2001), so routing is a pass over a matrix and not a graph search per question: N^3 additions, all
pairs of 550 sites in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from records.units import MS

__all__ = ["Best", "best"]

Floats = NDArray[Any]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Best:
    """The best route of every ordered pair.

    cost  [N, N] ms: legs plus relay_ms for each relay; inf where nothing joins the pair, 0 on the diagonal
    via1  [N, N] index of the first relay, -1 for none
    via2  [N, N] index of the second relay, -1 for none
    """

    cost: Floats
    via1: Indices
    via2: Indices

    def relays(self, i: int, j: int) -> tuple[int, ...]:
        """The relays of pair i -> j in the order they are crossed."""
        return tuple(int(k) for k in (self.via1[i, j], self.via2[i, j]) if k >= 0)


def best(
    direct_ms: Floats,
    *,
    relays: int = 1,
    relay_ms: float = 0.5,
    allowed: Sequence[int] | None = None,
    precision: Literal["float64", "float32"] = "float64",
) -> Best:
    """The least-latency route of every ordered pair over at most `relays` (0, 1 or 2) relays.

    direct_ms  [N, N] RTT in ms of the direct link i -> j; inf where there is none (never 0); the diagonal is ignored
    relay_ms   what each relay adds, in ms
    allowed    indices of the sites that may relay; None allows all. Every site may start or end a route
    precision  float64 adds whole nanoseconds, so that sums are exact and ties are real; float32 is about twice as
               fast and good to 1e-7 of the value

    Ties go to fewer relays, then to the lower index of the first relay, then of the second. Raises ValueError for a
    matrix that is not square, holds NaN or a negative RTT, or for a number of relays that is not 0, 1 or 2.
    """
    direct = _checked(direct_ms, relays, relay_ms)
    if precision == "float64":
        direct, relay = np.rint(direct * MS), float(round(relay_ms * MS))
    else:
        direct, relay = direct.astype(np.float32), relay_ms
    count = len(direct)
    np.fill_diagonal(direct, np.inf)  # a leg from a site to itself is no leg
    may_relay = np.arange(count, dtype=np.intp) if allowed is None else np.unique(np.asarray(allowed, dtype=np.intp))

    cost = direct.copy()
    via1 = np.full((count, count), -1, dtype=np.intp)
    via2 = via1.copy()
    if relays >= 1 and may_relay.size:
        one, one_via = _through(direct, direct, may_relay, relay)
        np.fill_diagonal(one, np.inf)
        better = one < cost
        cost[better], via1[better] = one[better], one_via[better]
        if relays == 2:
            # The rest of the route after the first relay is itself the best route of exactly one relay.
            two, two_via = _through(direct, one, may_relay, relay)
            better = two < cost
            rows, columns = np.nonzero(better)
            cost[better], via1[better] = two[better], two_via[better]
            via2[rows, columns] = one_via[via1[rows, columns], columns]
    np.fill_diagonal(cost, 0)
    np.fill_diagonal(via1, -1)
    np.fill_diagonal(via2, -1)
    return Best(cost / MS if precision == "float64" else cost, via1, via2)


def _through(first: Floats, rest: Floats, relays: Indices, relay_cost: float) -> tuple[Floats, Indices]:
    """[N, N] least of first[i, k] + relay_cost + rest[k, j] over relays k, and the least k that attains it.

    One row at a time: the N x K table of sums stays in cache, and `argmin` takes the first of equal values.
    """
    count = len(first)
    cost = np.empty_like(first)
    via = np.empty((count, count), dtype=np.intp)
    to_relay = first[:, relays] + first.dtype.type(relay_cost)
    from_relay = np.ascontiguousarray(rest[relays, :].T)  # [j, k]: sums over k lie side by side
    sums = np.empty_like(from_relay)
    every = np.arange(count)
    for i in range(count):
        np.add(from_relay, to_relay[i], out=sums)
        least = sums.argmin(axis=1)
        cost[i] = sums[every, least]
        via[i] = relays[least]
    return cost, via


def _checked(direct_ms: Floats, relays: int, relay_ms: float) -> Floats:
    direct = np.array(direct_ms, dtype=np.float64)
    if direct.ndim != 2 or direct.shape[0] != direct.shape[1]:
        raise ValueError(f"the matrix of RTTs has shape {direct.shape}; it must be square")
    if relays not in (0, 1, 2):
        raise ValueError(f"{relays} relays asked for; 0, 1 or 2 are possible")
    if not (np.isfinite(relay_ms) and relay_ms >= 0):
        raise ValueError(f"a relay cannot add {relay_ms} ms")
    np.fill_diagonal(direct, np.inf)
    if np.isnan(direct).any() or (direct < 0).any():
        raise ValueError("the matrix of RTTs holds NaN or a negative value; 'no link' is inf")
    return direct
