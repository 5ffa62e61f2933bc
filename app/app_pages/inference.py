"""Inference: how soon and how fast each serving site answers, with the network and the machine apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import address, frame, health, text
from app.theme import PARTS, Theme

Columns = Mapping[str, Sequence[Any]]

SHOWN = 24


#: The parts of a bar: column, title, colour; setup is of cold connections only, and no part of the TTFT that is measured.
_PARTS = (
    ("setup_p50_ms", "Setup (DNS, TCP, TLS)", PARTS.index("connect")),
    ("network_p50_ms", "Network (one round trip)", PARTS.index("network")),
    ("machine_p50_ms", "Machine (queue and prefill)", PARTS.index("prefill")),
)


def _drawn(connection: str) -> tuple[tuple[str, str, int], ...]:
    return _PARTS if connection == "cold" else _PARTS[1:]


def _whole(rows: Columns, i: int) -> float | None:
    """The TTFT of a row whose network and machine cannot be told apart; None where they can, or where nothing answered."""
    if rows["network_p50_ms"][i] is not None or rows["machine_p50_ms"][i] is not None:
        return None
    found: float | None = rows["ttft_p50_ms"][i]
    return found


def chosen_rows(found: Columns, *, model: str, connection: str, by: str, site: str) -> dict[str, list[Any]]:
    """The rows of a model and kind of connection that end (by "dst") or begin (by "src") at a site, the longest bar first.

    A bar is as long as the parts that are known of it; where none is, the row comes last.
    """
    keep = [
        i
        for i in range(len(found["src"]))
        if found["model"][i] == model and found["connection"][i] == connection and (not site or found[by][i] == site)
    ]
    length = {i: sum(found[column][i] or 0.0 for column, _, _ in _drawn(connection)) + (_whole(found, i) or 0.0) for i in keep}
    keep.sort(key=lambda i: (-length[i], found["src"][i], found["dst"][i]))
    return {name: [values[i] for i in keep] for name, values in found.items()}


def split_figure(rows: Columns, theme: Theme, *, cold: bool) -> go.Figure:
    """One bar for each asker and server: setup (cold only), network, machine; medians, so that they need not add up exactly."""
    names = [
        f"{src} → {dst} · {text.MEDIUM_TITLES[medium]}" for src, dst, medium in zip(rows["src"], rows["dst"], rows["medium"], strict=True)
    ][:SHOWN]
    figure = go.Figure()
    bars = [(list(rows[column][:SHOWN]), title, theme.parts[colour]) for column, title, colour in _drawn("cold" if cold else "warm")]
    whole = [_whole(rows, i) for i in range(len(names))]
    if any(whole):
        bars.append((whole, "Network and machine, not told apart", theme.quiet))
    for sizes, title, colour in bars:
        figure.add_trace(
            go.Bar(
                y=names,
                x=sizes,
                orientation="h",
                name=title,
                marker={"color": colour, "line": {"color": theme.page, "width": 1}},
                hovertemplate=f"%{{y}}<br>{title}: <b>%{{x:.1f}} ms</b><extra></extra>",
            )
        )
    figure.update_layout(
        barmode="stack",
        height=110 + 24 * max(2, len(names)),
        bargap=0.3,
        margin={"l": 8, "r": 16, "t": 28, "b": 8},
        xaxis={
            "title": f"{'setup and ' if cold else ''}time to first token, medians of the parts (ms)",
            "gridcolor": theme.line,
            "zeroline": False,
        },
        yaxis={"autorange": "reversed", "automargin": True, "showgrid": False},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )
    return figure


def pool_table(found: Columns) -> dict[str, list[Any]]:
    """By serving site and model, over all askers: requests, errors, and the medians of the askers' machine part and TPOT."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(found["dst"], found["model"], strict=True)):
        groups.setdefault(key, []).append(i)

    def middle(name: str, rows: Sequence[int]) -> float | None:
        known = sorted(found[name][i] for i in rows if found[name][i] is not None)
        return known[(len(known) - 1) // 2] if known else None

    keys = sorted(groups)
    return {
        "dst": [dst for dst, _ in keys],
        "model": [model for _, model in keys],
        "requests": [sum(found["count"][i] for i in groups[key]) for key in keys],
        "errors": [sum(found["errors"][i] for i in groups[key]) for key in keys],
        "machine": [middle("machine_p50_ms", groups[key]) for key in keys],
        "tpot": [middle("tpot_p50_ms", groups[key]) for key in keys],
        "gap": [
            max((found["longest_gap_p95_ms"][i] for i in groups[key] if found["longest_gap_p95_ms"][i] is not None), default=None)
            for key in keys
        ],
        "tokens": [sum(found["output_tokens"][i] or 0 for i in groups[key]) for key in keys],
        "unstreamed": [sum(found["unstreamed"][i] for i in groups[key]) for key in keys],
    }


def _kpis(found: Columns) -> list[tuple[str, str, str, bool]]:
    requests, errors = sum(found["count"]), sum(found["errors"])
    known = [i for i in range(len(found["src"])) if found["ttft_p50_ms"][i] is not None]
    best = min(known, key=lambda i: found["ttft_p50_ms"][i], default=None)
    slow = max((i for i in known if found["machine_p50_ms"][i] is not None), key=lambda i: found["machine_p50_ms"][i], default=None)
    silent = sum(found["unstreamed"])

    def pair(i: int | None) -> str:
        return "no answer" if i is None else f"{found['src'][i]} → {found['dst'][i]}"

    return [
        (
            "Requests",
            text.count(requests),
            f"to {text.plural(len(set(found['dst'])), 'site')}, {text.plural(len(set(found['model'])), 'model')}",
            False,
        ),
        ("Failed", text.percent(errors / requests) if requests else text.UNKNOWN, f"{text.count(errors)} requests", bool(errors)),
        ("Least TTFT, setup apart", text.milliseconds(found["ttft_p50_ms"][best]) if best is not None else text.UNKNOWN, pair(best), False),
        ("Slowest machine", text.milliseconds(found["machine_p50_ms"][slow]) if slow is not None else text.UNKNOWN, pair(slow), False),
        ("Not streamed", text.count(silent), "answers in one piece", bool(silent)),
    ]


def page() -> None:
    """The figures, one bar for each asker and server, and every pool in a table."""
    frame.head("Inference", "Is a slow first token the network's or the machine's?")
    seen = frame.view()
    found = health.pools(seen.at, seen.window)
    if not found["src"]:
        frame.next_step(
            f"No inference request in this window ({text.WINDOW_TITLES[seen.window].lower()}). Ask a server, or give an agent targets:",
            "isochrone infer http://HOST:PORT/v1 --store",
        )
        return
    frame.strip(_kpis(found))
    models = sorted(set(found["model"]))
    kinds = sorted(set(found["connection"]))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = address.choose("Model", models, key="model", usual=models[0], width=260)
        connection = address.choose("Connection", kinds, key="connection", usual=kinds[0], widget="segmented_control")
        by = address.choose(
            "List",
            ["dst", "src"],
            key="by",
            usual="dst",
            titles={"dst": "Askers of a server", "src": "Servers of an asker"}.__getitem__,
            widget="segmented_control",
        )
        sites = sorted({site for site, its in zip(found[by], found["model"], strict=True) if its == model})
        site = address.choose("Site", ["", *sites], key="site", usual="", titles=lambda site: site or "All sites", width=220)
    rows = chosen_rows(found, model=model, connection=connection, by=by, site=site)
    if rows["src"]:
        st.plotly_chart(
            split_figure(rows, frame.theme(), cold=connection == "cold"), key="split", config=frame.PLOTLY, alt="Parts of the TTFT by pair"
        )
        more = len(rows["src"]) - SHOWN
        st.caption(
            "Network is one smoothed round trip of the request's own TCP connection (TCP_INFO); machine is what is left of the time to "
            "first token after it. "
            + ("Setup comes before: it is in the bars, and in no TTFT of this page. " if connection == "cold" else "")
            + (f"The {SHOWN} slowest shown, {more} more in the table. " if more > 0 else "Slowest first. ")
            + text.ALL_MEDIA
        )
    else:
        st.caption("No request of this model over such a connection here.")
    st.markdown("#### Serving sites")
    st.dataframe(
        pool_table(found),
        hide_index=True,
        height="auto",
        placeholder=text.UNKNOWN,
        column_config={
            "dst": "Served at",
            "model": "Model",
            "requests": st.column_config.NumberColumn("Requests", format="localized"),
            "errors": st.column_config.NumberColumn("Failed"),
            "machine": st.column_config.NumberColumn(
                "Machine p50 (ms)", format="%.1f", help="Median over askers of TTFT less one round trip"
            ),
            "tpot": st.column_config.NumberColumn("Per token p50 (ms)", format="%.2f"),
            "gap": st.column_config.NumberColumn(
                "Longest gap p95 (ms)", format="%.1f", help="Of the asker that fares worst: the longest wait between two tokens"
            ),
            "tokens": st.column_config.NumberColumn("Tokens out", format="localized"),
            "unstreamed": st.column_config.NumberColumn("In one piece"),
        },
    )
    st.markdown("#### Askers")
    table = {
        name: rows[name]
        for name in (
            "src",
            "dst",
            "medium",
            "count",
            "errors",
            "setup_p50_ms",
            "network_p50_ms",
            "machine_p50_ms",
            "ttft_p50_ms",
            "ttft_p95_ms",
            "tpot_p50_ms",
        )
    }
    st.dataframe(
        table,
        hide_index=True,
        height="auto",
        placeholder=text.UNKNOWN,
        column_config={"src": "From", "dst": "Served at", "medium": "Medium", "count": "Requests", "errors": "Failed"}
        | {
            f"{name}_ms": st.column_config.NumberColumn(title, format="%.1f")
            for name, title in (
                ("setup_p50", "Setup p50 (ms)"),
                ("network_p50", "Network p50 (ms)"),
                ("machine_p50", "Machine p50 (ms)"),
                ("ttft_p50", "TTFT after setup p50 (ms)"),
                ("ttft_p95", "p95 (ms)"),
                ("tpot_p50", "Per token (ms)"),
            )
        },
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "CSV", frame.csv_of(table), file_name="inference.csv", mime="text/csv", on_click="ignore", icon=":material/download:"
        )
        st.caption(f"{text.WINDOW_TITLES[seen.window]}, snapshot {seen.at.snapshot}.")


page()
