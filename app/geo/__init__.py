"""The coastline and the country borders of the dashboard's map, kept here so that the map is drawn without any network.

Natural Earth 1:110m (public domain), cut at the antimeridian: every point lies within ±180° and no segment jumps
across the map. app/geo/SOURCE.md says how the files were made.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

__all__ = ["borders", "land"]

Line = list[tuple[float, float]]


@lru_cache(maxsize=2)
def _lines(name: str) -> tuple[tuple[tuple[float, float], ...], ...]:
    document = json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
    return tuple(tuple((float(lon), float(lat)) for lon, lat in line) for line in document)


def land() -> list[Line]:
    """The rings of all land as (lon, lat) in degrees, each closed (first point = last point).

    Seas inside land (the Caspian) are rings too: fill all rings together with the even-odd rule.
    """
    return [list(ring) for ring in _lines("land.json")]


def borders() -> list[Line]:
    """The borders between countries as open lines of (lon, lat) in degrees; coasts are not among them."""
    return [list(line) for line in _lines("borders.json")]
