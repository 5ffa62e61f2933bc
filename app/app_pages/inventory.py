"""Inventory: the places, links, prices, devices, workloads and rules that every answer rests on, with their sources."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import address, frame, text
from app.components import netmap
from app.inventory_rows import KINDS
from inventory.load import load, own_folder
from inventory.residency import COUNSEL

TITLES = {
    "pops": "PoPs",
    "regions": "Cloud regions",
    "metros": "Metros",
    "endpoints": "Endpoints",
    "onramps": "On-ramps",
    "links": "Links",
    "prices": "Egress prices",
    "compute-prices": "Compute prices",
    "currencies": "Currencies",
    "accelerators": "Accelerators",
    "models": "Models",
    "profiles": "Serving profiles",
    "workloads": "Workloads",
    "applications": "Applications",
    "pools": "Serving pools",
    "jurisdictions": "Jurisdictions",
    "country-groups": "Country groups",
    "rules": "Residency rules",
}
MAPPED = {"pops", "regions", "metros"}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def found_in(rows: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    """The rows that hold every word, in any column, whatever its case.

    >>> found_in([{"id": "sin", "name": "Singapore"}, {"id": "fra", "name": "Frankfurt"}], "SING")
    [{'id': 'sin', 'name': 'Singapore'}]
    """
    wanted = words.lower().split()
    return [row for row in rows if all(word in " ".join(map(str, row.values())).lower() for word in wanted)]


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns, lists as words."""
    return {name: [_plain(row[name]) for row in rows] for name in rows[0]} if rows else {}


def page() -> None:
    """Choose a table, look in it, see it on the map where it has coordinates."""
    frame.head("Inventory", "What every answer rests on; each figure with its source and date.")
    inventory = load()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = address.choose("Table", list(TITLES), key="kind", usual="pops", titles=TITLES.__getitem__, width=240)
        words = st.text_input("Find", key="find", bind="query-params", placeholder="words in any column", width=320)
    every = KINDS[kind](inventory)
    rows = found_in(every, words or "")
    if kind == "rules":
        st.warning(COUNSEL, icon=":material/gavel:")
    if not rows:
        st.info(
            f"No row of {TITLES[kind].lower()} holds {words!r}; {text.plural(len(every), 'row')} without the words.", icon=":material/info:"
        )
        return
    if kind in MAPPED:
        sites = {row["id"]: inventory.sites[row["id"]] for row in rows}
        netmap.draw(netmap.map_spec(sites, [], frame.theme(), height=340, alt=f"Map of {TITLES[kind]}"), f"inventory_{kind}")
    table = columns_of(rows)
    st.dataframe(table, hide_index=True, height=420 if len(rows) > 10 else "content", placeholder=text.UNKNOWN)
    folder = own_folder()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "CSV", frame.csv_of(table), file_name=f"{kind}.csv", mime="text/csv", on_click="ignore", icon=":material/download:"
        )
        st.caption(
            f"{text.plural(len(rows), 'row')}"
            + (f" of {len(every):,}" if len(rows) != len(every) else "")
            + (f"; your own tables from `{folder.name}` lie over the built-in ones" if folder is not None else "; the built-in inventory")
            + f". From a shell: `isochrone inventory list {kind} --json`. A dash is not known, which is not zero."
        )


page()
