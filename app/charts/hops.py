"""The hops of a path as points on an axis of cumulative RTT, and when the path changed."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.charts.uprights import uprights
from app.theme import Theme
from records.measurement import TracerouteResult
from records.units import ms

__all__ = ["change_times", "changes", "changes_figure", "diff_rows", "hop_rows", "hops_figure", "path_order", "placed"]


def placed(path: TracerouteResult) -> list[tuple[int, float | None]]:
    """(ttl, where on the RTT axis in ms) of every hop; a silent hop stands midway between its answering neighbours.

    None where there is no neighbour on either side to stand between: silent hops past the last answer.
    """
    known = [(i, ms(hop.rtt_ns)) for i, hop in enumerate(path.hops)]
    out: list[tuple[int, float | None]] = []
    for i, hop in enumerate(path.hops):
        if hop.rtt_ns is not None:
            out.append((hop.ttl, ms(hop.rtt_ns)))
            continue
        before = next(((j, rtt) for j, rtt in reversed(known[:i]) if rtt is not None), (-1, 0.0))
        after = next(((j, rtt) for j, rtt in known[i + 1 :] if rtt is not None), None)
        if after is None:
            out.append((hop.ttl, None))
        else:
            share = (i - before[0]) / (after[0] - before[0])
            out.append((hop.ttl, before[1] + share * (after[1] - before[1])))
    return out


def path_order(history: Mapping[str, Sequence[Any]]) -> list[str]:
    """The distinct paths by their hash, in the order they were first seen: what gives a path its colour and shape."""
    return list(dict.fromkeys(path_hash for _, path_hash in sorted(zip(history["started_at"], history["path_hash"], strict=True))))


def hops_figure(paths: Sequence[TracerouteResult], theme: Theme, *, floor_ms: float | None = None, order: Sequence[str] = ()) -> go.Figure:
    """One lane for each path; a full point answered, a hollow one was silent and stands between its neighbours.

    order   path_order of the history, so that a path has the same colour in both figures
    """
    figure = go.Figure()
    colours = (theme.accent, theme.reverse, *theme.parts)
    ranks = {path_hash: rank for rank, path_hash in enumerate(dict.fromkeys((*order, *(path.path_hash for path in paths))))}
    for path in paths:
        colour = colours[ranks[path.path_hash] % len(colours)]
        spots = [(hop, at) for hop, (_, at) in zip(path.hops, placed(path), strict=True) if at is not None]
        if not spots:
            continue
        loud = [(hop, at) for hop, at in spots if hop.rtt_ns is not None]
        quiet = [(hop, at) for hop, at in spots if hop.rtt_ns is None]
        y = lane_name(path)
        figure.add_trace(
            go.Scatter(
                x=[0.0, *sorted(at for _, at in spots)],
                y=[y] * (len(spots) + 1),
                mode="lines",
                line={"color": colour, "width": 2},
                hoverinfo="skip",
                showlegend=False,
            )
        )
        figure.add_trace(
            go.Scatter(
                x=[at for _, at in quiet],
                y=[y] * len(quiet),
                mode="markers",
                marker={"size": 8, "color": theme.page, "line": {"color": theme.muted, "width": 1.5}},
                customdata=[[hop.ttl] for hop, _ in quiet],
                hovertemplate="hop %{customdata[0]}: no answer<extra></extra>",
                showlegend=False,
            )
        )
        figure.add_trace(
            go.Scatter(
                x=[at for _, at in loud],
                y=[y] * len(loud),
                mode="markers+text",
                marker={"size": 11, "color": colour, "line": {"color": theme.page, "width": 1.5}},
                text=_spaced_labels(loud),
                textposition="top center",
                textfont={"size": 11},
                customdata=[[hop.ttl, hop.address] for hop, _ in loud],
                hovertemplate="hop %{customdata[0]}<br>%{customdata[1]}<br><b>%{x:.2f} ms</b><extra></extra>",
                showlegend=False,
                cliponaxis=False,
            )
        )
    if floor_ms:
        line = {"color": theme.reverse, "width": 1.3, "dash": "dash"}
        figure.update_layout(**uprights([(floor_ms, f"fibre floor {floor_ms:.1f} ms")], line, above=True))
    figure.update_layout(
        height=120 + 56 * max(1, len(paths)),
        margin={"l": 8, "r": 24, "t": 34, "b": 8},
        xaxis={
            "title": "round-trip time from the start (ms)",
            "rangemode": "tozero",
            "gridcolor": theme.line,
            "zeroline": True,
            "zerolinecolor": theme.line,
        },
        yaxis={"autorange": "reversed", "showgrid": False, "title": ""},
        hovermode="closest",
    )
    return figure


def _spaced_labels(loud: Sequence[tuple[Any, float]]) -> list[str]:
    """TTLs as labels, left out where they would lie on each other."""
    most = max((at for _, at in loud), default=0.0) or 1.0
    labels, last = [], -1.0
    for hop, at in loud:
        show = at - last >= most * 0.018
        labels.append(str(hop.ttl) if show else "")
        last = at if show else last
    return labels


def lane_name(path: TracerouteResult) -> str:
    """How a path is called on the axis."""
    return f"flow {path.flow} · {path.path_hash[:6]}"


def hop_rows(path: TracerouteResult) -> list[dict[str, Any]]:
    """The hop table: every TTL, silent ones included; `added_ms` is the step from the last hop that answered.

    A negative step is kept: a router may answer slower than it forwards.
    """
    rows: list[dict[str, Any]] = []
    last = 0.0
    for hop in path.hops:
        rtt = ms(hop.rtt_ns)
        rows.append(
            {
                "hop": hop.ttl,
                "address": hop.address or "no answer",
                "rtt_ms": rtt,
                "added_ms": None if rtt is None else rtt - last,
                "answered": f"{hop.replies} of {hop.probes}",
                "mpls": ", ".join(str(label.label) for label in hop.mpls) or None,
            }
        )
        last = rtt if rtt is not None else last
    return rows


def changes(history: Mapping[str, Sequence[Any]]) -> int:
    """How often the path of a flow was another one than the time before, over all flows.

    >>> changes({"started_at": [1, 2, 3, 4], "flow": [0, 1, 0, 1], "path_hash": ["a", "x", "b", "x"]})
    1
    """
    last: dict[Any, str] = {}
    total = 0
    for _, flow, path_hash in sorted(
        zip(history["started_at"], history["flow"], history["path_hash"], strict=True), key=lambda row: row[0]
    ):
        total += flow in last and last[flow] != path_hash
        last[flow] = path_hash
    return total


def change_times(history: Mapping[str, Sequence[Any]]) -> list[tuple[Any, Any, str]]:
    """(when, flow, path_hash) of every trace whose flow took another path than the time before, in order of time.

    >>> change_times({"started_at": [1, 2, 3], "flow": [0, 0, 0], "path_hash": ["a", "b", "b"]})
    [(2, 0, 'b')]
    """
    last: dict[Any, str] = {}
    found = []
    for at, flow, path_hash in sorted(
        zip(history["started_at"], history["flow"], history["path_hash"], strict=True), key=lambda row: row[0]
    ):
        if flow in last and last[flow] != path_hash:
            found.append((at, flow, path_hash))
        last[flow] = path_hash
    return found


def diff_rows(before: TracerouteResult, after: TracerouteResult) -> list[dict[str, Any]]:
    """Two traces hop by hop, aligned by their routers: = the same, ≠ another one, − gone, + new, ? silent in one of them."""
    old = [(hop.address or "no answer", hop) for hop in before.hops]
    new = [(hop.address or "no answer", hop) for hop in after.hops]
    rows: list[dict[str, Any]] = []

    def row(mark: str, one: Any, other: Any) -> None:
        was, now = (ms(hop.rtt_ns) if hop is not None else None for hop in (one, other))
        rows.append(
            {
                "mark": mark,
                "hop_before": one.ttl if one is not None else None,
                "router_before": (one.address or "no answer") if one is not None else None,
                "rtt_before": was,
                "hop_after": other.ttl if other is not None else None,
                "router_after": (other.address or "no answer") if other is not None else None,
                "rtt_after": now,
                "change_ms": None if was is None or now is None else now - was,
            }
        )

    matcher = difflib.SequenceMatcher(None, [name for name, _ in old], [name for name, _ in new], autojunk=False)
    for _, i1, i2, j1, j2 in matcher.get_opcodes():
        for one, other in itertools.zip_longest((hop for _, hop in old[i1:i2]), (hop for _, hop in new[j1:j2])):
            if one is None or other is None:
                row("+" if one is None else "−", one, other)
            elif one.address == other.address:
                row("=", one, other)
            else:
                row("?" if one.address is None or other.address is None else "≠", one, other)
    return rows


def _a_minute_at_least(history: Mapping[str, Sequence[Any]]) -> list[float] | None:
    """The ends of the time axis in ms since 1970 where the axis would else show fractions of a second; None leaves it to the chart."""
    times = [at.timestamp() * 1000 for at in history["started_at"]]
    if not times or max(times) - min(times) >= 60_000:
        return None
    middle = (min(times) + max(times)) / 2
    return [middle - 60_000, middle + 60_000]


def changes_figure(history: Mapping[str, Sequence[Any]], theme: Theme) -> go.Figure:
    """Every traceroute on its flow's line: a colour and a symbol for each distinct path, hollow when the target was not reached."""
    order = path_order(history)
    colours = (theme.accent, theme.reverse, *theme.parts)
    symbols = ("square", "diamond", "circle", "triangle-up", "cross", "star", "hexagon")
    figure = go.Figure()
    for number, path_hash in enumerate(order):
        chosen = [i for i, found in enumerate(history["path_hash"]) if found == path_hash]
        symbol = symbols[number % len(symbols)]
        figure.add_trace(
            go.Scatter(
                x=np.array([history["started_at"][i].timestamp() * 1000 for i in chosen]),
                y=[f"flow {history['flow'][i]}" for i in chosen],
                mode="markers",
                marker={
                    "size": 9,
                    "color": colours[number % len(colours)],
                    "symbol": [symbol if history["reached"][i] else f"{symbol}-open" for i in chosen],
                },
                name=path_hash[:6],
                customdata=[[history["hop_count"][i]] for i in chosen],
                hovertemplate="%{x|%Y-%m-%d %H:%M:%S} UTC<br>%{customdata[0]} hops<extra>" + path_hash[:6] + "</extra>",
                showlegend=number < 12,
            )
        )
    flows = len(set(history["flow"]))
    figure.update_layout(
        height=110 + 26 * max(1, flows),
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        xaxis={"type": "date", "title": "time (UTC)", "showgrid": False, "nticks": 4, "tickangle": 0, "range": _a_minute_at_least(history)},
        yaxis={"title": "", "type": "category", "gridcolor": theme.line, "categoryorder": "category descending"},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "title": {"text": "path "}},
    )
    return figure
