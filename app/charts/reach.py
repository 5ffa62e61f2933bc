"""Who is reached how soon: the classes of the isochrone map, and the share of people against the time to first token."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import text
from app.charts.uprights import uprights
from app.components.netmap import Dot
from app.decisions import MODES, Reached
from app.theme import Theme

__all__ = ["CLASSES_MS", "class_of", "class_titles", "dot_of", "legend_items", "reach_figure", "reach_table", "share_within"]

#: The isochrones: upper bounds in ms of TTFT.
CLASSES_MS = (20.0, 50.0, 100.0, 200.0)
_DASHES = ("solid", "dash", "dot")
#: The dot of each class; who is not served has a shape of its own, since a colour more would be taken for a class.
_SIZES = (2.2, 2.5, 2.9, 3.4, 4.0)
_RING = 4.0


def class_of(ttft_ms: float) -> int:
    """The first isochrone that holds a metro, 0..4; the last is beyond all of them.

    >>> [class_of(t) for t in (12, 20, 20.1, 500)]
    [0, 0, 1, 4]
    """
    return bisect_left(CLASSES_MS, ttft_ms)


def class_titles() -> list[str]:
    """Each class in words.

    >>> class_titles()
    ['≤ 20 ms', '≤ 50 ms', '≤ 100 ms', '≤ 200 ms', '> 200 ms']
    """
    return [*(f"≤ {bound:g} ms" for bound in CLASSES_MS), f"> {CLASSES_MS[-1]:g} ms"]


def dot_of(ttft_ms: float | None, theme: Theme, tip: list[list[str]]) -> Dot:
    """A place on the map by its time to first token; None is nobody to serve it, and a ring."""
    if ttft_ms is None:
        return Dot(theme.warning, _RING, tip, ring=True)
    grade = class_of(ttft_ms)
    return Dot(theme.classes[grade], _SIZES[grade], tip)


def legend_items(theme: Theme, unserved: str) -> list[dict[str, Any]]:
    """What the dots of a map mean, and after them the ring: `unserved` is what it is called."""
    graded = zip(theme.classes, _SIZES, class_titles(), strict=True)
    items: list[dict[str, Any]] = [
        {"colour": colour, "width": 0, "dash": False, "dot": size, "text": words} for colour, size, words in graded
    ]
    return [*items, {"colour": theme.warning, "width": 0, "dash": False, "dot": _RING, "ring": True, "text": unserved}]


def share_within(found: Sequence[Reached], bound_ms: float, *, p95: bool = False) -> float | None:
    """The share of people, 0..1, whose first token comes within a bound; the unserved count as not. None without people."""
    people = sum(one.people for one in found)
    if not people:
        return None
    times = ((one.p95_ms if p95 else one.p50_ms, one.people) for one in found)
    return sum(count for time_ms, count in times if time_ms is not None and time_ms <= bound_ms) / people


def reach_figure(by_mode: Mapping[str, Sequence[Reached]], theme: Theme, *, p95: bool = False) -> go.Figure:
    """The share of all people (%) whose first token comes within a time, one line for each mode; the isochrones as lines up."""
    figure = go.Figure()
    colours = (theme.accent, theme.reverse, theme.muted)
    longest = CLASSES_MS[-1]
    for (mode, found), colour, dash in zip(by_mode.items(), colours, _DASHES, strict=False):
        people = sum(one.people for one in found) or 1.0
        known = sorted((time_ms, one.people) for one in found if (time_ms := one.p95_ms if p95 else one.p50_ms) is not None)
        if not known:
            continue
        times = np.array([time_ms for time_ms, _ in known])
        shares = np.cumsum([count for _, count in known]) / people * 100
        longest = max(longest, float(times[int(np.searchsorted(shares, 0.98 * shares[-1]))]))
        figure.add_trace(
            go.Scatter(
                x=times,
                y=shares,
                mode="lines",
                name=MODES[mode],
                line={"color": colour, "width": 2, "dash": dash, "shape": "hv"},
                hovertemplate=f"{MODES[mode]}: <b>%{{y:.1f}} %</b> of people within %{{x:.1f}} ms<extra></extra>",
            )
        )
    figure.update_layout(
        **uprights([(bound, f"{bound:g}") for bound in CLASSES_MS], {"color": theme.line, "width": 1}),
        height=300,
        margin={"l": 8, "r": 16, "t": 34, "b": 8},
        xaxis={"title": f"time to first token, {'p95' if p95 else 'median'} (ms)", "range": [0, longest * 1.05], "showgrid": False},
        yaxis={"title": "people (%)", "range": [0, 103], "gridcolor": theme.line, "zeroline": False},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="x",
    )
    return figure


def reach_table(by_mode: Mapping[str, Sequence[Reached]], titles: Mapping[str, str], *, p95: bool = False) -> dict[str, list[object]]:
    """Every metro with its time in each mode, most people first; the best mode is the least time."""
    rows = [dict(zip(by_mode, found, strict=True)) for found in zip(*by_mode.values(), strict=True)]
    rows.sort(key=lambda row: -next(iter(row.values())).people)
    table: dict[str, list[object]] = {
        "metro": [titles.get(next(iter(row.values())).metro, next(iter(row.values())).metro) for row in rows],
        "people": [next(iter(row.values())).people for row in rows],
    }
    for mode in by_mode:
        table[f"{mode}_ms"] = [row[mode].p95_ms if p95 else row[mode].p50_ms for row in rows]
        table[f"{mode}_at"] = [row[mode].served_at or text.UNKNOWN for row in rows]
    return table
