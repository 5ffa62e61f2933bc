"""Lines up a chart at values of x, with a word each.

Plotly's `add_vline` looks through all that is in a figure for every line, and takes the time of the rest of a chart together; these are
handed to `update_layout` at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["uprights"]


def uprights(at: Iterable[tuple[float, str]], line: Mapping[str, Any], *, above: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Shapes and annotations of a layout: a line at each x of (x, word), over the whole height of the first row.

    above   the word stands over the end of its line, else beside it
    """
    where = {"xanchor": "center", "yanchor": "bottom"} if above else {"xanchor": "left", "yanchor": "top"}
    marked = list(at)
    return {
        "shapes": [
            {"type": "line", "xref": "x", "yref": "y domain", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": dict(line)} for x, _ in marked
        ],
        "annotations": [
            {"x": x, "y": 1, "xref": "x", "yref": "y domain", "text": word, "showarrow": False, "font": {"size": 11}} | where
            for x, word in marked
        ],
    }
