"""Paths: through which routers a pair's packets go, where the latency is added, and when the path changed."""

from __future__ import annotations

import shlex

import streamlit as st

from app import data, frame, metrics, text
from app.charts import hops
from records.measurement import TracerouteResult
from records.units import ms


def summary(path: TracerouteResult) -> str:
    """A path in one line."""
    silent = sum(hop.address is None for hop in path.hops)
    steps = [row for row in hops.hop_rows(path) if row["added_ms"] is not None]
    longest = max(steps, key=lambda row: row["added_ms"], default=None)
    words = [text.plural(len(path.hops), "hop"), f"{silent} silent" if silent else "all answered"]
    words.append("target reached" if path.reached else "**target not reached**")
    if longest is not None:
        words.append(f"largest step **{text.delta_ms(longest['added_ms'])}** at hop {longest['hop']} ({longest['address']})")
    return " · ".join(words)


def page() -> None:
    """Choose a pair and a flow; see its hops, then when the path changed."""
    frame.head("Paths", "Through which routers the packets go, and where the latency is added. A slow answer is not a slow path.")
    seen = frame.view()
    frame.need_links(seen)
    places = seen.sites
    with st.container(horizontal=True, vertical_alignment="bottom"):
        usual = frame.usual_pair(seen)
        src = frame.pick_site("From", sorted({link.src for link in seen.links}), places, key="src", usual=usual[0], width=300)
        targets = sorted({link.dst for link in seen.links if link.src == src})
        dst = frame.pick_site("To", targets, places, key="dst", usual=usual[1], width=300)
    pair = metrics.by_pair(seen.links).get((src, dst))
    assert pair is not None
    found = data.paths(seen.at, src, dst, None if seen.medium == "any" else seen.medium)
    if not found:
        frame.next_step(
            text.NO_DATA["path"].format(src=src, dst=dst),
            f"isochrone traceroute ADDRESS --src {src} --dst {dst} --medium {pair.medium} --store {shlex.quote(seen.at.location)}",
        )
        return
    start, end = seen.span()
    history = data.path_history(seen.at, src, dst, found[0].medium, start, end)
    floor = ms(pair.fibre_floor_ns)
    st.plotly_chart(
        hops.hops_figure(found, frame.theme(), floor_ms=floor, order=hops.path_order(history)),
        key="hops",
        config=frame.PLOTLY,
        alt=f"Hops from {src} to {dst} on an axis of round-trip time, one lane for each flow",
    )
    st.caption("The newest path of each flow. Full point: the router answered; hollow: it was silent and stands between its neighbours.")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        flows = [path.flow for path in found]
        flow = (
            st.pills("Flow", flows, default=flows[0], required=True, format_func=lambda number: f"flow {number}", key="flow")
            if len(flows) > 1
            else flows[0]
        )
        path = next(path for path in found if path.flow == flow)
        st.markdown(summary(path))
        rows = hops.hop_rows(path)
        st.dataframe(
            {name: [row[name] for row in rows] for name in rows[0]},
            hide_index=True,
            height="content",
            placeholder=text.UNKNOWN,
            column_config={
                "hop": st.column_config.NumberColumn("Hop", width=52),
                "address": st.column_config.TextColumn("Router"),
                "rtt_ms": st.column_config.NumberColumn("RTT (ms)", format="%.2f"),
                "added_ms": st.column_config.NumberColumn("Step (ms)", format="%+.2f", help="From the last router that answered"),
                "answered": st.column_config.TextColumn(
                    "Answered", alignment="right", help="Probe packets it answered: its own choice, never the path's loss"
                ),
                "mpls": st.column_config.TextColumn("MPLS labels"),
            },
        )
    with right:
        st.markdown("#### Path over time")
        if not history["started_at"]:
            st.caption(f"No traceroute in this window ({text.WINDOW_TITLES[seen.window].lower()}); the hops on the left are older.")
        else:
            words = (
                ("traceroute", len(history["started_at"])),
                ("path", len(set(history["path_hash"]))),
                ("change", hops.changes(history)),
            )
            st.caption(
                ", ".join(text.plural(number, word) for word, number in words) + ". "
                "One colour and shape for each path; hollow: the target was not reached."
            )
            st.plotly_chart(
                hops.changes_figure(history, frame.theme()),
                key="changes",
                config=frame.PLOTLY,
                alt="Which path each traceroute saw, over time",
            )
        st.caption(f"Newest: {path.protocol.upper()}, {path.engine}, target `{path.target}`, {text.MEDIUM_TITLES[path.medium]}")


page()
