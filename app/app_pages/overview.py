"""Overview: is anything wrong now, where, and how fresh is what we see?"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import streamlit as st

from app import address, alarm_panel, data, frame, health, metrics, picture, text, turns
from app.components import netmap
from app.frame import View
from records.link import GATES, LinkEstimate
from records.units import ms

REFRESH_S = 15
#: Less than this waits between two uploads as a rule, and is not worth a word.
SPOOL_REMARK_BYTES = 1_000_000
#: The standard deviation of normal noise over its median absolute deviation.
MAD_TO_SD = 1.4826
#: A change of loss worth a row.
LOSS_STEP = 0.01


def worst_table(links: list[LinkEstimate], limit: int = 12) -> dict[str, list[object]]:
    """The links furthest from the fibre floor, as columns; near pairs are left out, their ratio says little."""
    chosen = metrics.worst_first(links, metrics.METRICS["inflation"], near=False)[:limit]
    return {
        "open": ["Open"] * len(chosen),
        "from": [link.src for link in chosen],
        "to": [link.dst for link in chosen],
        "p50_ms": [ms(link.rtt_p50_ns) for link in chosen],
        "floor_ms": [ms(link.fibre_floor_ns) for link in chosen],
        "inflation": [metrics.METRICS["inflation"].read(link) for link in chosen],
        "loss_percent": [None if link.loss_ratio is None else link.loss_ratio * 100 for link in chosen],
        "medium": [text.MEDIUM_TITLES[link.medium] for link in chosen],
    }


def gate_table(links: tuple[LinkEstimate, ...]) -> dict[str, list[object]]:
    """How many links each gate keeps out, and why; only gates that keep something out."""
    found = Counter(link.gate for link in links)
    gates = [gate for gate in GATES if gate != "ok" and found[gate]]
    return {
        "gate": [text.GATE_TITLES[gate] for gate in gates],
        "links": [found[gate] for gate in gates],
        "why": [GATES[gate] for gate in gates],
    }


def remarks(reasons: list[str] | None, spool_bytes: int | None, dropped: int | None) -> str:
    """What an agent complains of: why it is degraded, what waits on its disk for the collector, what it had to drop."""
    words = list(reasons or [])
    if (spool_bytes or 0) >= SPOOL_REMARK_BYTES:
        words.append(f"{text.bytes_(spool_bytes)} waiting")
    if dropped:
        words.append(f"{dropped:,} dropped")
    return ", ".join(words)


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
    table = worst_table(seen.usable)
    st.markdown("#### Furthest from the fibre floor")
    if not table["from"]:
        st.caption("No link with a known median and a fibre floor of 2 ms or more in this window.")
        return

    def go() -> None:
        row = st.session_state["worst_open"]["row"]
        st.session_state["go"] = (table["from"][row], table["to"][row])

    st.dataframe(
        table,
        hide_index=True,
        height="content",
        placeholder=text.UNKNOWN,
        column_order=[name for name in table if name != "medium" or seen.medium == "any"],
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


def changed(found: data.Columns, paths: data.Columns, limit: int = 8) -> dict[str, list[object]]:
    """What is not as it was: links whose median or loss moved beyond their own noise, and pairs whose path changed, the greatest first.

    A median counts when it moved by 2 ms and 5 % and by three times its usual spread (median absolute deviation, scaled to a standard
    deviation); a loss when it rose or fell by a hundredth.
    """
    turned = dict(zip(zip(paths["src"], paths["dst"], paths["medium"], strict=True), paths["changes"], strict=True))
    rows = []
    for i, key in enumerate(zip(found["src"], found["dst"], found["medium"], strict=True)):
        delta, spread = found["change_ms"][i], (found["was_mad_ms"][i] or 0.0) * MAD_TO_SD
        moved = abs(delta) >= max(2.0, 0.05 * found["was_ms"][i], 3 * spread)
        lost = (found["now_loss"][i] or 0.0) - (found["was_loss"][i] or 0.0)
        if moved or abs(lost) >= LOSS_STEP or key in turned:
            rows.append((abs(delta) + abs(lost) * 1000, key, i, lost))
    rows.sort(key=lambda row: (-row[0], row[1]))
    rows = rows[:limit]
    return {
        "from": [key[0] for _, key, _, _ in rows],
        "to": [key[1] for _, key, _, _ in rows],
        "medium": [text.MEDIUM_TITLES[key[2]] for _, key, _, _ in rows],
        "was": [found["was_ms"][i] for _, _, i, _ in rows],
        "now": [found["now_ms"][i] for _, _, i, _ in rows],
        "change": [found["change_ms"][i] for _, _, i, _ in rows],
        "loss": [lost * 100 for _, _, _, lost in rows],
        "path": [turned.get(key, 0) or None for _, key, _, _ in rows],
    }


def _changed(seen: View) -> None:
    st.markdown("#### Changed in the last hour")
    found, paths = health.changes(seen.at), health.path_changes(seen.at)
    if not found["src"]:
        turned = sum(paths["changes"])
        st.caption(
            "There is no hour to compare yet: it takes five minutes of this hour and of the day before it."
            + (
                f" {text.plural(len(paths['src']), 'pair')} changed paths, {'once' if turned == 1 else f'{turned:,} times'} in all."
                if turned
                else " No path changed."
            )
        )
        return
    table = changed(found, paths)
    if not table["from"]:
        st.caption(f"Nothing: {text.plural(len(found['src']), 'link')} are as they were in the day before.")
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
    fleet = data.agents(seen.at)
    st.markdown("#### Agents")
    if not fleet["agent"]:
        st.caption("No agent has reported yet. Start one with `isochrone agent run --config agent.toml`.")
    else:
        ages = fleet["age_s"]
        order = sorted(range(len(ages)), key=lambda i: -(ages[i] if ages[i] is not None else float("inf")))
        st.dataframe(
            {
                "state": [
                    "✕ silent"
                    if ages[i] is None or ages[i] > data.SILENT_AFTER_S
                    else "! degraded"
                    if fleet["grade"][i] == "degraded"
                    else "✓ ok"
                    for i in order
                ],
                "agent": [fleet["agent"][i] for i in order],
                "seen": [f"{text.age(ages[i])} ago" for i in order],
                "why": [remarks(fleet["reasons"][i], fleet["spool_bytes"][i], fleet["dropped_measurements"][i]) for i in order],
            },
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
    gates = gate_table(seen.all_links)
    if not gates["gate"]:
        st.caption(f"Nothing: all {text.plural(len(seen.all_links), 'link')} passed every gate.")
    else:
        st.dataframe(
            gates,
            hide_index=True,
            column_config={
                "gate": st.column_config.TextColumn("Gate"),
                "links": st.column_config.NumberColumn("Links", width=64),
                "why": st.column_config.TextColumn("Why", width="large"),
            },
        )
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
        frame.strip(picture.kpis(seen))
        if not seen.all_links:
            frame.need_links(seen)
        _map(seen, metrics.METRICS[metric], focus or None)


@st.fragment(run_every=REFRESH_S)
def _live(seen: View) -> None:
    turns.give_way()
    with frame.guard():
        fresh = data.source() or seen.at
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
