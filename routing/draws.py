"""Draws of links, kept: the same link gives the same draws to every route that crosses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from records.histogram import bucket_value_ns
from records.link import LinkEstimate
from routing.quantiles import DRAWS, least_draw_ns, link_draws_ns, uniforms
from routing.sums import Series, aligned, replay_ns

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
        self._shared: dict[tuple[tuple[str, str, str], ...], list[Series] | None] = {}

    def legs(self, legs: Sequence[LinkEstimate]) -> tuple[list[Floats], Together]:
        """[draws] RTTs in ns of each leg, element i the same request; joined in time where the legs were measured together.

        A single leg is drawn from its whole distribution: there is nothing to keep together.
        """
        series = self._aligned(legs)
        if series is not None:
            names = [f"{leg.src}>{leg.dst}/{leg.medium}" for leg in legs]
            return list(replay_ns(series, names, seed=self.seed, draws=DRAWS)), "replay"
        return [self._link(leg) for leg in legs], "independent"

    def moments(self, legs: Sequence[LinkEstimate]) -> int | None:
        """How many moments `legs` replays; None where it draws each leg by itself."""
        series = self._aligned(legs)
        return None if series is None else len(series[0])

    def _aligned(self, legs: Sequence[LinkEstimate]) -> list[Series] | None:
        if len(legs) < 2 or not self._series or not all(leg.key in self._series and leg.evidence == "measured" for leg in legs):
            return None
        key = tuple(leg.key for leg in legs)
        if key not in self._shared:
            self._shared[key] = aligned([self._series[one] for one in key])
        return self._shared[key]

    def least(self, legs: Sequence[LinkEstimate], rank: int) -> list[float]:
        """RTTs in ns of each leg that at most `rank` of its draws are below; no draw is made."""
        series = self._aligned(legs)
        if series is not None:
            return [min(bucket_value_ns(found.buckets[0][0]) for found in leg.values()) for leg in series]
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
