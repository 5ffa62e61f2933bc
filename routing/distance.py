"""How far users are from where they could be served: every metro to every candidate at once, measured where that is known.

A measured (or, from its reverse, assumed) link that passed its gates gives its median RTT; every other pair is modelled
as fibre floor x median inflation (routing.modelled), and marked so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from records.link import LinkEstimate
from records.place import EARTH_RADIUS_KM, Site
from records.units import FIBRE_KM_PER_S, MS, SECOND
from routing.media import fastest, rank_rtt_ns
from routing.modelled import INFLATION_P50, MODEL_LEAST_RTT_NS

__all__ = ["Distances", "distances", "floors_between_ms", "floors_ms", "radians"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Distances:
    """rtt_ms [C, S] of every client to every site; known [C, S]: whether that was measured (or assumed from its reverse)."""

    rtt_ms: Floats
    known: NDArray[np.bool_]


def floors_ms(clients: Sequence[Site], sites: Sequence[Site]) -> Floats:
    """[C, S] fibre floor in ms of every pair (records.place.fibre_floor_ns, for all at once)."""
    return floors_between_ms(radians(clients), radians(sites))


def radians(sites: Sequence[Site]) -> Floats:
    """[2, S] latitudes and longitudes in radians."""
    return np.radians([[getattr(site, name) for site in sites] for name in ("lat", "lon")])


def floors_between_ms(clients: Floats, sites: Floats) -> Floats:
    """[C, S] `floors_ms` of places given as `radians` gives them, for those that are asked about again and again."""
    lat_a, lon_a = clients[:, :, None]
    lat_b, lon_b = sites[:, None, :]
    h = np.sin((lat_b - lat_a) / 2) ** 2 + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    km = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(1.0, np.sqrt(h)))
    return np.asarray(np.rint(2 * km / FIBRE_KM_PER_S * SECOND) / MS, dtype=np.float64)


def distances(
    clients: Sequence[Site], sites: Sequence[Site], links: Iterable[LinkEstimate] = (), *, inflation: float = INFLATION_P50
) -> Distances:
    """RTT of every client to every site; a client at the site itself is 0 ms away from it."""
    rtt_ms = np.maximum(floors_ms(clients, sites) * inflation, MODEL_LEAST_RTT_NS / MS)
    known = np.zeros(rtt_ms.shape, dtype=np.bool_)
    row = {site.id: i for i, site in enumerate(clients)}
    column = {site.id: j for j, site in enumerate(sites)}
    usable = fastest(link for link in links if link.evidence != "modelled")
    for turned in (True, False):  # what was measured from the client's end is looked at last and stands
        for pair, link in usable.items():
            i, j = (row.get(pair[turned]), column.get(pair[not turned]))
            if i is not None and j is not None:
                rtt_ms[i, j], known[i, j] = (rank_rtt_ns(link) or 0) / MS, True
    for name in row.keys() & column.keys():
        rtt_ms[row[name], column[name]], known[row[name], column[name]] = 0.0, True
    return Distances(rtt_ms, known)
