"""The heat map of pairs of sites: from link estimates to the cells the canvas draws, and the cell that was clicked."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st

from app import metrics, text
from app.theme import Theme, gradient, scale_of
from records.link import LinkEstimate
from records.place import Site
from records.units import ms

__all__ = ["HTML", "SCRIPTS", "Grid", "draw", "grid", "heat_spec"]

_STEPS = 254
_HERE = Path(__file__).parent
#: One script of several files, each for one thing.
SCRIPTS = ("canvas.js", "heatmap_draw.js", "heatmap.js")


@dataclass(frozen=True, slots=True)
class Grid:
    """Sites down and across, and for each pair the link or None, row by row."""

    rows: tuple[Site, ...]
    columns: tuple[Site, ...]
    cells: tuple[LinkEstimate | None, ...]

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def known(self) -> int:
        """How many cells hold a link."""
        return sum(cell is not None for cell in self.cells)


def grid(sites: Sequence[Site], links: Sequence[LinkEstimate], row_kind: str, column_kind: str) -> Grid:
    """The pairs of two kinds of sites (``pop``, ``region``, ``metro`` or ``any``), only sites that have a link, in reading order.

    Grouped by cloud, inside a group from west to east: neighbours on Earth are neighbours on the grid. Unordered, a matrix is noise.
    """
    sources = {link.src for link in links}
    targets = {link.dst for link in links}
    order = list(text.GROUPS)

    def side(kind: str, present: set[str]) -> tuple[Site, ...]:
        chosen = [site for site in sites if site.id in present and kind in ("any", site.kind)]
        return tuple(sorted(chosen, key=lambda s: (order.index(text.group_of(s)), s.lon, s.id)))

    rows, columns = side(row_kind, sources), side(column_kind, targets)
    pairs = metrics.by_pair(links)
    return Grid(rows, columns, tuple(pairs.get((row.id, column.id)) for row in rows for column in columns))


def heat_spec(table: Grid, metric: metrics.Metric, theme: Theme) -> dict[str, Any]:
    """Everything the canvas needs, JSON-ready. Level 0 is "no data"; 1..254 are steps of the scale."""
    numbers = [None if link is None else metrics.value(metric, link) for link in table.cells]
    known = [number for number in numbers if number is not None]
    low = metric.span[0] if metric.span[0] is not None else min(known, default=0.0)
    high = metric.span[1] if metric.span[1] is not None else _round_up(max(known, default=1.0))
    levels = bytes(0 if number is None else 1 + _step(number, low, high) for number in numbers)
    texts = ["" if number is None else _short(metric, number) for number in numbers]
    return {
        "rows": [{"id": site.id, "label": site.id} for site in table.rows],
        "columns": [{"id": site.id, "label": _column_label(site)} for site in table.columns],
        "row_groups": _groups(table.rows),
        "column_groups": _groups(table.columns),
        "levels": base64.b64encode(levels).decode(),
        "palette": base64.b64encode(gradient(scale_of(theme, metric.scale), _STEPS)).decode(),
        "texts": texts,
        "notes": [_note(link, metric) for link in table.cells],
        "self": [int(row.id == column.id) for row in table.rows for column in table.columns],
        "title": metric.title,
        "unit": "" if metric.name in ("inflation", "loss", "age") else f" {metric.unit}",
        "low": _end(metric, low, "≤ " if metric.span[0] not in (0, None) else ""),
        "high": _end(metric, high, "≥ " if metric.span[1] is not None else ""),
        "font": '"Source Sans", "Source Sans Pro", sans-serif',
        "alt": f"Heat map of {metric.title}: {len(table.rows)} rows, {len(table.columns)} columns, {len(known)} of {len(table)} known. "
        "Arrow keys go from cell to cell, Enter opens the pair.",
        "colours": {key: getattr(theme, key) for key in ("page", "text", "muted", "line", "accent", "no_data")},
    }


def _step(number: float, low: float, high: float) -> int:
    if high <= low:
        return 0
    return round(min(1.0, max(0.0, (number - low) / (high - low))) * (_STEPS - 1))


def _round_up(number: float) -> float:
    """The next number that reads well above a maximum.

    >>> _round_up(287.3), _round_up(0.34), _round_up(0)
    (300.0, 0.35, 1.0)
    """
    if number <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(number)) / 2
    return round(math.ceil(number / unit - 1e-9) * unit, 9)


def _short(metric: metrics.Metric, number: float) -> str:
    if metric.unit == "ms":
        return f"{number:.0f}" if number >= 10 else f"{number:.1f}" if number >= 1 else f"{number:.2f}"
    return metric.write(number)


def _end(metric: metrics.Metric, number: float, sign: str) -> str:
    return f"{sign}{number:g} ms" if metric.unit == "ms" else f"{sign}{metric.write(number)}"


def _note(link: LinkEstimate | None, metric: metrics.Metric) -> str:
    if link is None:
        return ""
    parts = [text.MEDIUM_TITLES.get(link.medium, link.medium)]
    if metric.name != "p50":
        parts.append(f"p50 {text.milliseconds(ms(link.rtt_p50_ns))}")
    if link.fibre_floor_ns is not None:
        parts.append(f"floor {text.milliseconds(ms(link.fibre_floor_ns))}")
    if link.gate != "ok":
        parts.append(f"kept out of routes: {text.GATE_TITLES[link.gate]}")
    return " · ".join(parts)


def _column_label(site: Site) -> str:
    return site.id.partition(":")[2] or site.id


def _groups(sites: Sequence[Site]) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    for at, site in enumerate(sites):
        name = text.group_of(site)
        if not groups or groups[-1]["name"] != name:
            groups.append({"name": name, "from": at, "to": at})
        groups[-1]["to"] = at + 1
    return groups


HTML = """<div class="heat"><canvas class="cells" tabindex="0" role="application" aria-label="Heat map"></canvas>
<div class="tip" aria-live="polite"></div>
<div class="legend"><span class="title"></span><span class="low"></span>
<canvas class="bar" aria-hidden="true"></canvas><span class="high"></span>
<span class="none"></span><span>no data</span></div></div>"""


@lru_cache(maxsize=1)
def _component() -> Any:
    return st.components.v2.component(
        "isochrone_heatmap",
        html=HTML,
        css=(_HERE / "heatmap.css").read_text("utf-8"),
        js="\n".join((_HERE / name).read_text("utf-8") for name in SCRIPTS),
    )


def draw(spec: Mapping[str, Any], key: str) -> tuple[str, str] | None:
    """Put the heat map on the page; the (row, column) that was clicked just now, else None."""
    cell = _component()(data=dict(spec), key=key, on_cell_change=lambda: None).cell
    return (str(cell[0]), str(cell[1])) if cell else None
