"""The map of links: from sites and link estimates to what the canvas draws, and what was clicked back.

The coastline comes from app.geo, so nothing is fetched. Great circles are computed here; the canvas only draws.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from app import metrics, projection, text
from app.identity import by_identity
from app.theme import Theme
from records.link import LinkEstimate
from records.place import Site
from records.units import ms

__all__ = [
    "HTML",
    "LINK_LIMIT",
    "Dot",
    "DrawnLink",
    "Legend",
    "MapClick",
    "draw",
    "encoded",
    "link_layer",
    "map_spec",
    "metric_legend",
    "route_layer",
    "script",
    "styles",
]

#: More great circles than this are a hairball in any renderer.
LINK_LIMIT = 150

#: The inhabited world in map coordinates: x, y from the top left to the bottom right corner.
_BOX = tuple(
    round(float(n), 4)
    for n in (
        projection.robinson(np.array([-180.0]), np.array([0.0]))[0][0],
        projection.robinson(np.array([0.0]), np.array([84.0]))[1][0],
        projection.robinson(np.array([180.0]), np.array([0.0]))[0][0],
        projection.robinson(np.array([0.0]), np.array([-58.0]))[1][0],
    )
)
_WIDTHS = (1.0, 1.2, 1.6, 2.1, 2.7)
_RINGS_MS = (25, 50, 100, 150)
_HERE = Path(__file__).parent
#: One script of several files, each for one thing.
_SCRIPTS = ("canvas.js", "netmap_draw.js", "netmap_pick.js", "netmap.js")


@dataclass(frozen=True, slots=True)
class DrawnLink:
    """One great circle on the map: both directions of a pair, or a leg of a route."""

    src: str
    dst: str
    colour: str
    width: float
    tip: list[str | list[str]]
    dash: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """How one site is painted instead of by its kind: a circle of `size` pixels across half, filled or a ring; more rows for its tip."""

    colour: str
    size: float
    tip: list[list[str]] = field(default_factory=list)
    ring: bool = False


@dataclass(frozen=True, slots=True)
class MapClick:
    """What was clicked: a site (``""`` is open water, so no site), or a link; None where not."""

    site: str | None = None
    link: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Legend:
    """What the lines mean: a title and items of colour, width, text, dash; or of dots, where an item has a `dot` size (a hollow
    one where it says `ring`)."""

    title: str = ""
    items: list[dict[str, Any]] = field(default_factory=list)


def link_layer(
    links: Sequence[LinkEstimate], metric: metrics.Metric, theme: Theme, *, focus: str | None = None, limit: int = LINK_LIMIT
) -> tuple[list[DrawnLink], int]:
    """The links to draw, worst first, one for each pair of sites (its worse direction gives the colour), and how many there are in all.

    With a focus only links of that site count. Links whose number is not known are not drawn: unknown is not good.
    """
    worst = metrics.worst_first(links, metric)
    directions: dict[frozenset[str], list[LinkEstimate]] = {}
    for link in worst if focus is None else _by_end(worst).get(focus, ()):
        if link.src != link.dst:
            directions.setdefault(frozenset((link.src, link.dst)), []).append(link)
    drawn = []
    for pair in list(directions.values())[:limit]:
        number = metrics.value(metric, pair[0])
        assert number is not None
        grade = metrics.class_of(metric, number)
        drawn.append(DrawnLink(pair[0].src, pair[0].dst, theme.classes[grade], _WIDTHS[grade], _tip(pair)))
    return drawn, len(directions)


@by_identity(16)
def _by_end(links: Sequence[LinkEstimate]) -> dict[str, list[LinkEstimate]]:
    """The links of each site, in their order."""
    found: dict[str, list[LinkEstimate]] = {}
    for link in links:
        for end in {link.src, link.dst}:
            found.setdefault(end, []).append(link)
    return found


def _tip(pair: Sequence[LinkEstimate]) -> list[str | list[str]]:
    rows: list[str | list[str]] = [f"{pair[0].src} ↔ {pair[0].dst}"]
    rows += [[f"{link.src} → {link.dst}", text.milliseconds(ms(link.rtt_p50_ns))] for link in pair]
    worst = pair[0]
    rows.append(["fibre floor", text.milliseconds(ms(worst.fibre_floor_ns))])
    rows.append(["inflation", text.inflation(metrics.METRICS["inflation"].read(worst))])
    if worst.loss_ratio is not None:
        rows.append(["loss", text.percent(worst.loss_ratio)])
    rows.append(["medium", text.MEDIUM_TITLES.get(worst.medium, worst.medium)])
    if worst.age_s is not None:
        rows.append(["newest sample", f"{text.age(worst.age_s)} ago"])
    return rows


def route_layer(legs: Iterable[tuple[str, str]], theme: Theme, *, modelled: Iterable[tuple[str, str]] = ()) -> list[DrawnLink]:
    """The legs of a route in one colour; what is modelled is dashed."""
    guessed = set(modelled)
    return [
        DrawnLink(
            src, dst, theme.accent, 2.6, [f"{src} → {dst}", "modelled" if (src, dst) in guessed else "measured"], (src, dst) in guessed
        )
        for src, dst in legs
    ]


def metric_legend(metric: metrics.Metric, theme: Theme) -> Legend:
    """Colour and width of each class in words."""
    titles = metrics.class_titles(metric)
    return Legend(
        metric.title, [{"colour": c, "width": w, "text": t, "dash": False} for c, w, t in zip(theme.classes, _WIDTHS, titles, strict=True)]
    )


def map_spec(
    sites: Mapping[str, Site],
    drawn: Sequence[DrawnLink],
    theme: Theme,
    *,
    legend: Legend | None = None,
    focus: str | None = None,
    failed: Iterable[str] = (),
    only_linked: bool = False,
    dots: Mapping[str, Dot] | None = None,
    height: int = 440,
    alt: str = "World map of measured links",
) -> dict[str, Any]:
    """Everything the canvas needs, JSON-ready. Links whose ends are not on the map are left out.

    focus draws isochrones in fibre around that site; only_linked leaves out sites without a drawn link; dots paints sites by id.
    """
    dots = dots or {}
    drawn = [link for link in drawn if link.src in sites and link.dst in sites]
    degree: dict[str, int] = {}
    for link in drawn:
        for end in (link.src, link.dst):
            degree[end] = degree.get(end, 0) + 1
    lost = set(failed)
    shown = [site for site in sites.values() if not only_linked or site.id in degree or site.id == focus or site.id in lost]
    ways: list[bytes] = []
    sizes: list[int] = []
    index = {site.id: i for i, site in enumerate(shown)}
    plain = not (dots or lost or only_linked)
    links = []
    for link in drawn:
        way, points = _way(sites[link.src], sites[link.dst])
        links.append(
            {"src": link.src, "dst": link.dst, "a": index[link.src], "b": index[link.dst], "first": len(sizes), "pieces": len(points)}
            | {"colour": link.colour, "width": link.width, "dash": link.dash, "tip": link.tip}
        )
        ways.append(way)
        sizes += points
    sphere, land, borders = _outlines()
    centre = sites.get(focus or "")
    legend = legend or Legend()
    return {
        "box": _BOX,
        "sphere": sphere,
        "land": land,
        "borders": borders,
        "paths": {"xy": base64.b64encode(b"".join(ways)).decode(), "sizes": sizes},
        "rings": [{"text": f"{rtt} ms", "line": projection.packed(projection.isochrone(centre, rtt))} for rtt in _RINGS_MS]
        if centre
        else [],
        "sites": _plain(sites) if plain else [_site(site, site.id in lost, dots.get(site.id)) for site in shown],
        "links": links,
        "legend": {
            "title": legend.title,
            "items": legend.items,
            "marks": _marks([site for site in shown if site.id not in dots], theme, centre),
        },
        "focus": focus if centre else None,
        "height": height,
        "alt": f"{alt}: {text.plural(len(shown), 'site')}, {text.plural(len(links), 'link')}. "
        "Arrow keys go from site to site, Enter focuses, plus and minus zoom.",
        "font": '"Source Sans", "Source Sans Pro", sans-serif',
        "colours": {
            key: getattr(theme, key)
            for key in ("page", "text", "muted", "line", "ocean", "land", "border", "pop", "region", "accent", "warning")
        },
    }


@lru_cache(maxsize=16_384)
def _way(a: Site, b: Site) -> tuple[bytes, tuple[int, ...]]:
    """The great circle between two sites, projected: float32 x, y pairs, and the points of each piece. Sites do not move."""
    return projection.flat(projection.great_circle(a, b))


@lru_cache(maxsize=4096)
def _spot(site: Site) -> tuple[float, float, str, tuple[str | tuple[str, ...], ...]]:
    """What never changes of a site: its place on the map, its label, the head of its tip."""
    x, y = projection.robinson(np.array([site.lon]), np.array([site.lat]))
    label = site.id if site.kind == "pop" else site.id.partition(":")[2] or site.id
    where = ", ".join(part for part in (site.metro if site.metro != site.name else None, site.country) if part)
    group = text.group_of(site).removesuffix("s") if site.kind != "region" else text.group_of(site)
    tip = (site.id, (group, site.name), *((("place", where),) if where else ()))
    return float(x[0]), float(y[0]), label, tip


def _site(site: Site, failed: bool = False, dot: Dot | None = None) -> dict[str, Any]:
    """A site as the canvas takes it; the canvas counts its links and adds them to the tip."""
    x, y, label, head = _spot(site)
    tip: list[Any] = list(head)
    if dot is not None:
        tip += dot.tip
    if failed:
        tip.append(["state", "failed in this scenario"])
    return {
        "id": site.id,
        "kind": site.kind,
        "label": label,
        "x": x,
        "y": y,
        "failed": failed,
        "dot": None if dot is None else {"colour": dot.colour, "size": dot.size, "ring": dot.ring},
        "tip": tip,
    }


@by_identity(16)
def _plain(sites: Mapping[str, Site]) -> list[dict[str, Any]]:
    """All sites of a map on which none stands out; a mapping that is drawn again is not looked at again."""
    return [_site(site) for site in sites.values()]


def _marks(sites: Iterable[Site], theme: Theme, focus: Site | None) -> list[dict[str, str]]:
    kinds = {site.kind for site in sites}
    marks = [
        {"shape": kind, "colour": colour, "text": words}
        for kind, colour, words in (("pop", theme.pop, "PoP"), ("region", theme.region, "cloud region"), ("metro", theme.region, "metro"))
        if kind in kinds
    ]
    if focus is not None:
        marks.append({"shape": "ring", "colour": theme.accent, "text": f"fibre isochrone of {focus.id}"})
    return marks


@lru_cache(maxsize=1)
def _outlines() -> tuple[dict[str, object], dict[str, object], dict[str, object]]:
    """The edge of the map, land and borders, projected and packed once per process."""
    from app import geo

    land = [np.asarray(ring, dtype=np.float64) for ring in geo.land()]
    borders = [np.asarray(line, dtype=np.float64) for line in geo.borders()]
    pieces = [piece for line in borders for piece in projection.cut_at_antimeridian(line)]
    return projection.packed([projection.outline()]), projection.packed(land), projection.packed(pieces)


#: What the script finds its element to hold.
HTML = """<div class="map"><canvas tabindex="0" role="application" aria-label="World map of measured links"></canvas>
<div class="tip" aria-live="polite"></div>
<div class="legend"><div class="keys"></div>
<div class="zoom"><button type="button" data-zoom="1.5" aria-label="Zoom in">+</button>
<button type="button" data-zoom="0.667" aria-label="Zoom out">−</button>
<button type="button" data-zoom="0" aria-label="Whole world">⤢</button></div></div></div>"""


@lru_cache(maxsize=1)
def _component() -> Any:
    return st.components.v2.component(
        "isochrone_netmap",
        html=HTML,
        css=styles(),
        js=script(),
    )


def styles() -> str:
    """The rules of the map's own element."""
    return (_HERE / "netmap.css").read_text("utf-8")


def script() -> str:
    """The map's script: a module whose one export draws what it is given."""
    return "\n".join((_HERE / name).read_text("utf-8") for name in _SCRIPTS)


def encoded(spec: Mapping[str, Any]) -> bytes:
    """A map as it goes to the browser: JSON. What many sessions look at is worth keeping in this form."""
    parts = (f"{json.dumps(name)}:{_text(value) if name in _SHARED else _json(value)}" for name, value in spec.items())
    return f"{{{','.join(parts)}}}".encode()


#: Parts of a map that many maps have in common, and their JSON.
_SHARED = {"sphere", "land", "borders", "sites"}


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


_text = by_identity(32)(_json)


def draw(spec: Mapping[str, Any] | bytes, key: str, *, on_site: Callable[[str], None] = lambda _: None) -> MapClick:
    """Put the map on the page, as it is or encoded; zoom and position outlive reruns while the key stays.

    on_site is called before the rerun with the site that was clicked (``""`` is open water), so it may set a widget.
    """

    def clicked() -> None:
        site = st.session_state[key].get("site")
        if site is not None:
            on_site(str(site))

    # As bytes: a mapping would be turned into JSON three times on every run, for its message and for its identity.
    data = spec if isinstance(spec, bytes) else encoded(spec)
    result = _component()(data=data, key=key, on_site_change=clicked, on_link_change=lambda: None)
    site, link = result.site, result.link
    return MapClick(site=site, link=(str(link[0]), str(link[1])) if link else None)
