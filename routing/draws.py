"""Draws of links, kept: the same link gives the same draws to every route that crosses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from records.histogram import bucket_value_ns
from records.link import LinkEstimate
from routing.quantiles import DRAWS, least_draw_ns, link_draws_ns, uniforms
from routing.sums import LEAST_SHARED_BUCKETS, Series, replay_ns, shared_buckets

__all__ = ["Draws", "Together"]

Floats = NDArray[np.float64]

#: How the legs of a route were drawn: at the same moments, or each by itself.
Together = Literal["replay", "independent"]


#: Links whose draws are kept, 32 kB each: a planner that answers for days must not grow.
_KEPT = 4096


class Draws:
    """Draws under one seed. `series` are the links whose samples are known by time bucket, by link key.

    A link is known by identity: hold on to the links for as long as this is used.
    """

    def __init__(self, seed: int, series: Mapping[tuple[str, str, str], Series] | None = None) -> None:
        self.seed = seed
        self._series = series or {}
        self._of: dict[int, tuple[LinkEstimate, Floats]] = {}
        self._least_of: dict[tuple[int, int], tuple[LinkEstimate, float]] = {}
        self._shared: dict[tuple[tuple[str, str, str], ...], bool] = {}

    def legs(self, legs: Sequence[LinkEstimate]) -> tuple[list[Floats], Together]:
        """[draws] RTTs in ns of each leg, element i the same request; joined in time where every leg has a series.

        A single leg is drawn from its whole distribution: there is nothing to keep together.
        """
        if self.together(legs) == "replay":
            series = [self._series[leg.key] for leg in legs]
            names = [f"{leg.src}>{leg.dst}/{leg.medium}" for leg in legs]
            return list(replay_ns(series, names, seed=self.seed, draws=DRAWS)), "replay"
        return [self._link(leg) for leg in legs], "independent"

    def together(self, legs: Sequence[LinkEstimate]) -> Together:
        """How `legs` draws them."""
        if len(legs) < 2 or not self._series or not all(leg.key in self._series for leg in legs):
            return "independent"
        key = tuple(leg.key for leg in legs)
        if key not in self._shared:
            self._shared[key] = len(shared_buckets([self._series[one] for one in key])) >= LEAST_SHARED_BUCKETS
        return "replay" if self._shared[key] else "independent"

    def least(self, legs: Sequence[LinkEstimate], rank: int) -> list[float]:
        """RTTs in ns of each leg that at most `rank` of its draws are below; no draw is made."""
        if self.together(legs) == "replay":
            return [min(bucket_value_ns(found.buckets[0][0]) for found in self._series[leg.key].values() if found.buckets) for leg in legs]
        return [self._least(leg, rank) for leg in legs]

    def _least(self, link: LinkEstimate, rank: int) -> float:
        known = self._least_of.get((id(link), rank))
        if known is None or known[0] is not link:
            if len(self._least_of) >= 16 * _KEPT:
                self._least_of.clear()
            known = self._least_of[id(link), rank] = (link, least_draw_ns(link, rank))
        return known[1]

    def uniforms(self, name: str) -> Floats:
        """[draws] stratified uniforms in (0, 1), in an order fixed by the name and the seed."""
        return uniforms(name, self.seed)

    def _link(self, link: LinkEstimate) -> Floats:
        known = self._of.get(id(link))
        if known is None or known[0] is not link:
            if len(self._of) >= _KEPT:
                del self._of[next(iter(self._of))]  # the oldest
            known = self._of[id(link)] = (link, link_draws_ns(link, self.seed))
        return known[1]
