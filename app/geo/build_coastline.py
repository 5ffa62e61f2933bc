"""Make land.json and borders.json from the npm package world-atlas: `python -m app.geo.build_coastline PACKAGE`.

PACKAGE is the unpacked package (the folder with land-110m.json). world-atlas holds Natural Earth as TopoJSON whose
rings run on across the antimeridian; a flat map needs them cut there, and Antarctica closed along the pole.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Point = tuple[float, float]

#: The longest step along the pole or the antimeridian, in degrees, so that no segment spans half the map.
STEP_DEG = 60.0


def arcs_of(topology: dict[str, Any]) -> list[list[Point]]:
    """The arcs of a quantised topology in degrees (TopoJSON 1.0: delta-encoded whole numbers, scaled and moved)."""
    (scale_x, scale_y), (move_x, move_y) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:
        x = y = 0
        points = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            points.append((x * scale_x + move_x, y * scale_y + move_y))
        arcs.append(points)
    return arcs


def ring_of(indices: Iterable[int], arcs: list[list[Point]]) -> list[Point]:
    """The points of a ring given by arc numbers; ~i is arc i backwards, and arcs share their end points."""
    ring: list[Point] = []
    for index in indices:
        points = arcs[index] if index >= 0 else arcs[~index][::-1]
        ring.extend(points[1:] if ring else points)
    return ring


def polygons(geometry: dict[str, Any]) -> Iterator[list[list[int]]]:
    """Every polygon of a geometry as lists of arc numbers, one list a ring."""
    if geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from polygons(part)
    elif geometry["type"] == "Polygon":
        yield geometry["arcs"]
    elif geometry["type"] == "MultiPolygon":
        yield from geometry["arcs"]


def unrolled(ring: list[Point]) -> list[Point]:
    """The ring with longitudes that never jump, so that they may leave ±180°; open (without the repeated last point).

    A ring that goes once around the pole is closed along that pole.
    """
    lon, lat = ring[0]
    points = [(lon, lat)]
    for next_lon, next_lat in ring[1:]:
        lon += (next_lon - lon + 180) % 360 - 180
        points.append((lon, next_lat))
    turn = points[-1][0] - points[0][0]
    if abs(turn) < 180:
        return points[:-1]
    pole = -90.0 if sum(lat for _, lat in points) < 0 else 90.0
    return [*points, (points[-1][0], pole), (points[0][0], pole)]


def cut(ring: list[Point], meridian: float, side: int) -> list[list[Point]]:
    """The parts of an open, unrolled ring on one side of a meridian (side 1: east, -1: west), each an open ring.

    The ring crosses the meridian an even number of times; along it, inside and outside take turns, so the crossings
    sorted by latitude are joined in pairs.
    """
    inside = [side * (lon - meridian) >= 0 for lon, _ in ring]
    if all(inside):
        return [ring]
    if not any(inside):
        return []
    start = next(i for i in range(len(ring)) if inside[i] and not inside[i - 1])
    chains: list[list[Point]] = []
    for offset in range(len(ring)):
        i = (start + offset) % len(ring)
        if inside[i] and not inside[i - 1]:
            chains.append([_crossing(ring[i - 1], ring[i], meridian)])
        if inside[i]:
            chains[-1].append(ring[i])
            if not inside[(i + 1) % len(ring)]:
                chains[-1].append(_crossing(ring[i], ring[(i + 1) % len(ring)], meridian))
    ends = sorted(((chain[at][1], number, at) for number, chain in enumerate(chains) for at in (0, -1)), key=lambda end: end[0])
    partner = {ends[i][1:]: ends[i ^ 1][1:] for i in range(len(ends))}
    rings = []
    left = set(range(len(chains)))
    while left:
        number, entry, points = min(left), 0, list[Point]()
        while number in left:
            left.remove(number)
            points.extend(chains[number] if entry == 0 else chains[number][::-1])
            number, entry = partner[number, -1 if entry == 0 else 0]
        rings.append(points)
    return rings


def _crossing(a: Point, b: Point, meridian: float) -> Point:
    share = (meridian - a[0]) / (b[0] - a[0])
    return (meridian, a[1] + share * (b[1] - a[1]))


def flat(ring: list[Point]) -> Iterator[list[Point]]:
    """The parts of a ring on a map from -180° to 180°, each an open ring with longitudes in that range."""
    points = unrolled(ring)
    low, high = min(lon for lon, _ in points), max(lon for lon, _ in points)
    for turn in range(round(low / 360), round(high / 360) + 1):
        west, east = turn * 360 - 180.0, turn * 360 + 180.0
        for part in cut(points, west, 1):
            for piece in cut(part, east, -1):
                yield [(lon - turn * 360, lat) for lon, lat in piece]


def tidy(line: list[Point], *, closed: bool) -> list[list[float]]:
    """Rounded to 0.01° (about 1 km), without repeated points, with long steps divided."""
    points: list[Point] = []
    for lon, lat in [*line, line[0]] if closed else line:
        point = (round(lon, 2) + 0.0, round(lat, 2) + 0.0)
        if points and point == points[-1]:
            continue
        if points:
            last = points[-1]
            steps = int(max(abs(point[0] - last[0]), abs(point[1] - last[1])) // STEP_DEG) + 1
            points.extend(
                (round(last[0] + (point[0] - last[0]) * k / steps, 2), round(last[1] + (point[1] - last[1]) * k / steps, 2))
                for k in range(1, steps)
            )
        points.append(point)
    return [list(point) for point in points]


def land_of(topology: dict[str, Any]) -> list[list[list[float]]]:
    """Every ring of the topology's object `land`, flat and closed; what rounding shrinks to a line is left out."""
    arcs = arcs_of(topology)
    rings = (ring_of(indices, arcs) for polygon in polygons(topology["objects"]["land"]) for indices in polygon)
    made = (tidy(part, closed=True) for ring in rings for part in flat(ring))
    return [ring for ring in made if len(ring) >= 4]


def borders_of(topology: dict[str, Any]) -> list[list[list[float]]]:
    """The arcs that two countries of the topology's object `countries` share."""
    uses: Counter[int] = Counter()
    for geometry in topology["objects"]["countries"]["geometries"]:
        uses.update({i if i >= 0 else ~i for polygon in polygons(geometry) for ring in polygon for i in ring})
    arcs = arcs_of(topology)
    made = (tidy(arcs[index], closed=False) for index, count in sorted(uses.items()) if count > 1)
    return [line for line in made if len(line) >= 2]


def main(package: Path, out: Path) -> None:
    """Write land.json and borders.json beside this file."""
    land = land_of(json.loads((package / "land-110m.json").read_text(encoding="utf-8")))
    borders = borders_of(json.loads((package / "countries-110m.json").read_text(encoding="utf-8")))
    for name, lines in (("land.json", land), ("borders.json", borders)):
        text = json.dumps(lines, separators=(",", ":"))
        (out / name).write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(f"{name}: {len(lines)} lines, {sum(map(len, lines))} points, {len(text) / 1000:.0f} kB\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m app.geo.build_coastline PACKAGE  (the unpacked npm package world-atlas)")
    main(Path(sys.argv[1]), Path(__file__).parent)
