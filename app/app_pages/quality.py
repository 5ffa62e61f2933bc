"""Data quality: what is kept out and why, what was refused, when nothing was measured, how the numbers were timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app import data, frame, health, metrics, text
from app.frame import View
from app.theme import Theme
from records.link import GATES, LinkEstimate
from records.units import ms

SOURCE_TITLES = {
    "kernel_txrx": "kernel, both ways",
    "kernel_rx": "kernel, reply only",
    "user": "user space",
    None: "not said",
}


def gate_rows(links: Sequence[LinkEstimate]) -> dict[str, list[Any]]:
    """Every gate with the links it keeps out; gates without any too, for nothing found is worth knowing."""
    found = Counter(link.gate for link in links)
    return {
        "gate": [text.GATE_TITLES[gate] for gate in GATES],
        "links": [found[gate] for gate in GATES],
        "why": [GATES[gate] for gate in GATES],
    }


def reason(link: LinkEstimate, back: LinkEstimate | None) -> str:
    """The numbers of a link's verdict (routing.gates); `back` is the other direction, None where nobody measured it."""
    if link.gate == "asymmetric" and back is not None:
        # The gate holds the least RTTs against each other, and the medians where one has no least.
        least = link.rtt_min_ns is not None and back.rtt_min_ns is not None
        mine_ns, other_ns = (link.rtt_min_ns, back.rtt_min_ns) if least else (link.rtt_p50_ns, back.rtt_p50_ns)
        return f"{'least' if least else 'p50'} {text.milliseconds(ms(mine_ns))}, back {text.milliseconds(ms(other_ns))}"
    if link.gate == "faster_than_light":
        known = "least" if link.rtt_min_ns is not None else "p50"
        rtt_ns = link.rtt_min_ns if link.rtt_min_ns is not None else link.rtt_p50_ns
        return f"{known} {text.milliseconds(ms(rtt_ns))}, light takes {text.milliseconds(ms(link.fibre_floor_ns))}"
    if link.gate == "stale":
        return f"newest sample {text.age(link.age_s)} ago"
    if link.gate == "thin":
        return "no RTT" if link.sample_count is None else text.plural(link.sample_count, "sample")
    return text.GATE_TITLES[link.gate]


def kept_out(links: Sequence[LinkEstimate]) -> dict[str, list[Any]]:
    """The links that did not pass, with the numbers they were judged by: an RTT crosses both directions, so the other one is beside it."""
    rows = [link for link in links if link.gate != "ok"]
    by_key = {link.key: link for link in links} if rows else {}
    backs = [by_key.get((link.dst, link.src, link.medium)) for link in rows]
    return {
        "gate": [text.GATE_TITLES[link.gate] for link in rows],
        "from": [link.src for link in rows],
        "to": [link.dst for link in rows],
        "medium": [text.MEDIUM_TITLES[link.medium] for link in rows],
        "reason": [reason(link, back) for link, back in zip(rows, backs, strict=True)],
        "min_ms": [ms(link.rtt_min_ns) for link in rows],
        "p50_ms": [ms(link.rtt_p50_ns) for link in rows],
        "back_ms": [None if back is None else ms(back.rtt_p50_ns) for back in backs],
        "floor_ms": [ms(link.fibre_floor_ns) for link in rows],
        "samples": [link.sample_count for link in rows],
        "age": [text.age(link.age_s) for link in rows],
    }


def gap_figure(found: Mapping[str, Sequence[Any]], since: datetime, until: datetime, theme: Theme) -> go.Figure:
    """One row for each source, one cell for each bucket of time: packets sent; a hole is a gap."""
    names = sorted(set(found["src"]))
    grid = np.full((len(names), health.GAP_BUCKETS), np.nan)
    row = {name: i for i, name in enumerate(names)}
    for name, slot, count in zip(found["src"], found["slot"], found["sent"], strict=True):
        if 0 <= slot < health.GAP_BUCKETS:
            grid[row[name], slot] = count
    used = np.flatnonzero(~np.isnan(grid).all(axis=0))
    last = int(used[-1]) + 1 if len(used) else health.GAP_BUCKETS
    step = (until - since) / health.GAP_BUCKETS
    times = [since + step * (i + 0.5) for i in range(last)]
    scale = [[i / (len(theme.sequence) - 1), colour] for i, colour in enumerate(theme.sequence)]
    figure = go.Figure(
        go.Heatmap(
            z=grid[:, :last],
            x=times,
            y=names,
            colorscale=scale,
            zmin=0,
            xgap=1,
            ygap=1,
            hoverongaps=False,
            colorbar={"title": {"text": "packets", "side": "right"}, "thickness": 10, "outlinewidth": 0},
            hovertemplate="%{y}, around %{x|%d %b %H:%M:%S}: <b>%{z:,}</b> packets<extra></extra>",
        )
    )
    figure.update_layout(
        height=90 + 17 * max(4, len(names)),
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        plot_bgcolor=theme.no_data,
        xaxis={"title": "time (UTC)", "showgrid": False},
        yaxis={"autorange": "reversed", "showgrid": False, "automargin": True, "dtick": 1},
    )
    return figure


def holes(found: Mapping[str, Sequence[Any]]) -> list[tuple[str, int]]:
    """(source, empty buckets between its first and last packet), those with any, the most first."""
    slots: dict[str, set[int]] = {}
    for name, slot in zip(found["src"], found["slot"], strict=True):
        slots.setdefault(name, set()).add(slot)
    gaps = {name: max(seen) - min(seen) + 1 - len(seen) for name, seen in slots.items()}
    return sorted(((name, count) for name, count in gaps.items() if count), key=lambda item: (-item[1], item[0]))


def timing_table(found: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Packets by how they were timed, over all agents, with the share."""
    total: Counter[str | None] = Counter()
    agents: dict[str | None, set[str]] = {}
    for agent, source, count in zip(found["agent"], found["ts_source"], found["n"], strict=True):
        total[source] += count
        agents.setdefault(source, set()).add(agent)
    every = sum(total.values()) or 1
    return {
        "timed": [SOURCE_TITLES.get(source, str(source)) for source, _ in total.most_common()],
        "packets": [count for _, count in total.most_common()],
        "share": [count / every * 100 for _, count in total.most_common()],
        "agents": [len(agents[source]) for source, _ in total.most_common()],
    }


def _kpis(seen: View) -> list[tuple[str, str, str, bool]]:
    measured = [link for link in seen.all_links if link.evidence == "measured"]
    places = {end for link in measured for end in (link.src, link.dst)}
    sources = {link.src for link in measured}
    pairs = {(link.src, link.dst) for link in measured}
    possible = len(sources) * max(0, len(places) - 1)
    out = [link for link in measured if link.gate != "ok"]
    refused = data.rejects(seen.at)
    ages = sorted(link.age_s for link in measured if link.age_s is not None)
    samples = sorted(link.sample_count for link in measured if link.sample_count is not None)
    return [
        (
            "Pairs measured",
            text.percent(len(pairs) / possible) if possible else text.UNKNOWN,
            f"{text.count(len(pairs))} of {text.count(possible)}",
            False,
        ),
        ("Kept out", text.count(len(out)), text.percent(len(out) / len(measured)) + " of links" if measured else "no link", bool(out)),
        ("Refused rows", text.count(sum(refused.values())), text.plural(len(refused), "reason"), bool(refused)),
        (
            "Age, median",
            text.age(ages[len(ages) // 2]) if ages else text.UNKNOWN,
            f"oldest {text.age(ages[-1])}" if ages else "imports without a date",
            False,
        ),
        (
            "Samples, median",
            text.count(samples[len(samples) // 2]) if samples else text.UNKNOWN,
            f"least {samples[0]:,}" if samples else "imports",
            False,
        ),
    ]


def _gates(seen: View) -> None:
    st.markdown("#### Gates")
    st.dataframe(
        gate_rows(seen.all_links),
        hide_index=True,
        height="content",
        column_config={
            "gate": st.column_config.TextColumn("Gate", width=120),
            "links": st.column_config.NumberColumn("Links", width=80),
            "why": st.column_config.TextColumn("Rule", width=700),
        },
    )
    st.markdown("#### Kept out of routes")
    table = kept_out(seen.all_links)
    if not table["gate"]:
        st.caption(f"Nothing: all {text.plural(len(seen.all_links), 'link')} passed every gate.")
        return
    st.dataframe(
        table,
        hide_index=True,
        height="auto",
        placeholder=text.UNKNOWN,
        column_config={
            "gate": "Gate",
            "from": "From",
            "to": "To",
            "medium": "Medium",
            "reason": st.column_config.TextColumn("Because", width=215),
            "min_ms": st.column_config.NumberColumn("Least (ms)", format="%.2f"),
            "p50_ms": st.column_config.NumberColumn("p50 (ms)", format="%.2f"),
            "back_ms": st.column_config.NumberColumn("p50 back (ms)", format="%.2f"),
            "floor_ms": st.column_config.NumberColumn("Floor (ms)", format="%.2f"),
            "samples": st.column_config.NumberColumn("Samples"),
            "age": st.column_config.TextColumn("Age", alignment="right"),
        },
    )
    st.download_button("CSV", frame.csv_of(table), file_name="kept-out.csv", mime="text/csv", on_click="ignore", icon=":material/download:")


def _gaps(seen: View) -> None:
    st.markdown("#### When packets were sent")
    found, since, until = health.sent(seen.at, seen.window)
    if not found["src"]:
        st.caption("No ping in this window; imports have no packets.")
        return
    st.plotly_chart(
        gap_figure(found, since, until, frame.theme()), key="gaps", config=frame.PLOTLY, alt="Packets by source and time; holes are gaps"
    )
    empty = holes(found)
    step = (until - since) / health.GAP_BUCKETS
    said = ", ".join(f"{name} {text.age(count * step.total_seconds())}" for name, count in empty[:6])
    st.caption(
        f"Cells of {text.age(step.total_seconds())}. "
        + (
            f"Silent between two packets: {said}{' and more' if len(empty) > 6 else ''}."
            if empty
            else "No source was silent between its first and last packet."
        )
    )


def _refused(seen: View) -> None:
    st.markdown("#### Refused rows")
    found = health.rejected(seen.at)
    if not found["reason"]:
        st.caption("None: everything that arrived was stored.")
        return
    counts = data.rejects(seen.at)
    st.caption(", ".join(f"{text.count(number)} × {reason}" for reason, number in counts.items()) + ". The newest 200:")
    st.dataframe(
        {name: found[name] for name in ("received_at", "source", "agent", "line_number", "reason", "detail", "line")},
        hide_index=True,
        height="auto",
        placeholder=text.UNKNOWN,
        column_config={
            "received_at": st.column_config.DatetimeColumn("Received (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC"),
            "source": "Source",
            "agent": "Agent",
            "line_number": st.column_config.NumberColumn("Line", width=60),
            "reason": "Reason",
            "detail": st.column_config.TextColumn("What", width="large"),
            "line": st.column_config.TextColumn("The row", width="medium"),
        },
    )


def page() -> None:
    """Figures, gates, gaps, refused rows, timing, evidence."""
    frame.head("Data quality", "What do the numbers rest on, and what is missing?")
    seen = frame.view()
    frame.need_links(seen)
    frame.strip(_kpis(seen))
    _gates(seen)
    _gaps(seen)
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("#### How RTTs were timed")
        table = timing_table(health.timing(seen.at, seen.window))
        if table["timed"]:
            st.dataframe(
                table,
                hide_index=True,
                height="content",
                column_config={
                    "timed": "Stamps from",
                    "packets": st.column_config.NumberColumn("Packets", format="localized"),
                    "share": st.column_config.NumberColumn("Share (%)", format="%.2f"),
                    "agents": st.column_config.NumberColumn("Agents"),
                },
            )
            st.caption("Answered packets of the newest hour in the window.")
        else:
            st.caption("No answered packet in the newest hour of the window.")
    with right:
        st.markdown("#### Evidence")
        kinds = Counter((link.evidence, link.rtt_from) for link in seen.all_links)
        st.dataframe(
            {
                "evidence": [text.EVIDENCE_MARKS[evidence] for (evidence, _), _ in kinds.most_common()],
                "from": [str(source) if source else text.UNKNOWN for (_, source), _ in kinds.most_common()],
                "links": [count for _, count in kinds.most_common()],
            },
            hide_index=True,
            height="content",
            column_config={"evidence": "Evidence", "from": "RTT from", "links": st.column_config.NumberColumn("Links")},
        )
        worst = metrics.worst_first(seen.usable, metrics.METRICS["age"])[:1]
        if worst:
            st.caption(f"Oldest link in use: {worst[0].src} → {worst[0].dst}, {text.age(worst[0].age_s)}.")
    _refused(seen)
    st.caption(f"{text.WINDOW_TITLES[seen.window]} (gaps: a week at most), snapshot {seen.at.snapshot}.")


page()
