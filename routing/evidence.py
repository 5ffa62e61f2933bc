"""Which link stands for a pair of sites: one rule, for a single request (routing.network) and for all demand (routing.reach).

The first of these that there is:

1. the fastest usable link that was measured (a scenario may have slowed it since)
2. that of the other direction, assumed: an RTT crosses both directions, whoever starts it
3. a model given with the links, as of a pair that was degraded and that nobody measured
4. the model of routing.modelled

A pair that is cut has none of them, and nothing is assumed from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from records.errors import UnknownSite
from records.link import LinkEstimate
from records.place import EARTH_RADIUS_KM, Site
from records.units import FIBRE_KM_PER_S, MS, SECOND
from routing.columns import LinkColumns, Pairs
from routing.media import fastest, rank_rtt_ns
from routing.modelled import INFLATION_P50, MODEL_LEAST_RTT_NS, assumed_link, model_link

__all__ = ["Evidence", "Tables"]

Floats = NDArray[np.float64]
Pair = tuple[str, str]


class Tables(NamedTuple):
    """Median RTTs in ms [sources, targets] of the links that stand for each pair; inf where none does.

    measured  by rule 1 alone: what relays are sought over
    known     by rules 1 and 2
    standing  by all rules; 0 from a site to itself
    """

    measured: Floats
    known: Floats
    standing: Floats


class Evidence:
    """Graded links, indexed by pair once; `measured` is rule 1, `given` rule 3. Pairs of `cut` have no link."""

    def __init__(self, links: Iterable[LinkEstimate], cut: Collection[Pair] = ()) -> None:
        self.measured: Mapping[Pair, LinkEstimate]
        self.given: Mapping[Pair, LinkEstimate] = {}
        if isinstance(links, LinkColumns):  # measured, all of them
            self.measured = Pairs(links)
        else:
            links = tuple(links)
            self.measured = fastest(link for link in links if link.evidence != "modelled")
            self.given = fastest(link for link in links if link.evidence == "modelled")
        self.cut = frozenset(cut)
        #: The same object every time: draws are known by it.
        self._assumed: dict[Pair, LinkEstimate | None] = {}
        self._models: dict[Pair, LinkEstimate] = {}

    def known(self, src: str, dst: str) -> LinkEstimate | None:
        """The measured link of a pair, else the one assumed from its measured reverse; the same object every time."""
        pair = (src, dst)
        if pair in self.cut:
            return None
        if pair in self.measured:
            return self.measured[pair]
        if pair not in self._assumed:
            reverse = None if (dst, src) in self.cut else self.measured.get((dst, src))
            self._assumed[pair] = None if reverse is None else assumed_link(reverse)
        return self._assumed[pair]

    def leg(self, src: str, dst: str, sites: Mapping[str, Site]) -> LinkEstimate | None:
        """The link that stands for a pair, by all rules; None where it is cut. Raises UnknownSite."""
        found = self.known(src, dst)
        if found is not None or (src, dst) in self.cut:
            return found
        found = self.given.get((src, dst)) or self._models.get((src, dst))
        if found is None:
            for name in (src, dst):
                if name not in sites:
                    raise UnknownSite(name, sites)
            found = self._models[src, dst] = _modelled(sites[src], sites[dst])
        return found

    def tables(self, sources: Sequence[str], targets: Sequence[str], sites: Mapping[str, Site]) -> Tables:
        """`known` and `leg` of many pairs at once."""
        rows, columns = ({name: i for i, name in enumerate(names)} for names in (sources, targets))
        measured = self._medians_ms(self.measured, rows, columns)
        back = measured if rows == columns else self._medians_ms(self.measured, columns, rows)
        known = np.where(np.isfinite(measured), measured, back.T)
        given = self._medians_ms(self.given, rows, columns)
        standing = np.where(np.isfinite(known), known, np.where(np.isfinite(given), given, _models_ms(sources, targets, sites)))
        self._without_cut(known, rows, columns)
        self._without_cut(standing, rows, columns)
        for name in rows.keys() & columns.keys():
            standing[rows[name], columns[name]] = 0.0
        return Tables(measured, known, standing)

    def _medians_ms(self, links: Mapping[Pair, LinkEstimate], rows: Mapping[str, int], columns: Mapping[str, int]) -> Floats:
        if isinstance(links, Pairs):
            table = links.rank_table_ns(rows, columns) / MS
        else:
            table = np.full((len(rows), len(columns)), np.inf)
            for (src, dst), link in links.items():
                i = rows.get(src)
                j = None if i is None else columns.get(dst)
                if i is not None and j is not None:
                    table[i, j] = (rank_rtt_ns(link) or 0) / MS
        self._without_cut(table, rows, columns)
        return table

    def _without_cut(self, table: Floats, rows: Mapping[str, int], columns: Mapping[str, int]) -> None:
        for src, dst in self.cut:
            if src in rows and dst in columns:
                table[rows[src], columns[dst]] = np.inf


#: One object for a pair, whatever world asks: its draws are known by it (routing.outcome.Cache).
_modelled = lru_cache(maxsize=1 << 15)(model_link)


def _models_ms(sources: Iterable[str], targets: Iterable[str], sites: Mapping[str, Site]) -> Floats:
    """[sources, targets] medians of routing.modelled.model_link, all at once (haversine on arrays); not to be written to."""
    return _models_at_ms(*(tuple((site.lat, site.lon) for site in map(sites.__getitem__, names)) for names in (sources, targets)))


@lru_cache(maxsize=8)
def _models_at_ms(sources: tuple[tuple[float, float], ...], targets: tuple[tuple[float, float], ...]) -> Floats:
    """The same by latitude and longitude in degrees: every world of an inventory asks for the same."""
    a, b = (np.radians(np.array(places, dtype=np.float64).reshape(-1, 2)) for places in (sources, targets))
    half_lat = (b[None, :, 0] - a[:, None, 0]) / 2
    half_lon = (b[None, :, 1] - a[:, None, 1]) / 2
    h = np.sin(half_lat) ** 2 + np.cos(a[:, None, 0]) * np.cos(b[None, :, 0]) * np.sin(half_lon) ** 2
    km = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(1.0, np.sqrt(h)))
    found: Floats = np.maximum(MODEL_LEAST_RTT_NS, np.rint(np.rint(2 * km / FIBRE_KM_PER_S * SECOND) * INFLATION_P50)) / MS
    return found
