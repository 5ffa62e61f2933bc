"""The min-plus product with the relay that attains it: the one loop the engine's time goes into.

    cost[i, j] = min over r of first[i, r] + rest[r, j],   via[i, j] = the least index of a relay that attains it

Two forms with the same answers bit for bit: NumPy, a row at a time, and the same loop compiled by Numba, about ten times
faster. Both add in the order written here and both compare with a strict <, relays in rising order, so that equal sums
go to the lower index. Numba takes a good part of a second to load and is not everywhere: `auto` takes the compiled form
where it is loaded already or where the product is large enough to pay for loading it, and NumPy otherwise.

The compiled loops hold no lock of the interpreter: row blocks run side by side in the threads of an executor.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["INDEX", "Form", "least_sums", "min_plus", "min_plus_two", "two_relays_without", "uses_numba"]

Form = Literal["auto", "numba", "numpy"]
Floats = NDArray[Any]
Indices = NDArray[np.int32]

#: The type of a site's index: half the width of NumPy's own, for half the memory traffic; -1 is no relay.
INDEX = np.int32

#: Sums (rows x relays x columns) from which loading Numba pays for itself.
WORTH_LOADING = 400_000_000
#: Sums below which a call of NumPy is as good as any.
WORTH_CALLING = 20_000
_COLUMNS, _RELAYS = 1024, 128  # a block of `rest` that stays in a core's own cache
_BLOCKS = 8
_IN_CACHE = 1 << 16  # sums that stay in a core's own cache until the least of them is found


def uses_numba(form: Form, sums: int) -> bool:
    """Whether a product of so many sums runs compiled.

    Raises ModuleNotFoundError where `numba` is asked for by name and is not installed.
    """
    if form == "numba":
        importlib.import_module("numba")
        return True
    if form == "numpy" or sums < WORTH_CALLING:
        return False
    return "numba" in sys.modules or (sums >= WORTH_LOADING and importlib.util.find_spec("numba") is not None)


def min_plus(
    first: Floats, rest: Floats, relays: Indices, *, form: Form = "auto", executor: Executor | None = None
) -> tuple[Floats, Indices]:
    """(cost [N, M], via [N, M]) of first [N, R] over rest [R, M]; inf and -1 where no relay joins the two.

    relays    [R] the sites' indices behind the columns of `first`, rising
    executor  computes blocks of rows through its `map`: a thread pool, for two cores or more

    Both tables are of one float type, without NaN.
    """
    rest = np.ascontiguousarray(rest)
    compiled = uses_numba(form, first.shape[0] * first.shape[1] * rest.shape[1])
    product = _compiled_product if compiled else _numpy_product
    if executor is None or len(first) < 2 * _BLOCKS:
        return product(first, rest, relays)
    blocks = np.array_split(first, _BLOCKS)
    done = list(executor.map(product, blocks, [rest] * _BLOCKS, [relays] * _BLOCKS))
    return np.concatenate([cost for cost, _ in done]), np.concatenate([via for _, via in done])


def min_plus_two(first: Floats, rest: Floats, relays: Indices, *, form: Form = "auto") -> tuple[Floats, Indices, Floats, Indices]:
    """(cost, via, next_cost, next_via): as `min_plus`, and the best over every relay but `via`."""
    rest = np.ascontiguousarray(rest)
    shape = (first.shape[0], rest.shape[1])
    cost, next_cost = np.full(shape, np.inf, first.dtype), np.full(shape, np.inf, first.dtype)
    via, next_via = np.full(shape, -1, INDEX), np.full(shape, -1, INDEX)
    if not relays.size or 0 in shape:
        return cost, via, next_cost, next_via
    if uses_numba(form, first.size * rest.shape[1]):
        _compiled(_two_loop)(np.ascontiguousarray(first), rest, relays, cost, via, next_cost, next_via)
        return cost, via, next_cost, next_via
    columns, rest_t = np.arange(shape[1]), np.ascontiguousarray(rest.T)
    for i in range(shape[0]):
        sums = rest_t + first[i]
        for into, into_via in ((cost, via), (next_cost, next_via)):
            least = sums.argmin(axis=1)
            into[i] = sums[columns, least]
            into_via[i] = relays[least]
            sums[columns, least] = np.inf
    via[np.isinf(cost)] = -1
    next_via[np.isinf(next_cost)] = -1
    return cost, via, next_cost, next_via


def least_sums(
    sources: Indices, columns: Indices, first: Floats, onward: Floats, keep: NDArray[np.intp], *, form: Form = "auto"
) -> tuple[Floats, NDArray[np.intp]]:
    """(cost [P], at [P]) of the pairs (sources, columns) over one of the relays in the columns `keep`, and which of `keep` it is.

    first   [N, R] legs to the relays, what a relay adds included; onward [M, R] a row for each destination
    keep    [K] columns of both, at least one

    Of equal sums the first of `keep`; where no relay joins a pair the cost is inf and `at` says nothing.
    """
    cost, at = np.full(len(sources), np.inf, first.dtype), np.zeros(len(sources), dtype=np.intp)
    if uses_numba(form, len(sources) * len(keep)):
        _compiled(_least_loop)(sources, columns, first, onward, keep, cost, at)
        return cost, at
    step = max(1, _IN_CACHE // len(keep))
    for start in range(0, len(sources), step):
        part = slice(start, start + step)
        sums = first[sources[part]][:, keep]
        sums += onward[columns[part]][:, keep]
        at[part] = sums.argmin(axis=1)
        cost[part] = sums[np.arange(len(sums)), at[part]]
    return cost, at


def two_relays_without(
    gone: int,
    sources: Indices,
    columns: Indices,
    first: Floats,
    relays: Indices,
    onward: tuple[Floats, Indices, Floats, Indices],
    *,
    form: Form = "auto",
) -> tuple[Floats, Indices, Indices]:
    """(cost, via1, via2) of the best of exactly two relays, neither of them `gone`, for the pairs (sources, columns).

    first   [N, R] legs to the relays, what a relay adds included
    onward  [M, R] tables, of each relay's best onward over one relay to each destination and its next best
            (the transposes of min_plus_two): column r is the way on from relay r
    """
    cost = np.full(len(sources), np.inf, first.dtype)
    via1, via2 = np.full(len(sources), -1, INDEX), np.full(len(sources), -1, INDEX)
    if uses_numba(form, len(sources) * len(relays)):
        _compiled(_without_loop)(gone, sources, columns, first, relays, *onward, cost, via1, via2)
        return cost, via1, via2
    best, best_via, other, other_via = onward
    for at, (i, j) in enumerate(zip(sources, columns, strict=True)):
        hit = best_via[j] == gone
        sums = first[i] + np.where(hit, other[j], best[j])
        sums[relays == gone] = np.inf
        least = int(sums.argmin())
        if sums[least] < np.inf:
            cost[at], via1[at] = sums[least], relays[least]
            via2[at] = other_via[j, least] if hit[least] else best_via[j, least]
    return cost, via1, via2


def _numpy_product(first: Floats, rest: Floats, relays: Indices) -> tuple[Floats, Indices]:
    """One row (or column) at a time: the table of its sums stays in cache, and `argmin` takes the first of equal values."""
    shape = (first.shape[0], rest.shape[1])
    cost, via = np.full(shape, np.inf, first.dtype), np.full(shape, -1, INDEX)
    if not relays.size or 0 in shape:
        return cost, via
    if shape[1] < shape[0]:  # the same sums with the loop over the few columns
        sums, rows = np.empty_like(first), np.arange(shape[0])
        for j in range(shape[1]):
            np.add(first, rest[:, j], out=sums)
            least = sums.argmin(axis=1)
            cost[:, j] = sums[rows, least]
            via[:, j] = relays[least]
    else:
        from_relay = np.ascontiguousarray(rest.T)  # [j, r]: the sums over r lie side by side
        sums, columns = np.empty_like(from_relay), np.arange(shape[1])
        for i in range(shape[0]):
            np.add(from_relay, first[i], out=sums)
            least = sums.argmin(axis=1)
            cost[i] = sums[columns, least]
            via[i] = relays[least]
    via[np.isinf(cost)] = -1
    return cost, via


def _compiled_product(first: Floats, rest: Floats, relays: Indices) -> tuple[Floats, Indices]:
    shape = (first.shape[0], rest.shape[1])
    cost, via = np.full(shape, np.inf, first.dtype), np.full(shape, -1, INDEX)
    if relays.size and 0 not in shape:
        _compiled(_one_loop)(np.ascontiguousarray(first), rest, relays, cost, via)
    return cost, via


@cache
def _compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """The loop compiled; the machine code is kept beside the module or in the user's cache, where either can be written."""
    numba: Any = importlib.import_module("numba")
    try:
        compiled: Callable[..., None] = numba.njit(nogil=True, cache=True)(loop)
    except RuntimeError:  # no place to keep it: compiled anew in every process
        compiled = numba.njit(nogil=True)(loop)
    return compiled


# What follows is compiled. It is plain Python all the same, and the tests run it so.


def _one_loop(first: Floats, rest: Floats, relays: Indices, cost: Floats, via: Indices) -> None:
    """Four relays at a time, so that a cost is loaded and stored once for four sums; the order of comparisons is the rising one."""
    n, count = first.shape
    m = rest.shape[1]
    for from_column in range(0, m, _COLUMNS):
        to_column = min(m, from_column + _COLUMNS)
        for from_relay in range(0, count, _RELAYS):
            to_relay = min(count, from_relay + _RELAYS)
            for i in range(n):
                least, chosen = cost[i, from_column:to_column], via[i, from_column:to_column]
                r = from_relay
                while r + 4 <= to_relay:
                    leg0, leg1, leg2, leg3 = first[i, r], first[i, r + 1], first[i, r + 2], first[i, r + 3]
                    relay0, relay1, relay2, relay3 = relays[r], relays[r + 1], relays[r + 2], relays[r + 3]
                    on0, on1 = rest[r, from_column:to_column], rest[r + 1, from_column:to_column]
                    on2, on3 = rest[r + 2, from_column:to_column], rest[r + 3, from_column:to_column]
                    for j in range(to_column - from_column):
                        value, relay = least[j], chosen[j]
                        total = leg0 + on0[j]
                        better = total < value
                        value, relay = total if better else value, relay0 if better else relay
                        total = leg1 + on1[j]
                        better = total < value
                        value, relay = total if better else value, relay1 if better else relay
                        total = leg2 + on2[j]
                        better = total < value
                        value, relay = total if better else value, relay2 if better else relay
                        total = leg3 + on3[j]
                        better = total < value
                        value, relay = total if better else value, relay3 if better else relay
                        least[j] = value
                        chosen[j] = relay
                    r += 4
                while r < to_relay:
                    leg, relay_r, on = first[i, r], relays[r], rest[r, from_column:to_column]
                    for j in range(to_column - from_column):
                        total = leg + on[j]
                        better = total < least[j]
                        least[j] = total if better else least[j]
                        chosen[j] = relay_r if better else chosen[j]
                    r += 1


def _two_loop(first: Floats, rest: Floats, relays: Indices, cost: Floats, via: Indices, next_cost: Floats, next_via: Indices) -> None:
    n, count = first.shape
    m = rest.shape[1]
    for i in range(n):
        for r in range(count):
            leg, relay = first[i, r], relays[r]
            for j in range(m):
                total = leg + rest[r, j]
                if total < cost[i, j]:
                    # What falls off the first place was below what stands on the second, or its equal of a lower index.
                    next_cost[i, j] = cost[i, j]
                    next_via[i, j] = via[i, j]
                    cost[i, j] = total
                    via[i, j] = relay
                elif total < next_cost[i, j]:
                    next_cost[i, j] = total
                    next_via[i, j] = relay


def _least_loop(
    sources: Indices, columns: Indices, first: Floats, onward: Floats, keep: NDArray[np.intp], cost: Floats, at: NDArray[np.intp]
) -> None:
    for pair in range(len(sources)):
        legs, on = first[sources[pair]], onward[columns[pair]]
        least, chosen = cost[pair], at[pair]
        for k in range(len(keep)):
            total = legs[keep[k]] + on[keep[k]]
            if total < least:
                least, chosen = total, k
        cost[pair] = least
        at[pair] = chosen


def _without_loop(
    gone: int,
    sources: Indices,
    columns: Indices,
    first: Floats,
    relays: Indices,
    best: Floats,
    best_via: Indices,
    other: Floats,
    other_via: Indices,
    cost: Floats,
    via1: Indices,
    via2: Indices,
) -> None:
    for at in range(len(sources)):
        i, j = sources[at], columns[at]
        for r in range(len(relays)):
            if relays[r] == gone:
                continue
            hit = best_via[j, r] == gone
            total = first[i, r] + (other[j, r] if hit else best[j, r])
            if total < cost[at]:
                cost[at] = total
                via1[at] = relays[r]
                via2[at] = other_via[j, r] if hit else best_via[j, r]
