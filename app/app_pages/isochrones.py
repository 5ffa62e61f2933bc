"""Isochrones: how far the first token reaches in 20, 50, 100 and 200 ms when we serve at the edge, in the cloud, or both."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from app import address, ahead, decisions, frame, text
from app.charts import reach as figures
from app.components import netmap
from app.decisions import MODES, Reached
from app.frame import View
from inventory.load import load
from records.units import ms

#: One request a second in all the world: no queue anywhere.
IDLE_RPS = 1.0
_LOADS = {"idle": "Idle", "half": "Half of capacity"}


def _dots(found: Sequence[Reached], p95: bool) -> dict[str, netmap.Dot]:
    colours = frame.theme()
    dots = {}
    for one in found:
        time_ms = one.p95_ms if p95 else one.p50_ms
        rows = [
            ["first token", text.milliseconds(time_ms) if time_ms is not None else "not served"],
            ["served at", one.served_at or text.UNKNOWN],
            ["people", text.count(round(one.people))],
            ["measured legs", text.percent(one.measured)],
        ]
        dots[one.metro] = figures.dot_of(time_ms, colours, rows)
    return dots


def _map(seen: View, mode: str, found: Sequence[Reached], p95: bool) -> None:
    serving = sorted({one.served_at for one in found if one.served_at})
    names = [*(one.metro for one in found), *serving]
    share = figures.share_within(found, 100.0, p95=p95)
    st.markdown(f"#### {MODES[mode]}")
    st.caption(f"**{text.percent(share)}** of people within 100 ms, from {text.plural(len(serving), 'serving site')}")
    spec = netmap.map_spec(
        {name: seen.sites[name] for name in names if name in seen.sites},
        [],
        frame.theme(),
        legend=netmap.Legend("", figures.legend_items(frame.theme(), "not served")),
        dots=_dots(found, p95),
        height=300,
        alt=f"Map of metros by time to first token, served in mode {mode}",
    )
    netmap.draw(spec, f"isochrone_{mode}")


def _strip(by_mode: dict[str, tuple[Reached, ...]], p95: bool) -> None:
    items = []
    for bound in figures.CLASSES_MS:
        shares = {mode: figures.share_within(found, bound, p95=p95) for mode, found in by_mode.items()}
        best = max(shares, key=lambda mode: shares[mode] or 0.0)
        items.append(
            (
                f"Within {bound:g} ms",
                text.percent(shares[best]),
                " · ".join(f"{MODES[mode].lower()} {text.percent(share)}" for mode, share in shares.items()),
                False,
            )
        )
    frame.strip(items)


def page() -> None:
    """Three maps side by side, the same as a curve, and every metro in a table."""
    frame.head("Isochrones", "How many people does the first token reach in time, from the edge, from the cloud, from both?")
    seen = frame.view_of_minute()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        workload = frame.pick_workload(width=280)
        load_name = address.choose("Load", list(_LOADS), key="load", usual="idle", titles=_LOADS.__getitem__, widget="segmented_control")
        quantile = address.choose("Quantile", ["p50", "p95"], key="q", usual="p50", widget="segmented_control")
    rps = IDLE_RPS if load_name == "idle" else None
    p95 = quantile == "p95"
    by_mode = decisions.reached(seen.at, seen.window, workload, rps)
    _strip(by_mode, p95)
    for column, (mode, found) in zip(st.columns(3, gap="small"), by_mode.items(), strict=True):
        with column:
            _map(seen, mode, found, p95)
    st.plotly_chart(figures.reach_figure(by_mode, frame.theme(), p95=p95), key="reach", config=frame.PLOTLY, alt="Share of people by TTFT")
    titles = {site.id: f"{site.name}, {site.country}" for site in load().metros}
    table = figures.reach_table(by_mode, titles, p95=p95)
    st.dataframe(
        table,
        hide_index=True,
        height=320,
        placeholder=text.UNKNOWN,
        column_config={
            "metro": st.column_config.TextColumn("Metro"),
            "people": st.column_config.NumberColumn("People", format="localized"),
        }
        | {f"{mode}_ms": st.column_config.NumberColumn(f"{title} (ms)", format="%.1f") for mode, title in MODES.items()}
        | {f"{mode}_at": st.column_config.TextColumn(f"{title} from") for mode, title in MODES.items()},
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "CSV", frame.csv_of(table), file_name="isochrones.csv", mime="text/csv", on_click="ignore", icon=":material/download:"
        )
        asked = load().workloads[workload]
        measured = [one.measured * one.people for one in by_mode["any"]]
        people = sum(one.people for one in by_mode["any"]) or 1.0
        budget = ms(asked.ttft_budget_ns)
        st.caption(
            f"{asked.title}"
            + (f", budget {text.milliseconds(budget)}" if budget is not None else "")
            + f": {text.plural(len(titles), 'metro')}, {text.count(round(people))} people. Cold connection, at most one relay; "
            f"{text.percent(sum(measured) / people)} of people in hybrid cross measured legs only, the others a modelled access leg. "
            f"Hybrid serves each where the whole is soonest. {text.COLD_STARTS} Snapshot "
            f"{seen.at.snapshot}, {text.WINDOW_TITLES[seen.window].lower()}."
        )
    others = [name for name in load().workloads if name != workload]
    asked_next = [(workload, None if load_name == "idle" else IDLE_RPS), *((name, rps) for name in others)]
    ahead.soon("isochrones", [partial(decisions.reached, seen.at, seen.window, name, at_rps) for name, at_rps in asked_next])


page()
