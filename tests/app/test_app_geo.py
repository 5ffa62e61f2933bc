"""The map's coastline: land is where land is, and nothing is drawn across the map."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app import geo
from app.geo.build_coastline import cut, flat, tidy, unrolled
from app.geo.build_coastline import main as build
from inventory.load import load

Ring = list[tuple[float, float]]


def inside(lon: float, lat: float, rings: list[Ring]) -> bool:
    """Even-odd over all rings."""
    odd = False
    for ring in rings:
        for (x1, y1), (x2, y2) in pairwise(ring):
            if (y1 > lat) != (y2 > lat) and lon < (x2 - x1) * (lat - y1) / (y2 - y1) + x1:
                odd = not odd
    return odd


def coast_km(lon: float, lat: float, rings: list[Ring]) -> float:
    """The distance to the nearest coast, flat around the point: good to a percent within some hundred km."""
    shrink = math.cos(math.radians(lat))
    best = math.inf
    for ring in rings:
        for (x1, y1), (x2, y2) in pairwise(ring):
            ax, ay, bx, by = (x1 - lon) * shrink, y1 - lat, (x2 - lon) * shrink, y2 - lat
            length = (bx - ax) ** 2 + (by - ay) ** 2
            along = 0.0 if length == 0 else min(1.0, max(0.0, -(ax * (bx - ax) + ay * (by - ay)) / length))
            best = min(best, math.hypot(ax + along * (bx - ax), ay + along * (by - ay)))
    return best * 111.2


def area(ring: Ring) -> float:
    """The shoelace area, always positive, of a ring whose last point is its first."""
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(ring))) / 2


@pytest.mark.parametrize(
    ("place", "lon", "lat", "dry"),
    [
        ("Berlin", 13.40, 52.52, True),
        ("Sydney", 150.9, -33.87, True),
        ("Denver", -104.99, 39.74, True),
        ("Nairobi", 36.82, -1.29, True),
        ("Chukotka west of 180°", 178.0, 67.0, True),
        ("Chukotka east of 180°", -177.0, 66.5, True),
        ("Vanua Levu, Fiji", 179.3, -16.6, True),
        ("the South Pole", 10.0, -89.9, True),
        ("Antarctica at the map's edge", 179.99, -88.0, True),
        ("mid-Atlantic", -35.0, 30.0, False),
        ("mid-Pacific", -150.0, 0.0, False),
        ("the Caspian Sea", 50.8, 41.9, False),
        ("the North Pole", 0.0, 89.0, False),
        ("the Bering Sea at 180°", 180.0, 58.0, False),
        ("south of Iceland, where a bar of Russia's would be", -20.0, 62.0, False),
    ],
)
def test_known_points_are_land_or_sea(place: str, lon: float, lat: float, dry: bool) -> None:
    """Points known to be on land are inside the rings, points at sea outside, at the antimeridian and the pole too."""
    assert inside(lon, lat, geo.land()) is dry, place


def test_nothing_is_drawn_across_the_map() -> None:
    """No segment spans more than 60° of longitude, every point is on the map, every ring is closed."""
    for line in [*geo.land(), *geo.borders()]:
        assert all(-180 <= lon <= 180 and -90 <= lat <= 90 for lon, lat in line)
        assert all(abs(b[0] - a[0]) <= 60.01 for a, b in pairwise(line))
    assert all(ring[0] == ring[-1] and len(ring) >= 4 for ring in geo.land())


def test_the_files_are_small() -> None:
    """The two files load with every first map: each stays under 120 kB."""
    folder = Path(geo.__file__).parent
    for name in ("land.json", "borders.json"):
        assert 20_000 < (folder / name).stat().st_size < 120_000


def test_land_covers_its_share_of_the_earth() -> None:
    """The rings cover 29 % of the sphere, as land does (149 of 510 million km2)."""

    # Area on the sphere from the boundary: the integral of sin(lat) d(lon) along each ring; seas within land run the
    # other way round, so the signed sum takes them off.
    total = 0.0
    for ring in geo.land():
        total += sum(
            (math.radians(x2 - x1)) * (math.sin(math.radians(y1)) + math.sin(math.radians(y2))) / 2 for (x1, y1), (x2, y2) in pairwise(ring)
        )
    assert abs(total) / (4 * math.pi) == pytest.approx(0.292, abs=0.01)


#: Cities on islands too small for the outlines.
ON_SMALL_ISLANDS = {
    *("Malé", "Naha", "Port Louis", "Saint-Denis", "Las Palmas", "Palma", "Valletta", "Bridgetown", "Willemstad", "Fort-de-France"),
    *("Pointe-à-Pitre", "Papeete", "Hagåtña", "Praia"),
}


def test_no_site_lies_in_the_open_sea() -> None:
    """Every site of the inventory is on land or within 60 km of a coast: no coordinate is swapped or has lost its sign."""
    rings = geo.land()
    at_sea = {
        site.metro for site in load().sites.values() if not inside(site.lon, site.lat, rings) and coast_km(site.lon, site.lat, rings) >= 60
    }
    assert at_sea == ON_SMALL_ISLANDS


def test_borders_run_over_land() -> None:
    """Nine of ten points of the borders are on land or within 30 km of it."""
    rings = geo.land()
    points = [point for line in geo.borders() for point in line][::7]
    wet = [point for point in points if not inside(*point, rings) and coast_km(*point, rings) > 30]
    assert len(wet) < len(points) / 10


def test_a_square_across_the_antimeridian_becomes_two() -> None:
    """A square from 170° E to 170° W is cut into two of the same area, one on each edge of the map."""
    square = [(170.0, 0.0), (-170.0, 0.0), (-170.0, 10.0), (170.0, 10.0), (170.0, 0.0)]
    parts = sorted(([*part, part[0]] for part in flat(square)), key=lambda part: part[0])
    assert [area(part) for part in parts] == [100.0, 100.0]
    assert [(min(x for x, _ in part), max(x for x, _ in part)) for part in parts] == [(-180, -170), (170, 180)]


def test_a_comb_across_the_antimeridian_falls_apart() -> None:
    """A comb whose teeth cross 180° gives each tooth as a ring of its own, not joined along the edge."""
    comb = [(170.0, 0.0), (190.0, 0.0), (190.0, 2.0), (172.0, 2.0), (172.0, 4.0), (190.0, 4.0), (190.0, 6.0), (170.0, 6.0)]
    east = cut(comb, 180.0, 1)
    assert sorted(area([*part, part[0]]) for part in east) == [20.0, 20.0]
    assert len(cut(comb, 180.0, -1)) == 1


def test_a_ring_around_the_pole_is_closed_there() -> None:
    """A ring once around the Earth at 80° S becomes the strip down to the pole: 360° wide, 10° high."""
    ring = [(float(lon), -80.0) for lon in range(-170, 190, 20)]
    ring.append(ring[0])
    assert sum(area([*part, part[0]]) for part in flat(ring)) == pytest.approx(3600)
    assert unrolled(ring)[-1] == (-170.0, -90.0)


@given(
    st.integers(-180, 179),
    st.integers(-60, 60),
    st.lists(st.floats(0.5, 30), min_size=3, max_size=24),
)
def test_cutting_keeps_the_area(lon: int, lat: int, radii: list[float]) -> None:
    """However a star-shaped ring lies across the antimeridian, its parts on the map have its area and stay on the map."""
    angles = [2 * math.pi * i / len(radii) for i in range(len(radii))]
    star = [(lon + r * math.cos(a), lat + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]
    whole = area([*star, star[0]])
    assume(whole > 1e-3)
    wrapped = [((x + 180) % 360 - 180, y) for x, y in [*star, star[0]]]
    parts = list(flat(wrapped))
    assert sum(area([*part, part[0]]) for part in parts) == pytest.approx(whole, rel=1e-6)
    assert all(-180 - 1e-9 <= x <= 180 + 1e-9 for part in parts for x, _ in part)


def test_the_files_are_what_the_builder_makes(tmp_path: Path) -> None:
    """The builder, run on the same public files, writes the two files as they are kept here."""
    source = Path(__file__).parents[2].parent / "shared" / "data" / "natural-earth"
    if not (source / "land-110m.json").is_file():
        pytest.skip(f"{source} is not there: the public data sets are kept beside the project")
    build(source, tmp_path)
    for name in ("land.json", "borders.json"):
        assert (tmp_path / name).read_bytes() == (Path(geo.__file__).parent / name).read_bytes()


def test_tidy_divides_long_steps() -> None:
    """A step of 360° along the pole is divided into steps of at most 60°; repeated points go."""
    line = tidy([(180.0, -90.0), (180.001, -90.0), (-180.0, -90.0)], closed=False)
    assert all(0 < abs(b[0] - a[0]) <= 60 for a, b in pairwise(line))
    assert line[0] == [180.0, -90.0]
    assert line[-1] == [-180.0, -90.0]
