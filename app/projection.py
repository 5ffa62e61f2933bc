"""From degrees to the plane of the map: the Robinson projection, great circles, and isochrones in fibre.

Coordinates on the map have x to the right and y downwards, in units of the Earth's radius, so that the canvas only
scales and shifts. Everything that crosses the antimeridian is cut there; otherwise a bar runs across the map.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from records.place import EARTH_RADIUS_KM, Site
from records.units import FIBRE_KM_PER_S

__all__ = ["cut_at_antimeridian", "flat", "great_circle", "isochrone", "outline", "packed", "project", "robinson"]

Points = NDArray[np.float64]

#: Robinson's table (Robinson 1974), for latitudes 0, 5, ..., 90: length of the parallel, distance from the equator.
_LATITUDES = np.arange(0.0, 91.0, 5.0)
_LENGTHS = np.array(
    [
        1,
        0.9986,
        0.9954,
        0.99,
        0.9822,
        0.973,
        0.96,
        0.9427,
        0.9216,
        0.8962,
        0.8679,
        0.835,
        0.7986,
        0.7597,
        0.7186,
        0.6732,
        0.6213,
        0.5722,
        0.5322,
    ]
)
_DISTANCES = np.array(
    [0, 0.062, 0.124, 0.186, 0.248, 0.31, 0.372, 0.434, 0.4958, 0.5571, 0.6176, 0.6769, 0.7346, 0.7903, 0.8435, 0.8936, 0.9394, 0.9761, 1]
)


def robinson(lon: Points, lat: Points) -> tuple[Points, Points]:
    """Degrees to map coordinates (Earth radii, y downwards), linear between the rows of Robinson's table."""
    size = np.abs(lat)
    x = 0.8487 * np.interp(size, _LATITUDES, _LENGTHS) * np.radians(lon)
    y = -1.3523 * np.interp(size, _LATITUDES, _DISTANCES) * np.sign(lat)
    return x, y


def project(points: Points) -> Points:
    """(n, 2) longitudes and latitudes in degrees to (n, 2) map coordinates."""
    x, y = robinson(points[:, 0], points[:, 1])
    return np.column_stack([x, y])


def _vectors(lon: Points, lat: Points) -> Points:
    phi, theta = np.radians(lat), np.radians(lon)
    return np.column_stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)])


def _degrees(vectors: Points) -> Points:
    return np.column_stack([np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])), np.degrees(np.arcsin(np.clip(vectors[:, 2], -1, 1)))])


def great_circle(a: Site, b: Site, step_deg: float = 2.0) -> list[Points]:
    """The shortest way over the sphere as (n, 2) arrays of longitude and latitude, one for each side of the antimeridian.

    Two sites in one place give one array with one point; antipodes give some great circle through both.
    """
    ends = _vectors(np.array([a.lon, b.lon]), np.array([a.lat, b.lat]))
    angle = float(np.arctan2(np.linalg.norm(np.cross(ends[0], ends[1])), ends[0] @ ends[1]))
    if angle < 1e-9:
        return [np.array([[a.lon, a.lat]])]
    normal = np.cross(ends[0], ends[1])
    if np.linalg.norm(normal) < 1e-9:
        normal = np.cross(ends[0], np.array([0.0, 0.0, 1.0]))
        if np.linalg.norm(normal) < 1e-9:
            normal = np.array([1.0, 0.0, 0.0])
    across = np.cross(normal / np.linalg.norm(normal), ends[0])
    steps = np.linspace(0, angle, max(2, int(np.degrees(angle) / step_deg) + 2))[:, None]
    return cut_at_antimeridian(_degrees(np.cos(steps) * ends[0] + np.sin(steps) * across))


def isochrone(site: Site, rtt_ms: float, step_deg: float = 3.0) -> list[Points]:
    """Where the fibre floor of a round trip from a site is just `rtt_ms`: a circle on the sphere, cut at the antimeridian.

    No place outside the line can be reached in that time over any fibre. Empty when the line would lie beyond the
    antipode, which is about 200 ms away.
    """
    radius = rtt_ms / 1000 / 2 * FIBRE_KM_PER_S / EARTH_RADIUS_KM
    if not 0 < radius < np.pi:
        return []
    centre = _vectors(np.array([site.lon]), np.array([site.lat]))[0]
    east = np.array([-np.sin(np.radians(site.lon)), np.cos(np.radians(site.lon)), 0.0])
    north = np.cross(centre, east)
    turns = np.radians(np.arange(0.0, 360.0 + step_deg, step_deg))[:, None]
    ring = np.cos(radius) * centre + np.sin(radius) * (np.cos(turns) * north + np.sin(turns) * east)
    return cut_at_antimeridian(_degrees(ring))


def outline(step_deg: float = 2.5) -> Points:
    """The edge of the map: up the meridian of 180° west and down the one of 180° east."""
    up = np.arange(-90.0, 90.0 + step_deg / 2, step_deg)
    west, east = np.column_stack([np.full_like(up, -180.0), up]), np.column_stack([np.full_like(up, 180.0), up[::-1]])
    return np.vstack([west, east, west[:1]])


def cut_at_antimeridian(points: Points) -> list[Points]:
    """A line of longitudes and latitudes as pieces that never jump across the map; the ends meet the edge at ±180.

    The cut is where the great circle between the two points passes the meridian, also near a pole.
    """
    jumps = np.flatnonzero(np.abs(np.diff(points[:, 0])) > 180)
    pieces, first, head = [], 0, np.empty((0, 2))
    for jump in jumps:
        edge = 180.0 if points[jump, 0] > 0 else -180.0
        here, there = _vectors(points[jump : jump + 2, 0], points[jump : jump + 2, 1])
        # The plane of the meridian is y = 0; both points in it: they are on the edge already.
        share = 0.0 if here[1] == there[1] else here[1] / (here[1] - there[1])
        lat = float(_degrees((crossing := here + share * (there - here))[None] / np.linalg.norm(crossing))[0, 1])
        pieces.append(np.vstack([head, points[first : jump + 1], [[edge, lat]]]))
        first, head = int(jump) + 1, np.array([[-edge, lat]])
    pieces.append(np.vstack([head, points[first:]]))
    return pieces


def flat(lines: Iterable[Points]) -> tuple[bytes, tuple[int, ...]]:
    """Lines of degrees as little-endian float32 x, y pairs on the map, one after the other, and the points of each line."""
    projected = [project(np.asarray(line, dtype=np.float64).reshape(-1, 2)) for line in lines]
    together = np.concatenate(projected).astype("<f4") if projected else np.empty((0, 2), dtype="<f4")
    return together.tobytes(), tuple(len(line) for line in projected)


def packed(lines: Iterable[Points]) -> dict[str, object]:
    """Lines of degrees as the map component takes them: base64 of what `flat` gives, and points per line."""
    points, sizes = flat(lines)
    return {"xy": base64.b64encode(points).decode(), "sizes": list(sizes)}
