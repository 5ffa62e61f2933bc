"""What the loss of any site, or of several together, does to all pairs, without solving the network again for each.

Only the pairs whose route crosses a lost site change. For routes of one relay the next best relay of every pair is kept
beside the best one, so that the answer is read off. For routes of two relays every pair that crossed the site is asked
again, over onward tables that also hold their next best; since a pair crosses two relays at most, all N answers together
cost about two all-pairs solutions instead of N. Sites that fail together (a pair, a metro, a provider, a cable) are
answered by trying every other relay for the pairs concerned, or, with two relays, by solving the rest again. All are
exact: cost, relays and ties are those of a network that never had the sites.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from records.units import MS
from routing.engine import Best, Precision, may_relay, prepared, solved
from routing.kernel import INDEX, Form, Indices, least_sums, min_plus, min_plus_two, two_relays_without

__all__ = ["Change", "SingleFailures", "single_failures"]

Floats = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Change:
    """The pairs whose route crossed a lost site as a relay, and what they do without. Pairs that end at one are not among them.

    gone       indices of the sites lost
    src, dst   [P] indices of the pairs' ends
    before_ms  [P] cost before
    after_ms   [P] cost after, never less; inf where nothing else joins the pair
    via1, via2 [P] the relays after, -1 for none
    """

    gone: tuple[int, ...]
    src: Indices
    dst: Indices
    before_ms: Floats
    after_ms: Floats
    via1: Indices
    via2: Indices


class SingleFailures:
    """The best routes of all pairs with every site (`base`), and with any one site gone; made by `single_failures`."""

    def __init__(self, direct: Floats, relays: int, relay: Any, between: Indices, form: Form) -> None:
        count = len(direct)
        self._direct, self._relay, self._form, self._between = direct, relay, form, between
        self._first = direct[:, between] + relay
        self._one = min_plus_two(self._first, direct[between], between, form=form)
        one, one_via = self._one[:2]
        cost = direct.copy()
        via1, via2 = np.full(cost.shape, -1, INDEX), np.full(cost.shape, -1, INDEX)
        if relays >= 1:
            _take(one < cost, (cost, one), (via1, one_via))
        self._onward: tuple[Floats, Indices, Floats, Indices] | None = None
        if relays == 2 and between.size:
            onward = tuple(table[between] for table in self._one)
            for table in (onward[0], onward[2]):
                table[np.arange(len(between)), between] = np.inf  # a relay that is the destination needs no other
            two, two_via = min_plus(self._first, onward[0], between, form=form)
            better = two < cost
            _take(better, (cost, two), (via1, two_via))
            i, j = np.nonzero(better)
            via2[i, j] = onward[1][np.searchsorted(between, via1[i, j]), j]
            best, best_via, other, other_via = (np.ascontiguousarray(table.T) for table in onward)
            self._onward = (best, best_via, other, other_via)
        np.fill_diagonal(cost, 0)
        np.fill_diagonal(via1, -1)
        np.fill_diagonal(via2, -1)
        self.base = Best(_in_ms(cost), via1, via2)
        sites = np.concatenate([via1.ravel(), via2.ravel()])
        order = np.argsort(sites, kind="stable")
        self._bounds = np.searchsorted(sites[order], np.arange(count + 1))
        self._pairs = order % max(1, count * count)

    def __len__(self) -> int:
        return len(self._direct)

    def __iter__(self) -> Iterator[Change]:
        return (self.change(site) for site in range(len(self)))

    def change(self, *gone: int) -> Change:
        """The pairs that have to change when sites (their indices) fail together, with their routes without them.

        Raises IndexError for an index that is no site.
        """
        gone = tuple(sorted(set(gone)))
        for site in gone:
            if not 0 <= site < len(self):
                raise IndexError(f"no site {site}; there are {len(self)}, counted from 0")
        if len(gone) == 1:
            return self._change_one(gone[0])
        if self._onward is not None and gone:
            return self._change_by_solving(gone)
        src, dst = self._crossing(gone)
        keep = np.flatnonzero(~np.isin(self._between, gone))
        cost = self._direct[src, dst]
        via1, via2 = np.full(len(src), -1, INDEX), np.full(len(src), -1, INDEX)
        if keep.size and len(src):
            value, least = least_sums(src, dst, self._first, self._to_dst, keep, form=self._form)
            _take(value < cost, (cost, value), (via1, self._between[keep[least]]))
        return Change(gone, src, dst, self.base.cost[src, dst], _in_ms(cost), via1, via2)

    def after(self, *gone: int) -> Best:
        """All pairs without sites: their rows and columns are inf, every other cell as if they never were."""
        changed = self.change(*gone)
        cost, via1, via2 = self.base.cost.copy(), self.base.via1.copy(), self.base.via2.copy()
        out = list(changed.gone)
        for table, new in ((cost, changed.after_ms), (via1, changed.via1), (via2, changed.via2)):
            table[changed.src, changed.dst] = new
            table[out] = table[:, out] = np.inf if table is cost else -1
        return Best(cost, via1, via2)

    @cached_property
    def _to_dst(self) -> Floats:
        """[N, R] legs from every relay to every destination, a row for each destination."""
        return np.ascontiguousarray(self._direct[self._between].T)

    def _crossing(self, gone: tuple[int, ...]) -> tuple[Indices, Indices]:
        """The pairs that cross one of the sites and end at none of them, in rising order."""
        pairs = np.concatenate([np.empty(0, np.intp), *(self._pairs[self._bounds[site] : self._bounds[site + 1]] for site in gone)])
        if len(gone) > 1:
            pairs = np.unique(pairs)
        src, dst = (ends.astype(INDEX) for ends in np.divmod(pairs, max(1, len(self))))
        if len(gone) > 1:
            stays = ~(np.isin(src, gone) | np.isin(dst, gone))
            src, dst = src[stays], dst[stays]
        return src, dst

    def _change_one(self, site: int) -> Change:
        src, dst = self._crossing((site,))
        cost = self._direct[src, dst]
        one, one_via, other, other_via = (table[src, dst] for table in self._one)
        hit = one_via == site
        via1, via2 = np.full(len(src), -1, INDEX), np.full(len(src), -1, INDEX)
        value = np.where(hit, other, one)
        _take(value < cost, (cost, value), (via1, np.where(hit, other_via, one_via)))
        if self._onward is not None:
            two, *vias = two_relays_without(site, src, dst, self._first, self._between, self._onward, form=self._form)
            _take(two < cost, (cost, two), (via1, vias[0]), (via2, vias[1]))
        return Change((site,), src, dst, self.base.cost[src, dst], _in_ms(cost), via1, via2)

    def _change_by_solving(self, gone: tuple[int, ...]) -> Change:
        src, dst = self._crossing(gone)
        rest = self._direct.copy()
        rest[list(gone)] = rest[:, list(gone)] = np.inf
        found = solved(rest, 2, self._relay, self._between, self._form)
        return Change(gone, src, dst, *(table[src, dst] for table in (self.base.cost, found.cost, found.via1, found.via2)))


def _take(better: NDArray[np.bool_], *tables: tuple[NDArray[Any], NDArray[Any]]) -> None:
    for into, new in tables:
        np.copyto(into, new, where=better)


def _in_ms(cost: Floats) -> Floats:
    return cost / MS if cost.dtype == np.float64 else cost


def single_failures(
    direct_ms: Floats,
    *,
    relays: int = 1,
    relay_ms: float = 0.5,
    allowed: Sequence[int] | None = None,
    precision: Precision = "float64",
    form: Form = "auto",
) -> SingleFailures:
    """Every single site's failure, over the network of `routing.engine.best` (the same parameters and errors).

    >>> ms = np.array([[0, 30.0, 100.0], [30.0, 0, 40.0], [100.0, 40.0, 0]])
    >>> float(single_failures(ms).after(1).cost[0, 2])
    100.0
    """
    direct, relay = prepared(direct_ms, relays=relays, relay_ms=relay_ms, precision=precision)
    return SingleFailures(direct, relays, relay, may_relay(len(direct), allowed), form)
