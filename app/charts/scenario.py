"""A scenario's outcome as tables and figures: totals side by side, places by regret, pools, a burst in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app import text
from app.theme import Theme

__all__ = ["burst_figure", "burst_strip", "compare_table", "headline", "metro_table", "pool_table", "ranking_table"]

Answer = Mapping[str, Any]


def headline(answer: Answer) -> list[tuple[str, str, str, bool]]:
    """The strip of a scenario: each total as it becomes, and what it was."""
    before, after, deltas = answer["baseline"], answer["proposed"], answer["deltas"]
    cost = "usd_per_month" if after["usd_per_month"] is not None else "usd_known_per_month"
    worse = (deltas["ttft_p95_ms"] or 0) > 0.05
    return [
        (
            "TTFT p95",
            text.milliseconds(after["ttft_ms"]["p95"]),
            f"{text.delta_ms(deltas['ttft_p95_ms'])} against {text.milliseconds(before['ttft_ms']['p95'])}",
            worse,
        ),
        ("E2E p95", text.milliseconds(after["e2e_ms"]["p95"]), text.delta_ms(deltas["e2e_p95_ms"]), False),
        (
            "Late or lost",
            text.percent(after["slo_miss_share"]),
            f"was {text.percent(before['slo_miss_share'])}",
            after["slo_miss_share"] > before["slo_miss_share"] + 1e-9,
        ),
        (
            "Lost",
            text.percent(after["lost_share"]),
            f"was {text.percent(before['lost_share'])}",
            after["lost_share"] > before["lost_share"] + 1e-9,
        ),
        ("Served elsewhere", text.percent(deltas["moved_share"]), f"{text.percent(deltas['rehomed_share'])} enter elsewhere", False),
        (
            "USD a month" if cost == "usd_per_month" else "Known USD a month",
            text.usd(after[cost]) if after[cost] is not None else text.UNKNOWN,
            _usd_change(before[cost], after[cost]),
            False,
        ),
    ]


def _usd_change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "a price is not known"
    change = after - before
    return "unchanged" if abs(change) < 0.005 else f"{'+' if change > 0 else '−'}{text.usd(abs(change))}"


def metro_table(answer: Answer, titles: Mapping[str, str]) -> dict[str, list[Any]]:
    """Every place, the greatest regret first; then by what is lost."""
    rows = sorted(answer["per_metro"], key=lambda row: (-(row["lost_share"] or 0), -(row["regret_ms"] or 0), row["site"]))
    return {
        "place": [titles.get(row["site"], row["site"]) for row in rows],
        "rps": [row["rps"] for row in rows],
        "before": [row["ttft_p95_ms"]["before"] for row in rows],
        "after": [row["ttft_p95_ms"]["after"] for row in rows],
        "regret": [row["regret_ms"] for row in rows],
        "lost": [None if row["lost_share"] is None else row["lost_share"] * 100 for row in rows],
        "served_before": [", ".join(part["pool"] for part in row["served"]["before"]) or None for row in rows],
        "served_after": [", ".join(part["pool"] for part in row["served"]["after"]) or None for row in rows],
        "ingress": [", ".join(row["ingress"]["after"]) or None for row in rows],
    }


def pool_table(answer: Answer) -> dict[str, list[Any]]:
    """Every pool before and after: its state, how full it is, what waiting costs, and what room for one more is worth."""
    before = {pool["id"]: pool for pool in answer["baseline"]["pools"]}
    after = {pool["id"]: pool for pool in answer["proposed"]["pools"]}
    names = list(dict.fromkeys((*after, *before)))

    def of(side: Mapping[str, Any], name: str, field: str) -> Any:
        return side[name][field] if name in side else None

    def full(side: Mapping[str, Any], name: str) -> float | None:
        value = of(side, name, "utilisation")
        return None if value is None else value * 100

    return {
        "pool": names,
        "was": [of(before, name, "state") for name in names],
        "is": [of(after, name, "state") for name in names],
        "full_before": [full(before, name) for name in names],
        "full_after": [full(after, name) for name in names],
        "load": [of(after, name, "load_rps") for name in names],
        "cap": [of(after, name, "cap_rps") for name in names],
        "wait": [of(after, name, "wait_ms") for name in names],
        "worth": [of(after, name, "capacity_price") if of(after, name, "state") == "full" else None for name in names],
    }


def burst_strip(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, bool]]:
    """A burst in five figures, each of the moment when it is greatest."""

    def most(column: str) -> Mapping[str, Any]:
        return max(steps, key=lambda step: step[column] or 0.0)

    def when(step: Mapping[str, Any]) -> str:
        return f"at most, minute {step['t_s'] / 60:.0f}"

    over, wait, worst, waiting = (most(column) for column in ("over_capacity_share", "wait_ms", "worst_wait_ms", "waiting"))
    return [
        ("Requests/s", f"{most('rps')['rps']:,.0f}", when(most("rps")), False),
        ("Over capacity", text.percent(over["over_capacity_share"]), when(over), over["over_capacity_share"] > 0),
        ("Mean wait", text.wait(wait["wait_ms"]), when(wait), False),
        ("Worst pool", worst["worst_pool"] or text.UNKNOWN, f"waits {text.wait(worst['worst_wait_ms'])}", False),
        ("Waiting", text.count(round(waiting["waiting"])), f"requests, {when(waiting)}", False),
    ]


def _wait_unit(longest_ms: float) -> tuple[str, float]:
    """The unit that an axis of waits up to `longest_ms` has, and how many ms it is.

    >>> _wait_unit(800), _wait_unit(165_000), _wait_unit(3_600_000)
    (('ms', 1.0), ('s', 1000.0), ('min', 60000.0))
    """
    return ("ms", 1.0) if longest_ms < 1000 else ("s", 1000.0) if longest_ms < 600_000 else ("min", 60_000.0)


def burst_figure(steps: Sequence[Mapping[str, Any]], theme: Theme) -> go.Figure:
    """A burst in time: requests a second, the share over capacity below, then the mean wait in a unit that fits it."""
    minutes = [step["t_s"] / 60 for step in steps]
    unit, unit_ms = _wait_unit(max((step["wait_ms"] for step in steps), default=0.0))
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    for row, column, title, colour, factor, said in (
        (1, "rps", "requests/s", theme.accent, 1.0, "%{y:,.1f} requests/s"),
        (2, "over_capacity_share", "over cap. (%)", theme.warning, 100.0, "%{y:.1f} % over capacity"),
        (3, "wait_ms", f"mean wait ({unit})", theme.reverse, 1 / unit_ms, "%{customdata[0]} mean wait; %{customdata[1]} %{customdata[2]}"),
    ):
        figure.add_trace(
            go.Scatter(
                x=minutes,
                y=[step[column] * factor for step in steps],
                mode="lines",
                line={"color": colour, "width": 2},
                name=title,
                customdata=[
                    [text.wait(step["wait_ms"]), step["worst_pool"] or "worst pool", text.wait(step["worst_wait_ms"])] for step in steps
                ],
                hovertemplate=f"minute %{{x:.0f}}: <b>{said}</b><extra></extra>",
            ),
            row=row,
            col=1,
        )
        figure.update_yaxes(title_text=title, gridcolor=theme.line, rangemode="tozero", row=row, col=1)
    figure.update_xaxes(title_text="minutes", row=3, col=1)
    figure.update_layout(height=420, margin={"l": 8, "r": 16, "t": 12, "b": 8}, showlegend=False)
    return figure


def ranking_table(found: Sequence[Mapping[str, Any]], limit: int = 60) -> dict[str, list[Any]]:
    """The losses that anybody notices, the most harmful first."""
    rows = [row for row in found if row["touched"]][:limit]
    return {
        "rank": [row["rank"] for row in rows],
        "name": [row["name"] for row in rows],
        "kind": [row["kind"] for row in rows],
        "lost": [row["lost_share"] * 100 for row in rows],
        "late": [row["slo_miss_share"] * 100 for row in rows],
        "ttft": [row["ttft_p95_ms"] for row in rows],
        "moved": [row["moved_share"] * 100 for row in rows],
        "full": [", ".join(row["full"]) or None for row in rows],
    }


def compare_table(kept: Sequence[tuple[str, Answer]]) -> dict[str, list[Any]]:
    """Scenarios side by side, each against its own baseline."""
    return {
        "scenario": [name for name, _ in kept],
        "ttft": [answer["proposed"]["ttft_ms"]["p95"] for _, answer in kept],
        "ttft_delta": [answer["deltas"]["ttft_p95_ms"] for _, answer in kept],
        "e2e_delta": [answer["deltas"]["e2e_p95_ms"] for _, answer in kept],
        "late": [answer["proposed"]["slo_miss_share"] * 100 for _, answer in kept],
        "lost": [answer["proposed"]["lost_share"] * 100 for _, answer in kept],
        "moved": [answer["deltas"]["moved_share"] * 100 for _, answer in kept],
        "usd": [answer["proposed"]["usd_known_per_month"] for _, answer in kept],
        "points": [len(answer["new_single_points"]) for _, answer in kept],
        "hash": [answer["scenario_hash"][:12] for _, answer in kept],
    }
