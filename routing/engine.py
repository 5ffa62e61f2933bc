"""The engine: least-latency routes between all pairs over at most two relays, as min-plus products.

On real grids one relay comes within 1 ms of any number of hops for nine pairs in ten, as RON found in 2001 (Andersen
et al., SOSP 2001), so routing is a pass over a matrix and not a graph search per question: N^3 additions, all pairs
of 550 sites in some hundredths of a second (routing.kernel). What a policy forbids is inf in the matrix, or a relay that
is not allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from records.errors import BadRtt
from records.units import MS
from routing.kernel import INDEX, Form, Indices, min_plus

__all__ = ["Best", "Precision", "best", "best_between", "may_relay", "prepared", "solved", "solved_between"]

Floats = NDArray[Any]
Precision = Literal["float64", "float32"]


@dataclass(frozen=True, slots=True)
class Best:
    """The best route of every ordered pair; a row for each source, a column for each destination.

    cost  [N, M] ms: legs plus relay_ms for each relay; inf where nothing joins the pair, 0 from a site to itself
    via1  [N, M] index of the first relay, -1 for none
    via2  [N, M] index of the second relay, -1 for none
    """

    cost: Floats
    via1: Indices
    via2: Indices

    def relays(self, i: int, j: int) -> tuple[int, ...]:
        """The relays of row i, column j in the order they are crossed."""
        return tuple(int(k) for k in (self.via1[i, j], self.via2[i, j]) if k >= 0)


def best(
    direct_ms: Floats,
    *,
    relays: int = 1,
    relay_ms: float = 0.5,
    allowed: Sequence[int] | None = None,
    precision: Precision = "float64",
    form: Form = "auto",
    executor: Executor | None = None,
) -> Best:
    """The least-latency route of every ordered pair over at most `relays` (0, 1 or 2) relays.

    direct_ms  [N, N] RTT in ms of the direct link i -> j; inf where there is none (never 0); the diagonal is ignored
    relay_ms   what each relay adds, in ms
    allowed    indices of the sites that may relay; None allows all. Every site may start or end a route
    precision  float64 adds whole nanoseconds, so that sums are exact and ties are real. float32 takes half the memory
               and half the time; legs and sums are rounded to 24 bits, so that a cost is within 2e-7 of the cost of its
               route, that route within 4e-7 of the best (relative, two relays), and two that are nearer may swap places
    form       how the product is computed (routing.kernel); the answer is the same bit for bit
    executor   a pool of threads for blocks of rows; the answer is the same bit for bit

    Ties go to fewer relays, then to the lower index of the first relay, then of the second. Raises BadRtt (a
    UserError and a ValueError) for a matrix that is not square, holds NaN or a negative RTT, for a relay that adds
    less than nothing, and for a number of relays that is not 0, 1 or 2.

    >>> found = best(np.array([[0, 30.0, 100.0], [30.0, 0, 40.0], [100.0, 40.0, 0]]))
    >>> float(found.cost[0, 2]), found.relays(0, 2)
    (70.5, (1,))
    """
    direct, relay = prepared(direct_ms, relays=relays, relay_ms=relay_ms, precision=precision)
    return solved(direct, relays, relay, may_relay(len(direct), allowed), form, executor)


def best_between(
    direct_ms: Floats,
    sources: Sequence[int],
    destinations: Sequence[int],
    *,
    relays: int = 1,
    relay_ms: float = 0.5,
    allowed: Sequence[int] | None = None,
    precision: Precision = "float64",
    form: Form = "auto",
) -> Best:
    """As `best`, for a row of each source and a column of each destination only; relays may be any site.

    The same answers as those rows and columns of `best`, for N x M sums a relay instead of N x N.
    """
    direct, relay = prepared(direct_ms, relays=relays, relay_ms=relay_ms, precision=precision)
    rows, columns = np.asarray(sources, dtype=INDEX), np.asarray(destinations, dtype=INDEX)
    return solved_between(direct, rows, columns, relays, relay, may_relay(len(direct), allowed), form)


def solved(direct: Floats, relays: int, relay: Any, between: Indices, form: Form, executor: Executor | None = None) -> Best:
    """`best` of what `prepared` and `may_relay` made of its arguments."""
    every = np.arange(len(direct), dtype=INDEX)
    return solved_between(direct, every, every, relays, relay, between, form, executor)


def may_relay(count: int, allowed: Sequence[int] | None) -> Indices:
    """The indices of the sites that may relay, rising and without doubles."""
    return np.arange(count, dtype=INDEX) if allowed is None else np.unique(np.asarray(allowed, dtype=INDEX))


def prepared(direct_ms: Floats, *, relays: int, relay_ms: float, precision: Precision) -> tuple[Floats, Any]:
    """(matrix, what a relay adds) as the products take them: whole ns for float64, ms for float32; a copy, checked, diagonal inf."""
    if precision not in ("float64", "float32"):
        raise BadRtt(f"precision {precision!r} is neither float64 nor float32")
    direct = np.array(direct_ms, dtype=precision)
    if direct.ndim != 2 or direct.shape[0] != direct.shape[1]:
        raise BadRtt(f"the matrix of RTTs has shape {direct.shape}; it must be square: a row and a column for every site")
    if relays not in (0, 1, 2):
        raise BadRtt(f"{relays} relays asked for; 0, 1 or 2 are possible")
    if not (np.isfinite(relay_ms) and relay_ms >= 0):
        raise BadRtt(f"a relay cannot add {relay_ms} ms; give 0 or more")
    np.fill_diagonal(direct, np.inf)  # a leg from a site to itself is no leg
    if direct.size and not direct.min() >= 0:  # NaN is not either
        i, j = np.argwhere(~(direct >= 0))[0]
        raise BadRtt(
            f"the RTT from site {i} to site {j} is {direct[i, j]} ms: NaN or negative; give 0 or more, and inf where there is no link"
        )
    if precision == "float32":
        return direct, np.float32(relay_ms)
    np.multiply(direct, MS, out=direct)
    return np.rint(direct, out=direct), np.float64(round(relay_ms * MS))


def solved_between(
    direct: Floats,
    rows: Indices,
    columns: Indices,
    relays: int,
    relay: Any,
    between: Indices,
    form: Form = "auto",
    executor: Executor | None = None,
) -> Best:
    """`best_between` of what `prepared` and `may_relay` made of its arguments; a network asks it many times of one matrix."""
    every = rows is columns and np.array_equal(rows, np.arange(len(direct)))  # the whole: no need to pick rows and columns
    cost = direct.copy() if every else direct[np.ix_(rows, columns)]
    via1, via2 = np.full(cost.shape, -1, INDEX), np.full(cost.shape, -1, INDEX)
    if relays >= 1 and between.size:
        first = direct[:, between] + relay if every else direct[np.ix_(rows, between)] + relay
        onward = direct[np.ix_(between, columns)]
        one, one_via = min_plus(first, onward, between, form=form, executor=executor)
        better = one < cost
        np.copyto(cost, one, where=better)
        np.copyto(via1, one_via, where=better)
        if relays == 2:
            # The rest of the route after the first relay is itself the best route of exactly one relay. Should that come
            # back through the source, or pass the relay twice, it costs no less than a shorter route and is not taken.
            rest, rest_via = one, one_via
            if not every or len(between) < len(direct):
                rest, rest_via = min_plus(direct[np.ix_(between, between)] + relay, onward, between, form=form, executor=executor)
            rest[between[:, None] == columns] = np.inf
            two, two_via = min_plus(first, rest, between, form=form, executor=executor)
            better = two < cost
            np.copyto(cost, two, where=better)
            np.copyto(via1, two_via, where=better)
            i, j = np.nonzero(better)
            via2[i, j] = rest_via[np.searchsorted(between, via1[i, j]), j]
    own = rows[:, None] == columns
    cost[own], via1[own], via2[own] = 0, -1, -1
    return Best(np.divide(cost, MS, out=cost) if cost.dtype == np.float64 else cost, via1, via2)
