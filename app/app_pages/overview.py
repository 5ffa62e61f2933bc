"""Overview: is anything wrong now, where, and how fresh is what we see?"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app import address, alarm_panel, data, frame, metrics, picture, standing, text, turns
from app.components import netmap
from app.frame import View


def _focus(site: str) -> None:
    st.session_state["site"] = site or ""


def _map(seen: View, metric: metrics.Metric, focus: str | None) -> None:
    drawing, drawn, total = picture.drawing(seen.usable, seen.at.key, metric.name, focus, frame.theme().name)
    click = netmap.draw(drawing, "overview_map", on_site=_focus)
    subject = f"of {focus}" if focus else "in all"
    count = f"the {drawn} worst of {total:,} pairs" if total > drawn else f"all {text.plural(total, 'pair')}"
    st.caption(
        f"Shown: {count} {subject}; a pair takes the colour of its worse direction. {metric.title}: {metric.explain}. "
        "Click a site to focus it, a link to open it."
    )
    if click.link:
        frame.open_pair(*click.link)


def _worst(seen: View) -> None:
    table = standing.worst(seen.usable)
    st.markdown("#### Furthest from the fibre floor")
    if not table.num_rows:
        st.caption("No link with a known median and a fibre floor of 2 ms or more in this window.")
        return

    def go() -> None:
        row = st.session_state["worst_open"]["row"]
        st.session_state["go"] = (table["from"][row].as_py(), table["to"][row].as_py())

    st.dataframe(
        table,
        hide_index=True,
        height="content",
        placeholder=text.UNKNOWN,
        column_order=[name for name in table.column_names if name != "medium" or seen.medium == "any"],
        column_config={
            "open": st.column_config.ButtonColumn("", width=60, type="tertiary", on_click=go, key="worst_open"),
            "from": st.column_config.TextColumn("From"),
            "to": st.column_config.TextColumn("To"),
            "p50_ms": st.column_config.NumberColumn("p50 (ms)", format="%.1f"),
            "floor_ms": st.column_config.NumberColumn("Floor (ms)", format="%.1f", help="Least RTT in fibre along the great circle"),
            "inflation": st.column_config.NumberColumn(
                "Inflation", format="%.2f×", help="p50 over floor; pairs with a floor under 2 ms left out"
            ),
            "loss_percent": st.column_config.NumberColumn("Loss (%)", format="%.2f"),
            "medium": st.column_config.TextColumn("Medium"),
        },
    )
    if target := st.session_state.pop("go", None):
        frame.open_pair(*target)


def _changed(seen: View) -> None:
    st.markdown("#### Changed in the last hour")
    table, why_not = standing.changed(seen.at)
    if table is None:
        st.caption(why_not)
        return
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        placeholder=text.UNKNOWN,
        column_config={
            "from": "From",
            "to": "To",
            "medium": "Medium",
            "was": number("Was (ms)", format="%.1f", help="Median of the minutes of the day before"),
            "now": number("Is (ms)", format="%.1f"),
            "change": number("Change (ms)", format="%+.1f"),
            "loss": number("Loss (points)", format="%+.2f"),
            "path": number("Path changes"),
        },
    )


def _fleet(seen: View) -> None:
    table = standing.agents(seen.at)
    st.markdown("#### Agents")
    if not table.num_rows:
        st.caption("No agent has reported yet. Start one with `isochrone agent run --config agent.toml`.")
    else:
        st.dataframe(
            table,
            hide_index=True,
            height="auto",
            column_config={
                "state": st.column_config.TextColumn("State", width=82),
                "agent": st.column_config.TextColumn("Agent"),
                "seen": st.column_config.TextColumn("Last seen", alignment="right"),
                "why": st.column_config.TextColumn("Remarks"),
            },
        )
    st.markdown("#### Kept out of routes")
    gates = standing.gates(seen.all_links)
    if not gates.num_rows:
        st.caption(f"Nothing: all {text.plural(len(seen.all_links), 'link')} passed every gate.")
    else:
        st.dataframe(
            gates,
            hide_index=True,
            column_order=["gate", "links"],
            column_config={
                "gate": st.column_config.TextColumn("Gate"),
                "links": st.column_config.NumberColumn("Links"),
            },
        )
        # Sentences, which a cell would cut.
        st.caption("  \n".join(f"**{row['gate']}**: {row['why']}" for row in gates.to_pylist()))
    refused = data.rejects(seen.at)
    if refused:
        st.caption("Rows refused on arrival: " + ", ".join(f"{text.count(number)} {reason}" for reason, number in refused.items()))


def _head() -> None:
    frame.head(picture.TITLE, picture.QUESTION)


@st.fragment
def _picture(seen: View) -> None:
    """The head, its controls, the strip and the map. A click here runs this and nothing else: no table, no other page's list."""
    with frame.guard():
        title, controls = st.columns([3, 7], vertical_alignment="bottom")
        with title:
            _head()
        with controls, st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="top"):
            metric = address.choose(
                "Colour links by",
                ["inflation", "loss", "p50"],
                key="metric",
                usual="inflation",
                titles=lambda name: metrics.METRICS[name].title,
                widget="segmented_control",
            )
            focus = address.choose(
                "Focus",
                ["", *picture.ends(seen.usable)],
                key="site",
                usual="",
                titles=lambda site: text.site_label(seen.sites.get(site), site) if site else "All sites",
                width=200,
            )
            st.session_state[frame.FOCUSED] = focus
        frame.strip(picture.kpis(seen))
        if not seen.all_links:
            frame.need_links(seen)
        _map(seen, metrics.METRICS[metric], focus or None)


@st.fragment(run_every=frame.REFRESH_S)
def _live(seen: View) -> None:
    turns.give_way()
    with frame.guard():
        fresh = data.fresh(seen.at)
        seen = replace(seen, at=fresh, all_links=data.links(fresh, seen.window), sites=data.sites(fresh))
        _picture(seen)
        alarm_panel.panel(seen)
        left, right = st.columns([3, 2], gap="medium")
        with left:
            _changed(seen)
            _worst(seen)
        with right:
            _fleet(seen)


def page() -> None:
    """Everything refreshes by itself; a click on the controls or the map is answered by the map alone."""
    # Without its links: a fragment keeps what it is given, and these would be of another moment in every session.
    _live(replace(frame.view(_head), all_links=()))


page()
