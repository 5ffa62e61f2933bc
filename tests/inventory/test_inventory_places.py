"""PoPs and metros: enough of them, each once, each in its country, and the fleet's ids kept."""

from __future__ import annotations

import csv
import json
import math
import re
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from inventory.load import BUILT_IN, load
from records.place import great_circle_km

NATURAL_EARTH = Path(__file__).parents[2].parent / "shared" / "data" / "natural-earth" / "countries-110m.json"

#: The ids of the first fleet: warehouses hold measurements under them.
FIRST_FLEET = """
sin fra iad sjc gru nrt syd jnb lhr ams cdg mrs mad lis mxp zrh vie waw arn hel dub ath otp ist tlv dxb ruh cai los nbo cpt cmn bom maa
del khi dac hkg tpe icn kix mnl cgk kul bkk sgn mel per akl lax sea den dfw ord atl mia ewr yyz yul yvr qro bog lim scl eze gig for
"""

#: ISO 3166-1 alpha-2 and numeric codes of the countries that Natural Earth draws at 1:110m.
NUMERIC = """
AE784 AF004 AL008 AM051 AO024 AQ010 AR032 AT040 AU036 AZ031 BA070 BD050 BE056 BF854 BG100 BI108 BJ204 BN096 BO068 BR076 BS044 BT064 BW072
BY112 BZ084 CA124 CD180 CF140 CG178 CH756 CI384 CL152 CM120 CN156 CO170 CR188 CU192 CY196 CZ203 DE276 DJ262 DK208 DO214 DZ012 EC218 EE233
EG818 EH732 ER232 ES724 ET231 FI246 FJ242 FK238 FR250 GA266 GB826 GE268 GH288 GL304 GM270 GN324 GQ226 GR300 GT320 GW624 GY328 HN340 HR191
HT332 HU348 ID360 IE372 IL376 IN356 IQ368 IR364 IS352 IT380 JM388 JO400 JP392 KE404 KG417 KH116 KP408 KR410 KW414 KZ398 LA418 LB422 LK144
LR430 LS426 LT440 LU442 LV428 LY434 MA504 MD498 ME499 MG450 MK807 ML466 MM104 MN496 MR478 MW454 MX484 MY458 MZ508 NA516 NC540 NE562 NG566
NI558 NL528 NO578 NP524 NZ554 OM512 PA591 PE604 PG598 PH608 PK586 PL616 PR630 PS275 PT620 PY600 QA634 RO642 RS688 RU643 RW646 SA682 SB090
SD729 SE752 SI705 SK703 SL694 SN686 SO706 SR740 SS728 SV222 SY760 SZ748 TD148 TF260 TG768 TH764 TJ762 TL626 TM795 TN788 TR792 TT780 TW158
TZ834 UA804 UG800 US840 UY858 UZ860 VE862 VN704 VU548 YE887 ZA710 ZM894 ZW716
"""

#: Cities on islands that the outlines leave out though they draw the country, and one in Somaliland, which they draw apart.
NOT_DRAWN = {"Naha", "Las Palmas", "Palma", "Batam", "Hargeisa"}

#: Continents as boxes (west, south, east, north) that hold nothing of another: enough to see that none is left out.
CONTINENTS = {
    "Africa": (-18, -35, 33, 30),
    "Asia": (60, -11, 146, 55),
    "Europe": (-10, 37, 26, 70),
    "North America": (-125, 15, -60, 60),
    "South America": (-82, -56, -34, 10),
    "Oceania": (113, -48, 180, -12),
}

Ring = list[tuple[float, float]]


@pytest.fixture(scope="module")
def outlines() -> dict[str, list[Ring]]:
    """The rings of every country that Natural Earth draws, by ISO 3166-1 alpha-2 code."""
    if not NATURAL_EARTH.is_file():
        pytest.skip(f"{NATURAL_EARTH} is not there: the public data sets are kept beside the project")
    topology = json.loads(NATURAL_EARTH.read_text(encoding="utf-8"))
    (sx, sy), (tx, ty) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs: list[Ring] = []
    for arc in topology["arcs"]:  # TopoJSON: each point is the difference from the one before
        x = y = 0
        points = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            points.append((x * sx + tx, y * sy + ty))
        arcs.append(points)
    code = {word[2:]: word[:2] for word in NUMERIC.split()}
    found: dict[str, list[Ring]] = {}
    for shape in topology["objects"]["countries"]["geometries"]:
        if shape.get("id") in code:
            polygons = [shape["arcs"]] if shape["type"] == "Polygon" else shape["arcs"]
            rings = [
                [point for index in ring for point in (arcs[index] if index >= 0 else arcs[~index][::-1])] for p in polygons for ring in p
            ]
            found[code[shape["id"]]] = rings
    return found


def inside(lon: float, lat: float, rings: list[Ring]) -> bool:
    """Whether a point is inside the rings, by the even-odd rule."""
    odd = False
    for ring in rings:
        for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if (y1 > lat) != (y2 > lat) and lon < x1 + (lat - y1) / (y2 - y1) * (x2 - x1):
                odd = not odd
    return odd


def nearest_km(lon: float, lat: float, rings: list[Ring]) -> float:
    """Distance to the nearest segment of the rings, on a plane true to scale at the point."""
    kx, ky = 111.32 * math.cos(math.radians(lat)), 110.57
    best = math.inf
    for ring in rings:
        for (x1, y1), (x2, y2) in pairwise(ring):
            ax, ay, bx, by = (x1 - lon) * kx, (y1 - lat) * ky, (x2 - lon) * kx, (y2 - lat) * ky
            length = (bx - ax) ** 2 + (by - ay) ** 2
            t = max(0.0, min(1.0, -(ax * (bx - ax) + ay * (by - ay)) / length)) if length else 0.0
            best = min(best, math.hypot(ax + t * (bx - ax), ay + t * (by - ay)))
    return best


def test_the_fleet_is_large_and_on_every_continent() -> None:
    """At least 350 PoPs, at least 20 on each of five continents and ten in Oceania."""
    pops = load().pops
    assert len(pops) >= 350
    counts = {
        name: sum(west <= pop.lon <= east and south <= pop.lat <= north for pop in pops)
        for name, (west, south, east, north) in CONTINENTS.items()
    }
    assert all(number >= (10 if name == "Oceania" else 20) for name, number in counts.items()), counts


def test_no_id_of_the_first_fleet_is_gone() -> None:
    """Measurements are kept by site id: an id that was given stays."""
    inventory = load()
    assert len(FIRST_FLEET.split()) == 67
    assert [name for name in FIRST_FLEET.split() if name not in inventory.sites or inventory.sites[name].kind != "pop"] == []


def test_every_pop_says_what_it_has_and_that_it_is_an_assumption() -> None:
    """Ids are three letters as airports have them, node classes and attachment are given, the source claims no one's network."""
    inventory = load()
    assert all(re.fullmatch(r"[a-z]{3}", pop.id) for pop in inventory.pops)
    assert all(inventory.node_classes[pop.id] for pop in inventory.pops)
    assert inventory.attachment.keys() == {pop.id for pop in inventory.pops}
    assert set(inventory.attachment.values()) == {"backbone", "transit"}
    with (BUILT_IN / "pops.csv").open(encoding="utf-8", newline="") as file:
        assert all("reference fleet (assumption)" in row["source"] for row in csv.DictReader(file))


def test_pops_stand_in_cities_of_their_own() -> None:
    """No two PoPs bear the same city, nor stand in the same place."""
    pops = load().pops
    assert len({(pop.metro, pop.country) for pop in pops}) == len(pops)
    assert [(a.id, b.id) for a, b in combinations(pops, 2) if abs(a.lat - b.lat) < 0.1 and great_circle_km(a, b) < 5] == []


def test_metros_are_many_and_each_is_there_once() -> None:
    """At least 500 metros; no name twice in a country, no two of one country within 12 km of each other."""
    inventory = load()
    metros = inventory.metros
    assert len(metros) >= 500
    assert len({(metro.name, metro.country) for metro in metros}) == len(metros)
    near = [
        (a.id, b.id)
        for a, b in combinations(metros, 2)
        if a.country == b.country and abs(a.lat - b.lat) < 0.2 and great_circle_km(a, b) < 12
    ]
    assert near == []
    assert len({metro.country for metro in metros}) >= 150


def test_people_are_plausible() -> None:
    """Tokyo is the largest; together they hold about as many as the UN counts in cities of a million or more (1.7e9 in 2018)."""
    population = load().population
    assert max(population, key=population.__getitem__) == "metro:tokyo"
    assert min(population.values()) >= 10_000
    assert 1.5e9 < sum(population.values()) < 2.2e9


def test_every_site_lies_in_its_country(outlines: dict[str, list[Ring]]) -> None:
    """Every PoP, region and metro is inside its country's outline or within 50 km of it (the outlines are that coarse)."""
    sites = [site for site in load().sites.values() if site.country in outlines and site.metro not in NOT_DRAWN]
    assert len(sites) > 1200
    far = []
    for site in sites:
        rings = outlines[site.country or ""]
        if not inside(site.lon, site.lat, rings) and (km := nearest_km(site.lon, site.lat, rings)) > 50:
            far.append((site.id, site.country, round(km)))
    assert far == []
