"""The Overview's panel of alarms: what is open, by cause, the worst first."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import streamlit as st

from alarms.groups import severity_of
from alarms.keep import alarm_of
from alarms.model import KINDS, Alarm, rank_of
from app import data, frame, text
from app.data import Source
from app.frame import View
from warehouse import alarms

__all__ = ["group_table", "open_alarms", "panel"]

#: Not by colour alone.
_MARKS = {"critical": "✕ critical", "warning": "! warning", "info": "i info"}
_MOST = 8
#: Kinds as the panel counts them.
_WORDS = {
    "data_missing": "no data",
    "rtt_shift": "RTT moved",
    "loss_shift": "loss rose",
    "path_change": "path changed",
    "route_flip": "route flipped",
}


@st.cache_resource(show_spinner=False, max_entries=8)
def _open(key: tuple[str, int]) -> list[Alarm]:
    return [alarm_of(row) for row in alarms.alarm_rows(data.opened(key[0]))]


def open_alarms(at: Source) -> list[Alarm]:
    """The alarms that are open. Shared: nobody may change it."""
    return _open(at.key)


def group_table(found: list[Alarm], now: datetime) -> dict[str, list[Any]]:
    """The open alarms by cause, as columns; the worst first, then the newest. `place`: a page and its address."""
    groups: dict[str, list[Alarm]] = {}
    for alarm in found:
        groups.setdefault(alarm.group_key, []).append(alarm)
    order = sorted(groups.values(), key=lambda some: (-rank_of(severity_of(some)), -max(one.opened_at for one in some).timestamp()))
    return {
        "severity": [_MARKS[severity_of(some)] for some in order],
        "what": [_title(some) for some in order],
        "since": [text.age(max(0.0, (now - min(one.since for one in some)).total_seconds())) for some in order],
        "alarms": [len(some) for some in order],
        "taken": [", ".join(sorted({one.acknowledged_by for one in some if one.acknowledged_by})) for some in order],
        "place": [_place(some) for some in order],
    }


def _title(some: list[Alarm]) -> str:
    """What is wrong with a cause: an alarm's own words where it is alone, else how many there are of each kind."""
    if len(some) == 1:
        return some[0].summary
    counts = Counter(one.kind for one in some)
    said = ", ".join(f"{counts[kind]} × {_WORDS[kind]}" if counts[kind] > 1 else _WORDS[kind] for kind in KINDS if counts[kind])
    cause, _, name = some[0].group_key.partition(":")
    return f"{name.replace('|', ' ↔ ') if cause in {'site', 'pair'} else 'routes'}: {said}"


def _place(some: list[Alarm]) -> tuple[str, dict[str, str]]:
    """Where the worst of them is looked at."""
    worst = max(some, key=lambda one: rank_of(one.severity))
    if worst.kind == "route_flip":
        return "app_pages/routes.py", {"src": str(worst.src), "workload": str(worst.workload)}
    if worst.src and worst.dst:
        page = "app_pages/paths.py" if worst.kind == "path_change" else frame.PAIR_PAGE
        return page, {"src": worst.src, "dst": worst.dst, "medium": str(worst.medium)}
    return "app_pages/quality.py", {}


def panel(seen: View) -> None:
    """What is open now; a sentence where nothing is."""
    st.markdown("#### Alarms")
    found = open_alarms(seen.at)
    if not found:
        st.caption("No alarm is open. What alarms there are, and how to be told of them: `isochrone alarms --help`.")
        return
    table = group_table(found, seen.at.now)

    def go() -> None:
        st.session_state["alarm_go"] = table["place"][st.session_state["alarm_open"]["row"]]

    shown = {name: values[:_MOST] for name, values in table.items() if name != "place"}
    st.dataframe(
        {"open": ["Open"] * len(shown["what"]), **shown},
        hide_index=True,
        height="content",
        column_order=["open", "severity", "what", "since", "alarms", *(["taken"] if any(shown["taken"]) else [])],
        column_config={
            "open": st.column_config.ButtonColumn("", width=60, type="tertiary", on_click=go, key="alarm_open"),
            "severity": st.column_config.TextColumn("Severity", width=84),
            "what": st.column_config.TextColumn("What", width=430),
            "since": st.column_config.TextColumn("For", width=72, alignment="right"),
            "alarms": st.column_config.NumberColumn("Alarms", width=64),
            "taken": st.column_config.TextColumn("Taken on by", width=84),
        },
    )
    more = len(table["what"]) - _MOST
    if more > 0 or len(found) > len(table["what"]):
        with st.expander(f"All {text.plural(len(found), 'open alarm')}" + (f", {text.plural(more, 'more cause')}" if more > 0 else "")):
            members = sorted(found, key=lambda one: (-rank_of(one.severity), one.group_key, one.opened_at))
            st.dataframe(
                {
                    "Severity": [_MARKS[one.severity] for one in members],
                    "Alarm": [one.id for one in members],
                    "What": [one.summary for one in members],
                    "Taken on by": [one.acknowledged_by or "" for one in members],
                },
                hide_index=True,
                column_config={
                    "Severity": st.column_config.TextColumn(width=84),
                    "Alarm": st.column_config.TextColumn(width=112),
                    "What": st.column_config.TextColumn(width=430),
                    "Taken on by": st.column_config.TextColumn(width=84),
                },
            )
            st.caption("All of one, and who was told of it: `isochrone alarms show ALARM`.")
    if target := st.session_state.pop("alarm_go", None):
        page, address = target
        st.switch_page(page, query_params={"window": seen.window, **address})
