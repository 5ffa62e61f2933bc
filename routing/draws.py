"""Draws of links, kept: the same link gives the same draws to every route that crosses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from records.link import LinkEstimate
from routing.quantiles import DRAWS, link_draws_ns, uniforms
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

    def legs(self, legs: Sequence[LinkEstimate]) -> tuple[list[Floats], Together]:
        """[draws] RTTs in ns of each leg, element i the same request; joined in time where every leg has a series.

        A single leg is drawn from its whole distribution: there is nothing to keep together.
        """
        if len(legs) > 1 and self._series and all(leg.key in self._series for leg in legs):
            series = [self._series[leg.key] for leg in legs]
            if len(shared_buckets(series)) >= LEAST_SHARED_BUCKETS:
                names = [f"{leg.src}>{leg.dst}/{leg.medium}" for leg in legs]
                return list(replay_ns(series, names, seed=self.seed, draws=DRAWS)), "replay"
        return [self._link(leg) for leg in legs], "independent"

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
