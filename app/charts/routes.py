"""The planner's figures and tables: the parts of each route's latency as a stacked bar, latency against cost, the ranking.

All take routes as `isochrone route --json` gives them (docs: the contract of the command).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from app import text
from app.charts.uprights import uprights
from app.theme import PARTS, Theme

__all__ = ["evidence_of", "legs_table", "measured_table", "pareto_figure", "parts_figure", "ranking", "route_name", "shown_parts"]

Route = Mapping[str, Any]


def route_name(route: Route) -> str:
    """The sites of a route with arrows between.

    >>> route_name({"sites": ["sin", "hkg", "aws:ap-east-1"]})
    'sin → hkg → aws:ap-east-1'
    """
    return " → ".join(route["sites"])


def shown_parts(objective: str) -> tuple[str, ...]:
    """The parts that make up what is asked for: TTFT ends before decoding, E2E has it.

    >>> shown_parts("ttft")[-1], shown_parts("e2e")[-1]
    ('network', 'decode')
    """
    return PARTS if objective == "e2e" else PARTS[:-1]


def parts_figure(routes: Sequence[Route], theme: Theme, *, objective: str = "ttft", budget_ms: float | None = None) -> go.Figure:
    """One bar for each route, best on top, split into the parts of its latency; the budget as a line."""
    parts = shown_parts(objective)
    names = [f"{rank}  {route_name(route)}" for rank, route in enumerate(routes, start=1)]
    figure = go.Figure()
    for part in parts:
        sizes = [route["parts"].get(part) for route in routes]
        if not any(sizes):
            continue
        figure.add_trace(
            go.Bar(
                y=names,
                x=sizes,
                orientation="h",
                name=text.PART_TITLES[part],
                marker={"color": theme.parts[PARTS.index(part)], "line": {"color": theme.page, "width": 1}},
                hovertemplate=f"{text.PART_TITLES[part]} <b>%{{x:.1f}} ms</b><extra></extra>",
            )
        )
    totals = [sum(route["parts"].get(part) or 0 for part in parts) for route in routes]
    whole = "e2e_ms" if objective == "e2e" else "ttft_ms"
    figure.add_trace(
        go.Scatter(
            x=totals,
            y=names,
            mode="text",
            # The number that the strip and the table have: a sum of rounded parts may round the other way.
            text=[f" {text.milliseconds(route[whole]['p50'])}" for route in routes],
            textposition="middle right",
            textfont={"size": 12},
            cliponaxis=False,
            hoverinfo="skip",
            showlegend=False,
        )
    )
    ends = [*totals, *([budget_ms] if budget_ms else [])]
    figure.update_layout(
        barmode="stack",
        height=96 + 42 * max(1, len(routes)),
        bargap=0.38,
        margin={"l": 8, "r": 16, "t": 28, "b": 8},
        xaxis={
            "title": f"{'time to last token' if objective == 'e2e' else 'time to first token'}, median (ms)",
            "range": [0, max(ends, default=1) * 1.14],
            "gridcolor": theme.line,
            "zeroline": False,
        },
        yaxis={"autorange": "reversed", "title": "", "showgrid": False, "automargin": True},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal", "font": {"size": 12}},
    )
    if budget_ms:
        figure.update_layout(**uprights([(budget_ms, f"budget {budget_ms:g} ms")], {"color": theme.warning, "width": 1.5, "dash": "dot"}))
    return figure


def pareto_figure(routes: Sequence[Route], pareto: Sequence[Mapping[str, Any]], theme: Theme) -> go.Figure:
    """TTFT against cost of each route whose price is known; the front joins the routes that no other beats in both."""
    priced = [(rank, route) for rank, route in enumerate(routes, start=1) if route.get("usd_per_1k") is not None]
    front = sorted((point["ttft_ms"], point["usd_per_1k"]) for point in pareto if point.get("usd_per_1k") is not None)
    figure = go.Figure()
    if len(front) > 1:
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in front],
                y=[y for _, y in front],
                mode="lines",
                line={"color": theme.accent, "width": 1.5, "shape": "hv"},
                hoverinfo="skip",
                name="no route beats these in both",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=[route["ttft_ms"]["p50"] for _, route in priced],
            y=[route["usd_per_1k"] for _, route in priced],
            mode="markers+text",
            text=[str(rank) for rank, _ in priced],
            textposition="middle center",
            textfont={"color": theme.page, "size": 11},
            marker={"size": 20, "color": theme.accent, "line": {"color": theme.page, "width": 1.5}},
            customdata=[[route_name(route)] for _, route in priced],
            hovertemplate="%{customdata[0]}<br>%{x:.1f} ms, $%{y:.4f} per 1,000<extra></extra>",
            name="route (its rank)",
        )
    )
    figure.update_layout(
        height=300,
        margin={"l": 8, "r": 8, "t": 28, "b": 8},
        xaxis={"title": "time to first token, median (ms)", "gridcolor": theme.line, "zeroline": False},
        yaxis={"title": "USD per 1,000 requests", "gridcolor": theme.line, "zeroline": False},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
    )
    return figure


def evidence_of(route: Route) -> str:
    """The weakest evidence among a route's legs, which is the route's own.

    >>> evidence_of({"evidence": [{"evidence": "measured"}, {"evidence": "modelled"}]})
    'modelled'
    >>> evidence_of({"evidence": []})
    'measured'
    """
    order = ("measured", "assumed", "modelled")
    return max((leg["evidence"] for leg in route["evidence"]), key=order.index, default="measured")


def ranking(routes: Sequence[Route], ties: Sequence[Sequence[int]]) -> dict[str, list[object]]:
    """The routes as columns, best first; `ties` names the ranks that the evidence cannot tell apart."""
    tied: dict[int, set[int]] = {}
    for a, b in ties:
        tied.setdefault(a, set()).add(b + 1)
        tied.setdefault(b, set()).add(a + 1)
    return {
        "rank": list(range(1, len(routes) + 1)),
        "route": [route_name(route) for route in routes],
        "pool": [f"{route['pool']['devices']} × {route['pool']['accelerator']}" if route["pool"] else None for route in routes],
        "ttft_p50": [route["ttft_ms"]["p50"] for route in routes],
        "ttft_p95": [route["ttft_ms"]["p95"] for route in routes],
        "e2e_p50": [route["e2e_ms"]["p50"] for route in routes],
        "rtt_p50": [route["rtt_ms"]["p50"] for route in routes],
        "usd": [route["usd_per_1k"] for route in routes],
        "evidence": [text.EVIDENCE_MARKS[evidence_of(route)] for route in routes],
        "tied": [", ".join(map(str, sorted(tied[i]))) if i in tied else None for i in range(len(routes))],
    }


def legs_table(route: Route) -> dict[str, list[object]]:
    """The legs of a route as columns: what each is known from."""
    legs = route["evidence"]
    return {
        "leg": [f"{leg['src']} → {leg['dst']}" for leg in legs],
        "medium": [text.MEDIUM_TITLES[leg["medium"]] for leg in legs],
        "p50_ms": [leg["rtt_ms"]["p50"] for leg in legs],
        "p95_ms": [leg["rtt_ms"]["p95"] for leg in legs],
        "loss": [text.percent(leg["loss_ratio"]) for leg in legs],
        "evidence": [text.EVIDENCE_MARKS[leg["evidence"]] for leg in legs],
        "samples": [leg["samples"] for leg in legs],
    }


def measured_table(served: Mapping[str, Sequence[Any]], source: str) -> dict[str, list[object]]:
    """What requests from a site really took, as columns, the fastest first; servers that never answered come last."""
    rows = [i for i, src in enumerate(served["src"]) if src == source]
    rows.sort(key=lambda i: (served["ttft_p50_ms"][i] is None, served["ttft_p50_ms"][i] or 0.0, served["dst"][i]))
    table: dict[str, list[object]] = {
        name: [served[name][i] for i in rows]
        for name in ("dst", "model", "count", "errors", "ttft_p50_ms", "ttft_p95_ms", "tcp_rtt_p50_ms")
    }
    table["medium"] = [text.MEDIUM_TITLES[served["medium"][i]] for i in rows]
    return table
