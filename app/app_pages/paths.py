"""Paths: through which routers a pair's packets go, where the latency is added, and when the path changed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import msgspec
import streamlit as st

from app import data, frame, health, metrics, pair_data, text
from app.charts import hops
from records.measurement import TracerouteResult, path_change
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
    found = pair_data.paths(seen.at, src, dst, None if seen.medium == "any" else seen.medium)
    if not found:
        frame.next_step(
            text.NO_DATA["path"].format(src=src, dst=dst),
            f"isochrone traceroute ADDRESS --src {src} --dst {dst} --medium {pair.medium} --store {shlex.quote(seen.at.location)}",
        )
        return
    start, end = seen.span()
    history = pair_data.path_history(seen.at, src, dst, found[0].medium, start, end)
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
        _evidence(found, src, dst)
        st.caption(f"Newest: {path.protocol.upper()}, {path.engine}, target `{path.target}`, {text.MEDIUM_TITLES[path.medium]}")
    if len(history["started_at"]) > 1:
        _diff(seen.at, path, history)


def _evidence(found: Sequence[TracerouteResult], src: str, dst: str) -> None:
    """The traces themselves, with every hop, as JSON."""
    st.download_button(
        "Evidence (JSON)",
        lambda: msgspec.json.format(msgspec.json.encode(list(found))),
        file_name=f"paths-{src}-{dst}.json".replace(":", "_"),
        mime="application/json",
        on_click="ignore",
        icon=":material/download:",
        help="The newest trace of every flow as it was stored; `isochrone traceroute --pcap FILE` keeps the packets too",
    )


def _diff(at: data.Source, path: TracerouteResult, history: data.Columns) -> None:
    """Two times of one flow beside each other; opens with the newest change, else with the first and the last."""
    times = sorted(when for when, flow in zip(history["started_at"], history["flow"], strict=True) if flow == path.flow)
    if len(times) < 2:
        return
    changed = [when for when, flow, _ in hops.change_times(history) if flow == path.flow]
    usual = times.index(changed[-1]) if changed else len(times) - 1
    st.markdown("#### Two times of this flow")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        before = st.selectbox("Before", times, index=max(0, usual - 1) if changed else 0, format_func=text.clock, width=260)
        after = st.selectbox("After", times, index=usual, format_func=text.clock, width=260)
    pair = [health.path_at(at, path.src, path.dst, path.medium, path.flow, when) for when in (before, after)]
    if pair[0] is None or pair[1] is None:
        st.caption("One of the two is no longer there: raw measurements expire.")
        return
    rows = hops.diff_rows(pair[0], pair[1])
    differs = sum(row["mark"] in "≠+−" for row in rows)
    first = path_change(pair[0], pair[1])
    st.caption(
        (f"{text.plural(differs, 'hop')} differ; the way certainly changed at hop {first}." if first else "")
        or ("The same way." if not differs else f"{text.plural(differs, 'hop')} differ, none of them certainly.")
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        {name: [row[name] for row in rows] for name in rows[0]},
        hide_index=True,
        height="content",
        placeholder=text.UNKNOWN,
        column_config={
            "mark": st.column_config.TextColumn("", width=34, help="= same router, ≠ another, + new, − gone, ? silent in one of the two"),
            "hop_before": number("Hop", width=52),
            "router_before": "Router before",
            "rtt_before": number("RTT (ms)", format="%.2f"),
            "hop_after": number("Hop", width=52),
            "router_after": "Router after",
            "rtt_after": number("RTT (ms)", format="%.2f"),
            "change_ms": number("Change (ms)", format="%+.2f"),
        },
    )


page()
