"""What a page shows is in its address, so that a link sent to a colleague shows the same.

Streamlit can bind a widget to the address itself, but writes what the list *reads* ("sin · Singapore"), which breaks when a
title changes and cannot be typed. Here the value goes in (``?src=sin``). An address wins when a page is entered;
after that the widget does. A value that is not among the options is named, and the usual one is shown; so is what Streamlit's own binding
(numbers, switches, lists of several) had to drop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st

__all__ = ["choose", "enter", "entered"]

T = TypeVar("T", str, int)


def enter(page: str) -> None:
    """Say which page runs; after a change of page each list takes its value from the address, once."""
    entered = st.session_state.get("_page") != page
    if entered:
        st.session_state["_taken"] = set()
    st.session_state["_entered"] = entered
    st.session_state["_page"] = page
    st.session_state["_asked"] = {key: st.query_params.get_all(key) for key in st.query_params} if entered else {}


def entered() -> None:
    """At the end of the run that entered a page: name what its address asked for and none of its bound widgets could take."""
    taken: set[str] = st.session_state.get("_taken", set())
    for key, asked in st.session_state.pop("_asked", {}).items():
        if key not in taken and key in st.session_state and not _is_kept(asked, st.session_state[key]):
            _refuse(key, ", ".join(asked), _written(st.session_state[key]))


def _is_kept(asked: Sequence[str], value: object) -> bool:
    """Whether a widget's value is what an address asked for; free text is whatever was asked."""
    if isinstance(value, list | tuple):
        return {str(one) for one in value} >= {one for one in asked if one}
    if isinstance(value, bool):
        return asked[-1].lower() in (("true", "1", "on", "yes") if value else ("false", "0", "off", "no", ""))
    if value is None or isinstance(value, int | float):
        try:
            return float(asked[-1]) == value
        except ValueError:
            return value is None and not asked[-1]
    return True


def _written(value: object) -> str:
    """A widget's value in words."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def _refuse(key: str, asked: str, shown: str) -> None:
    """Name a value of the address that cannot be had; as code, since whoever made the link chose its text."""
    said = f"{key}={asked}".replace("`", "'").replace("\n", " ")
    said = said if len(said) <= 80 else f"{said[:79]}…"
    st.toast(f"`{said}` in the address is not among the choices here; showing {shown}", icon=":material/error:", duration="long")


def choose(
    label: str,
    options: Sequence[T],
    *,
    key: str,
    usual: T,
    titles: Callable[[T], str] = str,
    widget: str = "selectbox",
    always: bool = False,
    **settings: Any,
) -> T:
    """One of `options`, by the widget ``selectbox`` or ``segmented_control``, kept in the address under `key`.

    usual   what is chosen when the address does not say; left out of the address unless `always`
    titles  how an option reads
    """
    known = {str(option): option for option in options}
    asked = st.query_params.get(key)
    taken: set[str] = st.session_state.setdefault("_taken", set())
    if key not in taken or key not in st.session_state:
        taken.add(key)
        if asked in known:
            st.session_state[key] = known[asked]
        elif asked is not None:
            _refuse(key, asked, titles(usual))
    if st.session_state.get(key) not in options:
        st.session_state[key] = usual
    if widget == "segmented_control":
        chosen = st.segmented_control(label, list(options), key=key, required=True, format_func=titles, **settings)
    else:
        chosen = st.selectbox(label, list(options), key=key, format_func=titles, **settings)
    value: T = usual if chosen is None else chosen
    if always or value != usual:
        st.query_params[key] = str(value)
    else:
        st.query_params.pop(key, None)
    return value
