"""The Overview's panel of alarms: what is open, by cause, the worst first."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import streamlit as st

from alarms.groups import severity_of
from alarms.keep import alarm_of
from alarms.model import Alarm, rank_of
from app import data, frame, text
from app.data import Source
from app.frame import View
from warehouse import alarms

__all__ = ["group_table", "open_alarms", "panel"]

#: Not by colour alone.
_MARKS = {"critical": "✕ critical", "warning": "! warning", "info": "i info"}
_MOST = 8


@st.cache_data(show_spinner=False, max_entries=8)
def _open(key: tuple[str, int]) -> list[Alarm]:
    return [alarm_of(row) for row in alarms.alarm_rows(data.opened(key[0]))]


def open_alarms(at: Source) -> list[Alarm]:
    """The alarms that are open."""
    return _open(at.key)


def group_table(found: list[Alarm], now: datetime) -> dict[str, list[Any]]:
    """The open alarms by cause, as columns; the worst first, then the newest. `place` is where each is looked at: a pair, or nothing."""
    groups: dict[str, list[Alarm]] = {}
    for alarm in found:
        groups.setdefault(alarm.group_key, []).append(alarm)
    order = sorted(groups.values(), key=lambda some: (-rank_of(severity_of(some)), -max(one.opened_at for one in some).timestamp()))
    return {
        "severity": [_MARKS[severity_of(some)] for some in order],
        "what": [some[0].group_title for some in order],
        "since": [text.age(max(0.0, (now - min(one.since for one in some)).total_seconds())) for some in order],
        "alarms": [len(some) for some in order],
        "taken": [", ".join(sorted({one.acknowledged_by for one in some if one.acknowledged_by})) for some in order],
        "place": [next(((one.src, one.dst) for one in some if one.src and one.dst), None) for some in order],
    }


def panel(seen: View) -> None:
    """What is open now; a sentence where nothing is."""
    st.markdown("#### Alarms")
    found = open_alarms(seen.at)
    if not found:
        st.caption("No alarm is open. What alarms there are, and how to be told of them: `isochrone alarms --help`.")
        return
    table = group_table(found, seen.at.now)

    def go() -> None:
        st.session_state["alarm_go"] = table["place"][st.session_state["alarm_open"]["row"]] or "agent"

    shown = {name: values[:_MOST] for name, values in table.items() if name != "place"}
    st.dataframe(
        {"open": ["Open"] * len(shown["what"]), **shown},
        hide_index=True,
        height="content",
        column_order=["open", "severity", "what", "since", "alarms", *(["taken"] if any(shown["taken"]) else [])],
        column_config={
            "open": st.column_config.ButtonColumn("", width=60, type="tertiary", on_click=go, key="alarm_open"),
            "severity": st.column_config.TextColumn("Severity", width=84),
            "what": st.column_config.TextColumn("What", width=340),
            "since": st.column_config.TextColumn("For", width=66, alignment="right"),
            "alarms": st.column_config.NumberColumn("Alarms", width=60),
            "taken": st.column_config.TextColumn("Taken on by", width="small"),
        },
    )
    more = len(table["what"]) - _MOST
    if more > 0 or len(found) > len(table["what"]):
        with st.expander(f"All {text.plural(len(found), 'open alarm')}" + (f", {more} more causes" if more > 0 else "")):
            members = sorted(found, key=lambda one: (-rank_of(one.severity), one.group_key, one.opened_at))
            st.dataframe(
                {
                    "Severity": [_MARKS[one.severity] for one in members],
                    "Alarm": [one.id for one in members],
                    "What": [one.summary for one in members],
                },
                hide_index=True,
            )
    if target := st.session_state.pop("alarm_go", None):
        if target == "agent":
            st.switch_page("app_pages/quality.py")
        frame.open_pair(*target)
