"""Which k sites cover the most people: greedy and swap, with what an exchange is worth kept up to date.

A step changes how a few clients are covered; only their columns are added to or taken from the tables, in place of adding
up every client again (Resende and Werneck's idea, in its simple form for a cost of 0 or 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cover"]

Floats = NDArray[np.float64]
_LEAST_GAIN = 1e-9  # relative to all people: sums that are kept up to date round


class Cover:
    """A choice of sites, what each other site would add, and what each exchange would change.

    covers  [C, S] whether a site covers a client; weights [C] people; keep: sites that stay, first in `chosen`
    price, spend  [S] what a site costs and the most all may, or None; kept sites cost nothing
    """

    def __init__(
        self, covers: NDArray[np.bool_], weights: Floats, keep: Sequence[int], *, price: Floats | None, spend: float | None
    ) -> None:
        self._covers, self._weights = covers, weights
        self._table = covers.astype(np.float64)
        self._count = np.zeros(len(covers), dtype=np.intp)
        #: [S] people a site covers that nobody else does.
        self._gain: Floats = weights @ self._table
        self._price = None if price is None else np.where(np.isin(np.arange(covers.shape[1]), keep), 0.0, price)
        self._left = np.inf if spend is None else spend
        self.chosen: list[int] = []
        for site in dict.fromkeys(keep):
            self._take(site)
        self._kept = len(self.chosen)

    def add(self, most: int) -> None:
        """Sites until there are `most`, each the one that adds most people (where they cost, most for its price)."""
        while len(self.chosen) < most:
            gain = self._gain.copy()
            gain[self.chosen] = -np.inf
            worth = gain
            if self._price is not None:
                gain[self._price > self._left] = -np.inf
                worth = np.where(np.isfinite(gain), gain / np.maximum(self._price, 1e-9), gain)
            site = int(worth.argmax())
            if gain[site] == -np.inf:
                return  # nothing else can be paid for
            self._left -= 0.0 if self._price is None else float(self._price[site])
            self._take(site)

    def swap(self) -> None:
        """The best exchange of one chosen site for one other, again and again, while it helps."""
        if len(self.chosen) == self._covers.shape[1]:
            return
        alone = self._alone(np.arange(len(self._count)))
        #: [S, k] people whom only the k-th chosen site covers and the other would too.
        shared = self._table.T @ alone
        lost = alone.sum(axis=0)
        for _ in range(10 * self._covers.shape[1]):  # each step improves, so it ends by itself; this is a net for rounding
            change = lost[None, :] - shared - self._gain[:, None]
            change[self.chosen] = np.inf
            change[:, : self._kept] = np.inf
            if self._price is not None:
                change[self._price[:, None] - self._price[self.chosen][None, :] > self._left] = np.inf
            site, leaves = np.unravel_index(int(change.argmin()), change.shape)
            if not change[site, leaves] < -_LEAST_GAIN * float(self._weights.sum()):
                return
            gone = self.chosen[leaves]
            if self._price is not None:
                self._left -= float(self._price[site] - self._price[gone])
            touched = np.flatnonzero(self._covers[:, site] | self._covers[:, gone])
            before, bare = self._alone(touched), self._count[touched] == 0
            self._count[touched] += self._covers[touched, site].astype(np.intp) - self._covers[touched, gone]
            self.chosen[leaves] = int(site)
            after = self._alone(touched)
            rows = self._table[touched]
            shared += rows.T @ (after - before)
            lost += (after - before).sum(axis=0)
            self._gain += ((self._count[touched] == 0).astype(np.float64) - bare) * self._weights[touched] @ rows

    def _take(self, site: int) -> None:
        new = np.flatnonzero(self._covers[:, site] & (self._count == 0))
        self._gain -= self._weights[new] @ self._table[new]
        self._count += self._covers[:, site]
        self.chosen.append(site)

    def _alone(self, clients: NDArray[np.intp]) -> Floats:
        """[clients, k] the people of a client that only the k-th chosen site covers."""
        only = self._count[clients] == 1
        people: Floats = np.where(only, self._weights[clients], 0.0)
        return np.asarray(self._covers[clients][:, self.chosen] * people[:, None], dtype=np.float64)
