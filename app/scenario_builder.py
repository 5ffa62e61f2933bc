"""The upper half of the Scenario page: a scenario in the session, put together by form, by table, by file and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from app import decisions, frame, text
from app.frame import View
from app.scenario_form import EDITS, Field, from_address, rows_of, sentence, with_values
from app.whatif import case_names, read_document
from inventory.load import load
from records.errors import IsochroneError
from records.place import PROVIDERS

__all__ = ["build", "document_now", "edits_of", "fail", "is_burst", "pick_workload", "scenarios"]

_FIRST = "pop-cut-off"


def scenarios() -> list[str]:
    """The shipped scenarios that are lists of edits (a worked case has a kind instead)."""
    return [name for name in case_names() if "kind" not in read_document(name)]


def document_now() -> dict[str, Any]:
    """The scenario on the page: the session's; else the address's; else a shipped one."""
    entered = st.session_state.get("_entered", True) or "scenario" not in st.session_state
    word = st.query_params.get("s")
    if entered and word:
        with frame.guard():
            st.session_state["scenario"] = from_address(word)
    if "scenario" not in st.session_state:
        st.session_state["scenario"] = read_document(_FIRST)
    found: dict[str, Any] = st.session_state["scenario"]
    return found


def _put(document: Mapping[str, Any]) -> None:
    st.session_state["scenario"] = dict(document)
    st.session_state["json"] = json.dumps(document, indent=2)


def edits_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    edits = document.get("edits", [])
    return [edit for edit in edits if isinstance(edit, dict)] if isinstance(edits, list) else []


def is_burst(document: Mapping[str, Any]) -> bool:
    """Whether a scenario has something to be followed in time."""
    return any(edit.get("op") == "burst" for edit in edits_of(document))


def _with(edits: Sequence[Mapping[str, Any]]) -> None:
    _put({**st.session_state["scenario"], "edits": [dict(edit) for edit in edits]})


def fail(site: str) -> None:
    """What a click on a site of the map does: it fails, or stands again."""
    if not site:
        return
    edits = edits_of(st.session_state["scenario"])
    gone = {"op": "fail_site", "site": site}
    _with([edit for edit in edits if edit != gone] if gone in edits else [*edits, gone])


def _widget(field: Field, seen: View, key: str) -> Any:
    """The widget of one field; an optional one may be left empty. What has a name is found by it too, as on every page."""
    inventory = load()
    titles: dict[str, Callable[[str], str]] = {
        "site": lambda site: text.site_label(seen.sites.get(site), site),
        "provider": PROVIDERS.__getitem__,
        "workload": lambda name: inventory.workloads[name].title,
    }
    options: dict[str, list[str]] = {
        "site": sorted(site.id for site in seen.sites.values() if site.kind != "metro"),
        "provider": list(PROVIDERS),
        "country": sorted({site.country for site in (*inventory.pops, *inventory.regions) if site.country}),
        "choice": list(field.choices),
        "workload": list(inventory.workloads),
        "accelerator": list(inventory.accelerators),
    }
    if field.kind == "number":
        return st.number_input(field.title, value=float(field.usual), key=key, step=0.1, format="%g")
    if field.kind == "whole":
        return int(st.number_input(field.title, min_value=0, value=int(field.usual), key=key))
    if field.kind == "rules":
        return st.multiselect(field.title, list(inventory.rules), key=key)
    if field.kind == "text":
        return st.text_input(field.title, value=field.usual, key=key)
    return st.selectbox(
        field.title, options[field.kind], index=None if field.optional else 0, key=key, format_func=titles.get(field.kind, str)
    )


def pick_workload(document: Mapping[str, Any]) -> str:
    """The workload asked for: the list's, unless the scenario names its own, which counts; then the list says so."""
    own = document.get("workload")
    if not isinstance(own, str) or own not in load().workloads:  # a word that is no workload is refused where the scenario is worked
        return frame.pick_workload(width=260)
    st.selectbox(
        "Workload, named by the scenario",
        [own],
        format_func=lambda name: load().workloads[name].title,
        disabled=True,
        key=f"workload_of_{own}",
        width=260,
        help="This scenario says what is asked; take `workload` out of its JSON to choose here.",
    )
    return own


def _add(seen: View) -> None:
    with st.popover("Add a change", icon=":material/add:"):
        op = st.selectbox("Change", list(EDITS), format_func=lambda op: EDITS[op].title, key="op")
        values = {field.name: _widget(field, seen, f"field_{op}_{field.name}") for field in EDITS[op].fields}
        edit = {"op": op} | {name: value for name, value in values.items() if value not in (None, "", [])}
        if st.button("Add", type="primary", key="add"):
            problem = decisions.scenario_problem({"name": "new", "edits": [edit]}, list(seen.sites))
            if problem:
                frame.tell(problem)
            else:
                _with([*edits_of(st.session_state["scenario"]), edit])
                st.rerun()


def _open() -> None:
    chosen = st.session_state.get("shipped")
    if chosen:
        _put(read_document(chosen))


def _load_file() -> None:
    given = st.session_state.get("file")
    if given is None:
        return
    try:
        document = json.loads(given.getvalue())
    except ValueError as error:
        st.session_state["file_problem"] = f"{given.name} is not JSON: {error}"
        return
    if not isinstance(document, dict):
        st.session_state["file_problem"] = f"{given.name} holds a {type(document).__name__}, and a scenario is a JSON object"
        return
    st.session_state.pop("file_problem", None)
    _put(document)


def _typed() -> None:
    try:
        document = json.loads(st.session_state["json"])
    except ValueError as error:
        st.session_state["json_problem"] = f"Not JSON: {error}"
        return
    st.session_state.pop("json_problem", None)
    if isinstance(document, dict):
        st.session_state["scenario"] = document
    else:
        st.session_state["json_problem"] = "A scenario is a JSON object with a name and edits"


def _table(seen: View, edits: Sequence[Mapping[str, Any]]) -> None:
    """Every value of every change in one table, to be typed over; an empty cell takes an optional value out."""
    rows = rows_of(edits)
    if not rows:
        st.caption("No change has a value yet.")
        return
    shown = st.data_editor(
        rows,
        key=f"table_{hash(json.dumps(edits, sort_keys=True))}",  # new edits: a new table, without what was typed over the old ones
        hide_index=True,
        disabled=["number", "change", "field"],
        column_config={
            "number": st.column_config.NumberColumn("#", width=40),
            "change": "Change",
            "field": "What",
            "value": st.column_config.TextColumn("Value", help="Several rules with commas between them. Empty: not given."),
        },
    )
    try:
        changed = with_values(edits, [row["value"] for row in shown])
    except IsochroneError as error:
        frame.tell(error)
        return
    if changed == list(edits):
        return
    problem = decisions.scenario_problem({"name": "new", "edits": changed}, list(seen.sites))
    if problem:
        frame.tell(problem)
        return
    _with(changed)
    st.rerun()


def build(seen: View, document: Mapping[str, Any]) -> None:
    """What the scenario is: where it comes from, its edits, its text."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox("Start from", scenarios(), index=None, placeholder="A shipped scenario", key="shipped", on_change=_open, width=280)
        _add(seen)
        with st.popover("Open a file", icon=":material/upload_file:"):
            st.file_uploader("Scenario (JSON)", type="json", key="file", on_change=_load_file, max_upload_size=1)
        st.download_button(
            "Save",
            json.dumps(document, indent=2),
            file_name=f"{str(document.get('name', 'scenario')).replace('/', '-')}.json",
            mime="application/json",
            on_click="ignore",
            icon=":material/download:",
        )
    if problem := st.session_state.pop("file_problem", None):
        frame.tell(problem)
    edits = edits_of(document)
    if not edits:
        st.caption("No change yet: before and after are the same. Click a site on the map to fail it, or add a change.")
    for number, edit in enumerate(edits):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{number + 1}. {sentence(edit)}")
            if st.button("✕", key=f"drop_{number}", type="tertiary", help=f"Take change {number + 1} out"):
                _with([*edits[:number], *edits[number + 1 :]])
                st.rerun()
    with st.expander("As table"):
        _table(seen, edits)
    with st.expander("As JSON"):
        if "json" not in st.session_state:
            st.session_state["json"] = json.dumps(document, indent=2)
        st.text_area("Scenario", key="json", height=200, on_change=_typed, label_visibility="collapsed")
        if problem := st.session_state.get("json_problem"):
            frame.tell(problem)
