"""Distances and floors against published great-circle figures between airports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.errors import UserError
from records.place import Site, fibre_floor_ns, great_circle_km
from records.units import FIBRE_KM_PER_S

AIRPORTS = {
    "fra": (50.0379, 8.5622),
    "iad": (38.9531, -77.4565),
    "lhr": (51.4700, -0.4543),
    "sin": (1.3644, 103.9915),
    "gru": (-23.4356, -46.4731),
    "nrt": (35.7720, 140.3929),
    "syd": (-33.9399, 151.1753),
    "bom": (19.0896, 72.8656),
}


def site(name: str, lat: float, lon: float) -> Site:
    return Site(id=name, kind="pop", name=name, lat=lat, lon=lon)


def airport(name: str) -> Site:
    return site(name, *AIRPORTS[name])


@pytest.mark.parametrize(
    ("a", "b", "floor_ms"),
    [("fra", "iad", 65.5), ("lhr", "sin", 108.8), ("iad", "gru", 76.6), ("nrt", "syd", 78.3), ("fra", "bom", 65.7)],
)
def test_floor_of_known_pairs(a: str, b: str, floor_ms: float) -> None:
    """The fibre floor of well-known city pairs is the published one within half a percent."""
    assert fibre_floor_ns(airport(a), airport(b)) / 1e6 == pytest.approx(floor_ms, rel=0.005)


def test_quarter_of_the_equator() -> None:
    """A quarter of a great circle is a quarter of 2 pi R, by definition."""
    import math

    assert great_circle_km(site("a", 0, 0), site("b", 0, 90)) == pytest.approx(math.pi / 2 * 6371.0088)
    assert great_circle_km(site("a", 90, 0), site("b", -90, 0)) == pytest.approx(math.pi * 6371.0088)


coordinates = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@given(coordinates, coordinates, coordinates)
def test_distance_is_a_metric(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> None:
    """Distance is symmetric, zero to itself, and obeys the triangle inequality."""
    x, y, z = site("x", *a), site("y", *b), site("z", *c)
    assert great_circle_km(x, x) == 0
    assert great_circle_km(x, y) == pytest.approx(great_circle_km(y, x), abs=1e-6)
    assert great_circle_km(x, z) <= great_circle_km(x, y) + great_circle_km(y, z) + 1e-3


def test_floor_is_there_and_back_at_two_thirds_of_c() -> None:
    """1,000 km of fibre take at least 10 ms there and back: 2 d / (2c/3)."""
    a, b = site("a", 0, 0), site("b", 0, 8.993)
    assert fibre_floor_ns(a, b) / 1e9 == pytest.approx(2 * great_circle_km(a, b) / FIBRE_KM_PER_S, rel=1e-6)
    assert fibre_floor_ns(a, b) / 1e6 == pytest.approx(10.007, rel=1e-3)


@pytest.mark.parametrize("bad", ["", "SIN", "a b", "aws:", ":x", "aws:us:1", "-x"])
def test_an_id_that_is_no_slug_is_refused(bad: str) -> None:
    """An id is a slug, with at most one colon between provider and region."""
    with pytest.raises(UserError, match="slug"):
        site(bad, 0, 0)


@pytest.mark.parametrize(("lat", "lon"), [(91, 0), (0, 181), (float("nan"), 0)])
def test_coordinates_off_the_earth_are_refused(lat: float, lon: float) -> None:
    """A coordinate off the Earth, or not a number, is refused with what is allowed."""
    with pytest.raises(UserError, match="off the Earth"):
        site("a", lat, lon)
