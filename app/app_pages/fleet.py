"""Fleet: every agent, whether it can be trusted, and what it reported of itself over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from app import address, data, frame, health, text, turns
from app.frame import View
from app.theme import Theme

#: Panels of an agent's own report over time: column, title, unit.
PANELS = (
    ("loop_lag_p99_ms", "Loop lag p99", "ms"),
    ("clock_error_ms", "Clock error", "ms"),
    ("spool_bytes", "Waiting in the spool", "B"),
)


def state_of(age_s: float | None, grade: str) -> str:
    """What an agent is, in a mark and a word.

    >>> state_of(4.0, "ok"), state_of(4.0, "degraded"), state_of(None, "ok"), state_of(900.0, "ok")
    ('✓ ok', '! degraded', '✕ silent', '✕ silent')
    """
    if age_s is None or age_s > data.SILENT_AFTER_S:
        return "✕ silent"
    return "! degraded" if grade == "degraded" else "✓ ok"


def fleet_table(fleet: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Every agent, the silent first, then the degraded, then by name."""
    states = [state_of(age, grade) for age, grade in zip(fleet["age_s"], fleet["grade"], strict=True)]
    order = sorted(range(len(states)), key=lambda i: ("✕!✓".index(states[i][0]), fleet["agent"][i]))

    def column(name: str) -> list[Any]:
        return [fleet[name][i] for i in order]

    return {
        "state": [states[i] for i in order],
        "agent": column("agent"),
        "site": column("site"),
        "version": column("version"),
        "config": column("config_generation"),
        "seen": [f"{text.age(age)} ago" for age in column("age_s")],
        "lag": column("loop_lag_p99_ms"),
        "clock": column("clock_error_ms"),
        "spool": [text.bytes_(size) for size in column("spool_bytes")],
        "skipped": column("skipped_rounds"),
        "dropped": column("dropped_measurements"),
        "why": [", ".join(reasons or []) or text.UNKNOWN for reasons in column("reasons")],
        "refused": [refused or text.UNKNOWN for refused in column("config_refused")],
    }


def _kpis(fleet: Mapping[str, Sequence[Any]]) -> list[tuple[str, str, str, bool]]:
    states = Counter(state_of(age, grade) for age, grade in zip(fleet["age_s"], fleet["grade"], strict=True))
    versions = Counter(fleet["version"])
    newest, count = versions.most_common(1)[0]
    dropped = sum(number or 0 for number in fleet["dropped_measurements"])
    clocks = [number for number in fleet["clock_error_ms"] if number is not None]
    waiting = sum(size or 0 for size in fleet["spool_bytes"])
    total = len(fleet["agent"])
    return [
        ("Agents", text.count(total), f"{states['✓ ok']} well", False),
        ("Silent", text.count(states["✕ silent"]), f"over {text.age(data.SILENT_AFTER_S)} unheard", bool(states["✕ silent"])),
        ("Degraded", text.count(states["! degraded"]), "kept out of routes", bool(states["! degraded"])),
        ("Version", newest, "all of them" if count == total else f"{count} of {total}; {len(versions)} versions", count != total),
        ("Waiting", text.bytes_(waiting), "in all spools", False),
        ("Dropped", text.count(dropped), "measurements, since their boots", bool(dropped)),
        ("Worst clock", text.milliseconds(max(clocks)) if clocks else text.UNKNOWN, f"{len(clocks)} of {total} synchronised", False),
    ]


def report_figure(found: Mapping[str, Sequence[Any]], theme: Theme) -> go.Figure:
    """An agent's own report over time: one panel for each of PANELS; what it did not know is a gap."""
    figure = make_subplots(rows=len(PANELS), cols=1, shared_xaxes=True, vertical_spacing=0.09, subplot_titles=[p[1] for p in PANELS])
    for row, (column, title, unit) in enumerate(PANELS, start=1):
        figure.add_trace(
            go.Scatter(
                x=found["reported_at"],
                y=found[column],
                mode="lines+markers",
                marker={"size": 4},
                line={"color": theme.accent, "width": 1.5, "shape": "hv"},
                name=title,
                connectgaps=False,
                hovertemplate=f"%{{x|%H:%M:%S}}: <b>%{{y:,.3~f}} {unit}</b><extra></extra>",
            ),
            row=row,
            col=1,
        )
        figure.update_yaxes(title_text=unit, gridcolor=theme.line, rangemode="tozero", row=row, col=1)
    figure.update_xaxes(title_text="time (UTC)", row=len(PANELS), col=1)
    figure.update_layout(height=470, margin={"l": 8, "r": 16, "t": 28, "b": 8}, showlegend=False)
    figure.update_annotations(font_size=12, x=0, xanchor="left")
    return figure


@st.fragment(run_every=frame.REFRESH_S)
def _live(seen: View) -> None:
    turns.give_way()
    with frame.guard():
        fleet = data.agents(data.fresh(seen.at))
        frame.strip(_kpis(fleet))
        st.dataframe(
            fleet_table(fleet),
            hide_index=True,
            height="auto",
            placeholder=text.UNKNOWN,
            column_config={
                "state": st.column_config.TextColumn("State", width=92),
                "agent": "Agent",
                "site": "Site",
                "version": "Version",
                "config": st.column_config.NumberColumn(
                    "Configuration", format="%d", help="Generation of the pushed configuration it runs; empty: its own file alone"
                ),
                "seen": st.column_config.TextColumn("Last seen", alignment="right"),
                "lag": st.column_config.NumberColumn("Loop lag p99 (ms)", format="%.2f"),
                "clock": st.column_config.NumberColumn(
                    "Clock error (ms)", format="%.3f", help="By its kernel; unknown when not synchronised"
                ),
                "spool": st.column_config.TextColumn("Spool", alignment="right"),
                "skipped": st.column_config.NumberColumn("Rounds skipped"),
                "dropped": st.column_config.NumberColumn("Dropped"),
                "why": st.column_config.TextColumn("Why degraded"),
                "refused": st.column_config.TextColumn("Refused configuration", help="What it was pushed last and did not take, and why"),
            },
        )


def page() -> None:
    """All agents, live; one agent's reports over time."""
    frame.head("Fleet", "Who measures, is it well, and can its numbers be trusted?")
    seen = frame.view()
    fleet = data.agents(seen.at)
    if not fleet["agent"]:
        frame.next_step("No agent has reported yet; imports need none. Start one:", "isochrone agent run --config agent.toml")
        return
    _live(seen)
    st.markdown("#### One agent over time")
    agent = address.choose("Agent", list(fleet["agent"]), key="agent", usual=fleet["agent"][0], width=260)
    found = health.reports(seen.at, seen.window, agent)
    if not found["reported_at"]:
        st.caption(f"{agent} reported nothing in this window ({text.WINDOW_TITLES[seen.window].lower()}).")
        return
    st.plotly_chart(report_figure(found, frame.theme()), key="reports", config=frame.PLOTLY, alt=f"What {agent} reported of itself")
    st.caption(
        f"{text.plural(len(found['reported_at']), 'report')}; a gap is what the agent did not know. "
        f"{text.WINDOW_TITLES[seen.window]}, a week at most, snapshot {seen.at.snapshot}."
    )


page()
