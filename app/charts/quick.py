"""A quick chart of any query result: what can be drawn is found from the types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from app.theme import Theme

__all__ = ["POINT_LIMIT", "axes", "figure", "usual_kind"]

#: More points than this say nothing more and cost a second of drawing.
POINT_LIMIT = 5_000


def _is_number(kind: str) -> bool:
    return kind.startswith(("int", "uint", "float", "double", "decimal", "halffloat"))


def _is_time(kind: str) -> bool:
    return kind.startswith(("timestamp", "date"))


def axes(table: Any) -> tuple[list[str], list[str]] | None:
    """(columns to go across, columns to go up) of an Arrow table: times first, then words, then numbers; numbers go up.

    None when there is nothing to draw: no number, or only one column.
    """
    kinds = {field.name: str(field.type) for field in table.schema}
    up = [name for name, kind in kinds.items() if _is_number(kind)]
    if not up or len(kinds) < 2:
        return None
    flat = [name for name, kind in kinds.items() if _is_number(kind) or _is_time(kind) or kind in ("string", "large_string", "string_view")]
    across = sorted(flat, key=lambda name: 0 if _is_time(kinds[name]) else 2 if _is_number(kinds[name]) else 1)
    return across, up


def usual_kind(table: Any, x: str) -> str:
    """Line over time, bars over words, points over numbers."""
    kind = str(table.schema.field(x).type)
    return "line" if _is_time(kind) else "points" if _is_number(kind) else "bar"


def figure(table: Any, x: str, y: Sequence[str], kind: str, theme: Theme) -> go.Figure:
    """Columns over a column, the first POINT_LIMIT rows of it."""
    cut = table.slice(0, POINT_LIMIT).to_pydict()
    if kind == "line":
        order = sorted((i for i, at in enumerate(cut[x]) if at is not None), key=lambda i: cut[x][i])
        cut = {name: [column[i] for i in order] for name, column in cut.items()}
    drawn = go.Figure()
    for name in y:
        if kind == "bar":
            drawn.add_trace(go.Bar(x=cut[x], y=cut[name], name=name))
        else:
            drawn.add_trace(go.Scatter(x=cut[x], y=cut[name], name=name, mode="lines" if kind == "line" else "markers"))
    drawn.update_layout(
        height=340,
        margin={"l": 8, "r": 8, "t": 16, "b": 8},
        xaxis={"title": x},
        yaxis={"title": y[0] if len(y) == 1 else "", "gridcolor": theme.line},
        showlegend=len(y) > 1,
    )
    return drawn
