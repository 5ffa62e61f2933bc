"""One pair over time: percentile bands of the RTT, the fibre floor, and the loss below on the same axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.theme import Theme, rgba

__all__ = ["Series", "band_figure", "fitted", "is_empty", "runs", "series_of", "spacing"]

Columns = Mapping[str, Sequence[Any]]

#: Bands from the outside in: lower and upper column, opacity, name.
_BANDS = (("min_ms", "p5_ms", 0.10, ""), ("p5_ms", "p95_ms", 0.16, "p5 – p95"), ("p25_ms", "p75_ms", 0.34, "p25 – p75"))


@dataclass(frozen=True, slots=True)
class Series:
    """A ping series on a regular grid: bucket starts in ms since 1970, the bucket's width, columns as float arrays (NaN is unknown)."""

    at_ms: np.ndarray
    step_ms: float
    columns: dict[str, np.ndarray]


def _epoch_ms(at: datetime) -> float:
    return at.timestamp() * 1000


def series_of(columns: Columns) -> Series:
    """The columns of warehouse.queries.ping_series as arrays; None becomes NaN."""
    at_ms = np.array([_epoch_ms(at) for at in columns["bucket_at"]])
    step = float(at_ms[1] - at_ms[0]) if len(at_ms) > 1 else 60_000.0
    names = ("sent", "lost", "min_ms", "p5_ms", "p25_ms", "p50_ms", "p75_ms", "p95_ms", "max_ms")
    return Series(
        at_ms, step, {name: np.array([math.nan if number is None else number for number in columns[name]], dtype=float) for name in names}
    )


def is_empty(series: Series) -> bool:
    """Nothing was sent in the whole window."""
    return not np.nansum(series.columns["sent"]) > 0


def spacing(series: Series) -> int:
    """How many buckets lie between two that hold something, as a rule (the 75th percentile of the distances): 1 is every one.

    A bucket finer than the rounds of the probe makes every other one empty, and the line falls apart.
    """
    steps = np.diff(np.flatnonzero(series.columns["sent"] > 0))
    return int(np.percentile(steps, 75, method="higher")) if len(steps) else 1


def runs(known: Sequence[bool] | np.ndarray) -> list[tuple[int, int]]:
    """The stretches of True as [first, last).

    >>> runs([False, True, True, False, True])
    [(1, 3), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.asarray(known, dtype=bool), [False]]).astype(np.int8)))
    return list(itertools.pairwise(int(edge) for edge in edges))[::2]


def _band(x: np.ndarray, low: np.ndarray, high: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """A closed outline for each stretch where both bounds are known; a lone bucket is drawn as wide as it is."""
    xs: list[np.ndarray] = []
    ys: list[np.ndarray] = []
    for first, last in runs(~(np.isnan(low) | np.isnan(high))):
        at, lo, hi = x[first:last], low[first:last], high[first:last]
        if last - first == 1:
            at, lo, hi = at + np.array([-0.4, 0.4]) * step, np.repeat(lo, 2), np.repeat(hi, 2)
        xs += [at, at[::-1], at[:1], np.array([math.nan])]
        ys += [hi, lo[::-1], hi[:1], np.array([math.nan])]
    return (np.concatenate(xs), np.concatenate(ys)) if xs else (np.array([]), np.array([]))


def band_figure(
    series: Series,
    theme: Theme,
    *,
    floor_ms: float | None,
    from_floor: bool = True,
    throughput: Columns | None = None,
    inference: Columns | None = None,
    path_changes: Sequence[tuple[datetime, int, str]] = (),
    height: int = 470,
) -> go.Figure:
    """RTT bands with the median, the bucket's maximum, the fibre floor; loss below; throughput and TTFT below that where there are any.

    from_floor keeps the floor in view; without it the RTT's axis fits what was measured, so that the bands can be told apart.
    throughput has started_at, throughput_bps, direction; inference has started_at, ttft_ms, model. path_changes
    are (when, flow, path_hash), as app.charts.hops.change_times gives them: lines through all rows of the axis.
    """
    extra = [name for name, table in (("throughput", throughput), ("ttft", inference)) if table is not None and len(table["started_at"])]
    weights = [1.0, 0.2, *([0.3] * len(extra))]
    figure = make_subplots(rows=len(weights), cols=1, shared_xaxes=True, vertical_spacing=0.045, row_heights=weights)
    _rtt(figure, series, theme, floor_ms)
    if not from_floor:
        figure.update_yaxes(range=fitted(series), row=1, col=1)
    _loss(figure, series, theme)
    for row, name in enumerate(extra, start=3):
        if name == "throughput":
            assert throughput is not None
            _throughput(figure, throughput, theme, row)
        else:
            assert inference is not None
            _ttft(figure, inference, theme, row)
    _gaps(figure, series, theme)
    _paths(figure, path_changes, series, theme)
    figure.update_xaxes(
        type="date", showgrid=False, range=[series.at_ms[0], series.at_ms[-1] + series.step_ms] if len(series.at_ms) else None
    )
    figure.update_xaxes(title_text="time (UTC)", row=len(weights), col=1)
    figure.update_layout(
        height=height + 110 * len(extra),
        margin={"l": 8, "r": 8, "t": 26, "b": 8},
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        bargap=0.1,
    )
    return figure


def fitted(series: Series) -> list[float] | None:
    """The least and greatest RTT in ms with an eighth of their distance, at least 0.05 ms, to spare; None without any."""
    low, high = series.columns["min_ms"], series.columns["max_ms"]
    if np.isnan(low).all():
        return None
    least, most = float(np.nanmin(low)), float(np.nanmax(high))
    spare = max(0.05, (most - least) / 8)
    return [least - spare, most + spare]


def _rtt(figure: go.Figure, series: Series, theme: Theme, floor_ms: float | None) -> None:
    x, columns = series.at_ms + series.step_ms / 2, series.columns
    pairs = [*_BANDS, ("p95_ms", "max_ms", 0.10, "min – max")]
    for low, high, opacity, name in pairs:
        at, outline = _band(x, columns[low], columns[high], series.step_ms)
        figure.add_trace(
            go.Scatter(
                x=at,
                y=outline.astype(np.float32),
                fill="toself",
                mode="lines",
                line={"width": 0, "color": theme.accent},
                fillcolor=rgba(theme.accent, opacity),
                hoverinfo="skip",
                name=name,
                showlegend=bool(name),
                legendgroup=name or "min – max",
            ),
            row=1,
            col=1,
        )
    lone = all(last - first == 1 for first, last in runs(~np.isnan(columns["p50_ms"])))
    figure.add_trace(
        go.Scatter(
            x=x,
            y=columns["p50_ms"].astype(np.float32),
            mode="markers" if lone else "lines",
            marker={"size": 5, "color": theme.accent},
            line={"width": 1.8, "color": theme.accent},
            name="median",
            customdata=np.column_stack([columns[name] for name in ("min_ms", "p5_ms", "p25_ms", "p75_ms", "p95_ms", "max_ms")]).astype(
                np.float32
            ),
            hovertemplate="p50 <b>%{y:.2f} ms</b><br>p25–p75 %{customdata[2]:.2f} – %{customdata[3]:.2f}<br>"
            "p5–p95 %{customdata[1]:.2f} – %{customdata[4]:.2f}<br>min–max %{customdata[0]:.2f} – %{customdata[5]:.2f}<extra></extra>",
        ),
        row=1,
        col=1,
    )
    if floor_ms is not None and floor_ms > 0 and len(x):
        figure.add_trace(
            go.Scatter(
                x=[series.at_ms[0], series.at_ms[-1] + series.step_ms],
                y=[floor_ms, floor_ms],
                mode="lines",
                line={"width": 1.3, "color": theme.reverse, "dash": "dash"},
                name=f"fibre floor {floor_ms:.1f} ms",
                hoverinfo="skip",
            ),
            row=1,
            col=1,
        )
    figure.update_yaxes(title_text="RTT (ms)", row=1, col=1, gridcolor=theme.line, zeroline=False)


def _loss(figure: go.Figure, series: Series, theme: Theme) -> None:
    sent, lost = series.columns["sent"], series.columns["lost"]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(sent > 0, lost / sent * 100, np.nan)
    figure.add_trace(
        go.Bar(
            x=series.at_ms + series.step_ms / 2,
            y=share.astype(np.float32),
            width=series.step_ms * 0.9,
            marker={"color": theme.warning, "line": {"width": 0}},
            name="loss",
            showlegend=False,
            customdata=np.column_stack([np.nan_to_num(lost), np.nan_to_num(sent)]).astype(np.int32),
            hovertemplate="loss <b>%{y:.1f} %</b> (%{customdata[0]} of %{customdata[1]})<extra></extra>",
        ),
        row=2,
        col=1,
    )
    most = float(np.nanmax(share)) if np.isfinite(share).any() else 0.0
    figure.update_yaxes(
        title_text="loss (%)", row=2, col=1, range=[0, max(5.0, most * 1.15)], nticks=3, gridcolor=theme.line, zeroline=False
    )


def _throughput(figure: go.Figure, columns: Columns, theme: Theme, row: int) -> None:
    for direction, symbol in (("up", "triangle-up"), ("down", "triangle-down")):
        chosen = [i for i, way in enumerate(columns["direction"]) if way == direction and columns["throughput_bps"][i] is not None]
        if chosen:
            figure.add_trace(
                go.Scatter(
                    x=np.array([_epoch_ms(columns["started_at"][i]) for i in chosen]),
                    y=np.array([columns["throughput_bps"][i] / 1e6 for i in chosen], dtype=np.float32),
                    mode="markers",
                    marker={"symbol": symbol, "size": 8, "color": theme.parts[0], "opacity": 0.85},
                    name=f"throughput {direction}",
                    hovertemplate="%{y:.1f} Mbit/s<extra>" + direction + "</extra>",
                ),
                row=row,
                col=1,
            )
    figure.update_yaxes(title_text="Mbit/s", row=row, col=1, rangemode="tozero", nticks=4, gridcolor=theme.line, zeroline=False)


def _ttft(figure: go.Figure, columns: Columns, theme: Theme, row: int) -> None:
    chosen = [i for i, number in enumerate(columns["ttft_ms"]) if number is not None]
    figure.add_trace(
        go.Scatter(
            x=np.array([_epoch_ms(columns["started_at"][i]) for i in chosen]),
            y=np.array([columns["ttft_ms"][i] for i in chosen], dtype=np.float32),
            mode="markers",
            marker={"symbol": "diamond", "size": 7, "color": theme.parts[4], "opacity": 0.85},
            name="TTFT",
            hovertemplate="TTFT %{y:.1f} ms<extra></extra>",
        ),
        row=row,
        col=1,
    )
    figure.update_yaxes(title_text="TTFT (ms)", row=row, col=1, rangemode="tozero", nticks=4, gridcolor=theme.line, zeroline=False)


def _paths(figure: go.Figure, changes: Sequence[tuple[datetime, int, str]], series: Series, theme: Theme) -> None:
    """A line where a flow took another path, with a mark that tells which; the newest 40."""
    shown = [(_epoch_ms(at), flow, path_hash) for at, flow, path_hash in changes][-40:]
    line = {"color": theme.muted, "width": 1, "dash": "dot"}
    figure.layout.shapes += tuple(
        {"type": "line", "xref": "x", "yref": "paper", "x0": at_ms, "x1": at_ms, "y0": 0, "y1": 1, "line": line} for at_ms, _, _ in shown
    )
    if shown:
        top = float(np.nanmax(series.columns["max_ms"]))
        figure.add_trace(
            go.Scatter(
                x=[at_ms for at_ms, _, _ in shown],
                y=[top] * len(shown),
                mode="markers",
                marker={"symbol": "triangle-down", "size": 9, "color": theme.muted},
                name="path change",
                customdata=[[flow, path_hash[:6]] for _, flow, path_hash in shown],
                hovertemplate="flow %{customdata[0]} took path %{customdata[1]}<extra></extra>",
            ),
            row=1,
            col=1,
        )


def _gaps(figure: go.Figure, series: Series, theme: Theme) -> None:
    """Grey where nothing was sent for three buckets or more: silence is shown, it is not zero."""
    silent = ~(series.columns["sent"] > 0)
    look = {"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "fillcolor": rgba(theme.muted, 0.10), "layer": "below"}
    figure.layout.shapes += tuple(
        look | {"x0": series.at_ms[first], "x1": series.at_ms[last - 1] + series.step_ms, "line": {"width": 0}}
        for first, last in [run for run in runs(silent) if run[1] - run[0] >= 3][:40]
    )
