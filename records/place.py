"""Places, and the physics between them: great-circle distance and the fibre floor of a round trip."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from records.errors import UserError
from records.units import FIBRE_KM_PER_S, SECOND

__all__ = ["EARTH_RADIUS_KM", "PROVIDERS", "SLUG", "Site", "SiteKind", "fibre_floor_ns", "great_circle_km"]

SiteKind = Literal["pop", "region", "metro"]

#: Mean Earth radius (IUGG R1); with it the great circle is within 0.5 % of the ellipsoid's geodesic.
EARTH_RADIUS_KM = 6371.0088

#: Cloud providers by the prefix of their region ids, with the name a person reads.
PROVIDERS = {
    "aws": "AWS",
    "azure": "Azure",
    "gcp": "Google Cloud",
    "alibaba": "Alibaba Cloud",
    "tencent": "Tencent Cloud",
    "oracle": "Oracle Cloud",
}

#: What the id of a site or an agent looks like, whole.
SLUG = re.compile(r"[a-z0-9][a-z0-9._-]*(:[a-z0-9][a-z0-9._-]*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place that measures, serves or holds users.

    id        slug: ``sin`` for a PoP, ``aws:us-east-1`` for a cloud region, ``metro:lagos`` for a metro
    kind      ``pop``, ``region`` or ``metro``
    lat, lon  degrees, WGS 84, city accurate
    country   ISO 3166-1 alpha-2 in upper case; None where it is not known
    provider  cloud provider of a region (a key of PROVIDERS); None for PoPs and metros
    metro     the city the site is in, as a person writes it; None where it is not known

    Raises UserError when an id is no slug or a coordinate is off the Earth.
    """

    id: str
    kind: SiteKind
    name: str
    lat: float
    lon: float
    country: str | None = None
    provider: str | None = None
    metro: str | None = None

    def __post_init__(self) -> None:
        if not SLUG.fullmatch(self.id):
            raise UserError(
                f"site id {self.id!r} is not a slug; use lower-case letters, digits, '.', '_', '-', as in 'sin' or 'aws:us-east-1'"
            )
        if self.kind not in ("pop", "region", "metro"):
            raise UserError(f"site {self.id}: kind {self.kind!r} is not one of pop, region, metro")
        if not (-90 <= self.lat <= 90 and -180 <= self.lon <= 180):
            raise UserError(f"site {self.id}: coordinates {self.lat}, {self.lon} are off the Earth; latitude -90..90, longitude -180..180")


def great_circle_km(a: Site, b: Site) -> float:
    """Great-circle distance between two sites in kilometres (haversine; exact on the sphere, stable when near).

    >>> fra = Site(id="fra", kind="pop", name="Frankfurt", lat=50.11, lon=8.68)
    >>> iad = Site(id="iad", kind="pop", name="Ashburn", lat=39.04, lon=-77.49)
    >>> round(great_circle_km(fra, iad))
    6549
    """
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    half_lat = (lat_b - lat_a) / 2
    half_lon = math.radians(b.lon - a.lon) / 2
    h = math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))


def fibre_floor_ns(a: Site, b: Site) -> int:
    """The least round-trip time between two sites in ns: there and back along the great circle at 2c/3.

    No path in fibre can be faster; a measured RTT below 98 % of it is wrong (2 % allow for coordinates).
    """
    return round(2 * great_circle_km(a, b) / FIBRE_KM_PER_S * SECOND)
