"""Cost: what leaving each cloud costs, over which medium, and what the cameras cost when all they see is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import address, decisions, frame, text
from app.frame import View
from app.theme import Theme
from app.whatif import read_document
from records.place import PROVIDERS

SCOPE_TITLES = {"internet": "To the internet", "inter-region": "To another region", "direct-connect": "Over a private link"}


def unpriced(clouds: Sequence[str]) -> str:
    """Which clouds have no bar, and why, as a sentence with a blank behind it; "" where all have one."""
    return f"No price known: {', '.join(clouds)}; unknown is not free. " if clouds else ""


def by_provider(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Each cloud's cheapest region by scope (USD a month), how many of its regions have a price, and how many it has."""
    table: dict[str, list[Any]] = {"provider": [], "regions": [], "priced": []} | {scope: [] for scope in decisions.SCOPES}
    for provider, title in PROVIDERS.items():
        own = [row for row in rows if row["provider"] == provider]
        table["provider"].append(title)
        table["regions"].append(len(own))
        table["priced"].append(sum(row["internet"] is not None for row in own))
        for scope in decisions.SCOPES:
            table[scope].append(min((row[scope] for row in own if row[scope] is not None), default=None))
    return table


def egress_figure(table: Mapping[str, Sequence[Any]], theme: Theme) -> go.Figure:
    """A group of bars for each cloud, one bar for each scope; no bar where nothing is known."""
    colours = (theme.classes[3], theme.classes[1], theme.accent)
    figure = go.Figure()
    for scope, colour in zip(decisions.SCOPES, colours, strict=True):
        figure.add_trace(
            go.Bar(
                x=table["provider"],
                y=table[scope],
                name=SCOPE_TITLES[scope],
                marker={"color": colour},
                text=[text.UNKNOWN if value is None else f"${value:,.0f}" for value in table[scope]],
                textposition="outside",
                textfont={"size": 11},
                cliponaxis=False,
                hovertemplate=f"%{{x}}, {SCOPE_TITLES[scope].lower()}: <b>$%{{y:,.2f}}</b> a month<extra></extra>",
            )
        )
    figure.update_layout(
        height=330,
        margin={"l": 8, "r": 8, "t": 30, "b": 8},
        yaxis={"title": "USD a month", "gridcolor": theme.line, "zeroline": False},
        xaxis={"showgrid": False},
        legend={"orientation": "h", "y": 1.04, "yanchor": "bottom", "x": 0},
        bargap=0.25,
    )
    return figure


def _egress(seen: View) -> None:
    del seen
    st.markdown("#### What leaves a cloud")
    month_tb = float(
        st.slider(
            "TB a month",
            min_value=1,
            max_value=1000,
            value=100,
            key="tb",
            bind="query-params",
            help="1 TB = 1,000 GB; tiers of the volume are applied",
        )
    )
    rows = decisions.price_rows(month_tb * 1000)
    table = by_provider(rows)
    st.plotly_chart(egress_figure(table, frame.theme()), key="egress", config=frame.PLOTLY, alt="USD a month by cloud and by medium")
    missing = [title for title, priced in zip(table["provider"], table["priced"], strict=True) if not priced]
    st.caption(
        f"The cheapest region of each cloud for {month_tb:,.0f} TB a month, from the inventory's price rows with their dates and sources. "
        + unpriced(missing)
        + "Private links cost a port besides."
    )
    with st.expander("Every region"):
        st.dataframe(
            {key: [row[key] for row in rows] for key in ("region", "name", "country", *decisions.SCOPES)},
            hide_index=True,
            height=340,
            placeholder=text.UNKNOWN,
            column_config={"region": "Region", "name": "Name", "country": "Country"}
            | {scope: st.column_config.NumberColumn(f"{title} (USD)", format="dollar") for scope, title in SCOPE_TITLES.items()},
        )


def camera_figure(rows: Sequence[Mapping[str, Any]], theme: Theme) -> go.Figure:
    """Two bars for each cloud: all that the cameras see, and the anomalies only; logarithmic, for they are far apart."""
    figure = go.Figure()
    names = [f"{PROVIDERS.get(row['provider'], row['provider'])}<br>{row['region'].partition(':')[2]}" for row in rows]
    for side, title, colour in (("usd_all", "everything", theme.classes[3]), ("usd_anomalies", "anomalies only", theme.accent)):
        figure.add_trace(
            go.Bar(
                x=names,
                y=[row[side] for row in rows],
                name=title,
                marker={"color": colour},
                text=[text.UNKNOWN if row[side] is None else text.usd(row[side]) for row in rows],
                textposition="outside",
                textfont={"size": 11},
                cliponaxis=False,
                hovertemplate=f"%{{x}}, {title}: <b>$%{{y:,.2f}}</b> a month<extra></extra>",
            )
        )
    figure.update_layout(
        height=330,
        margin={"l": 8, "r": 8, "t": 30, "b": 8},
        yaxis={"title": "USD a month (log)", "type": "log", "dtick": 1, "tickformat": "$~s", "gridcolor": theme.line},
        xaxis={"showgrid": False},
        legend={"orientation": "h", "y": 1.04, "yanchor": "bottom", "x": 0},
        bargap=0.25,
    )
    return figure


def cameras_said(count: int, mbps: float, odd_percent: float) -> str:
    """What is compared, with the numbers chosen.

    >>> cameras_said(5000, 4.0, 0.5)
    '5,000 cameras of 4 Mbit/s, day and night: all they see to a cloud, against the 0.5 % that is odd'
    """
    return f"{count:,} cameras of {mbps:g} Mbit/s, day and night: all they see to a cloud, against the {odd_percent:g} % that is odd"


def _cameras(seen: View) -> None:
    st.markdown("#### Cameras: all they see, or what is odd")
    document = read_document("cameras")
    first, second, third = st.columns(3, gap="medium")
    count = first.slider("Cameras", 10, 10_000, int(document["cameras"]), step=10, format="localized", key="cameras", bind="query-params")
    mbps = second.slider("Mbit/s each", 0.5, 20.0, document["bps_each"] / 1e6, step=0.5, key="mbps", bind="query-params")
    share = third.slider("Anomalies (%)", 0.0, 20.0, document["anomaly_share"] * 100, step=0.1, key="odd", bind="query-params")
    answer = decisions.worked(seen.at, seen.window, document | {"cameras": count, "bps_each": mbps * 1e6, "anomaly_share": share / 100})
    rows = answer["case"]["regions"]
    before, after = answer["baseline"], answer["proposed"]
    saved = [row["usd_saved"] for row in rows if row["usd_saved"] is not None]
    frame.strip(
        [
            (
                "Sent a month",
                text.bytes_(before["gb_per_month"] * 1e9),
                f"{text.bits_per_second(before['uplink_bps'])} without a pause",
                False,
            ),
            ("Anomalies only", text.bytes_(after["gb_per_month"] * 1e9), text.bits_per_second(after["uplink_bps"]), False),
            (
                "Saved a month",
                f"{text.usd(min(saved))} – {text.usd(max(saved))}" if saved else text.UNKNOWN,
                f"{len(saved)} of {len(rows)} clouds priced",
                False,
            ),
        ]
    )
    st.plotly_chart(
        camera_figure(rows, frame.theme()),
        key="cameras_chart",
        config=frame.PLOTLY,
        alt="USD a month by cloud: everything against anomalies",
    )
    st.caption(
        f"{cameras_said(count, mbps, share)}. A month is 30 days; egress to the internet at tiered prices when it is read out again; "
        "sending into a cloud is free in all six. " + unpriced([row["provider"] for row in rows if row["usd_all"] is None])
    )


def _private(seen: View) -> None:
    st.markdown("#### Private link or internet")
    document = read_document("direct-connect")
    gb = st.slider("GB a month", 100, 1_000_000, int(document["gb_per_month"]), step=100, format="localized", key="gb", bind="query-params")
    rows = decisions.worked(seen.at, seen.window, document | {"gb_per_month": gb})["case"]["pairs"]
    st.dataframe(
        {
            "pair": [f"{row['pop']} ↔ {row['region']}" for row in rows],
            "internet": [row["usd_internet"] for row in rows],
            "private": [row["usd_direct_connect"] for row in rows],
            "port": [row["port_usd"] for row in rows],
            "even": [None if row["break_even_gb"] is None else round(row["break_even_gb"]) for row in rows],
            "rtt_internet": [row["rtt_ms"]["internet"] for row in rows],
            "rtt_private": [row["rtt_ms"]["direct-connect"] for row in rows],
        },
        hide_index=True,
        height="content",
        placeholder=text.UNKNOWN,
        column_config={
            "pair": "Pair",
            "internet": st.column_config.NumberColumn("Internet (USD)", format="dollar"),
            "private": st.column_config.NumberColumn("Private (USD)", format="dollar", help="Port and traffic"),
            "port": st.column_config.NumberColumn("of it the port", format="dollar"),
            "even": st.column_config.NumberColumn("Breaks even at (GB a month)", format="localized"),
            "rtt_internet": st.column_config.NumberColumn(
                "Internet RTT (ms)", format="%.2f", help="Measured; unknown where nobody measured it"
            ),
            "rtt_private": st.column_config.NumberColumn("Private RTT (ms)", format="%.2f"),
        },
    )
    st.caption(f"Prices from the inventory; a dash is a price or RTT that is not known. Snapshot {seen.at.snapshot}.")


def page() -> None:
    """Three questions, one below the other; all of them in the address."""
    frame.head("Cost", "What does it cost to move the bytes, and what does staying at the edge save?")
    seen = frame.view()
    part = address.choose(
        "Question",
        list(PARTS),
        key="part",
        usual="cameras",
        titles=lambda name: PARTS[name][0],
        widget="segmented_control",
        label_visibility="collapsed",
    )
    PARTS[part][1](seen)


PARTS: dict[str, tuple[str, Any]] = {
    "cameras": ("Cameras", _cameras),
    "egress": ("Egress by cloud", _egress),
    "private": ("Private links", _private),
}

page()
