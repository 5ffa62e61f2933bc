"""What a page shows is in its address, so that a link sent to a colleague shows the same.

Streamlit can bind a widget to the address itself, but writes what the list *reads* ("sin · Singapore"), which breaks when a
title changes and cannot be typed. Here the value goes in (``?src=sin``). An address wins when a page is entered;
after that the widget does. A value that is not among the options is named, and the usual one is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st

__all__ = ["choose", "enter"]

T = TypeVar("T", str, int)


def enter(page: str) -> None:
    """Say which page runs; after a change of page each list takes its value from the address, once."""
    entered = st.session_state.get("_page") != page
    if entered:
        st.session_state["_taken"] = set()
    st.session_state["_entered"] = entered
    st.session_state["_page"] = page


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
            st.toast(
                f"{key}={asked} in the address is not among the choices here; showing {usual}", icon=":material/error:", duration="long"
            )
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
