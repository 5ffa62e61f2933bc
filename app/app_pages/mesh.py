"""Mesh: the RTT of every pair at one look; which are bad, which nobody measures."""

from __future__ import annotations

import streamlit as st

from app import address, frame, metrics, text
from app.components import heatmap
from app.frame import View
from records.link import LinkEstimate
from records.units import ms

GRIDS = {
    "pop-region": ("PoP × region", "pop", "region"),
    "region-pop": ("Region × PoP", "region", "pop"),
    "pop-pop": ("PoP × PoP", "pop", "pop"),
    "region-region": ("Region × region", "region", "region"),
    "any": ("All", "any", "any"),
}


def grids_with_data(seen: View, links: list[LinkEstimate]) -> list[str]:
    """The grids that hold at least one link, in the order of GRIDS."""
    places = seen.sites
    kinds = {(places[link.src].kind, places[link.dst].kind) for link in links if link.src in places and link.dst in places}
    return [
        name
        for name, (_, row, column) in GRIDS.items()
        if any(row in ("any", source) and column in ("any", target) for source, target in kinds)
    ]


def table_of(grid: heatmap.Grid) -> dict[str, list[object]]:
    """The known cells of a grid as columns, for the table and the download."""
    known = [link for link in grid.cells if link is not None]
    return {
        "src": [link.src for link in known],
        "dst": [link.dst for link in known],
        "medium": [link.medium for link in known],
        "p50_ms": [ms(link.rtt_p50_ns) for link in known],
        "p95_ms": [ms(link.rtt_p95_ns) for link in known],
        "loss_ratio": [link.loss_ratio for link in known],
        "fibre_floor_ms": [ms(link.fibre_floor_ns) for link in known],
        "inflation": [metrics.METRICS["inflation"].read(link) for link in known],
        "age_s": [link.age_s for link in known],
        "samples": [link.sample_count for link in known],
        "gate": [link.gate for link in known],
    }


def page() -> None:
    """Controls, the grid, and the same numbers as a table."""
    frame.head(
        "Mesh",
        "One cell for each pair, from the row to the column. Grey is not measured, which is not zero. Click a cell to open it.",
    )
    seen = frame.view()
    frame.need_links(seen)
    offered = grids_with_data(seen, seen.links)
    if not offered:
        frame.next_step(
            "No link here joins two known places: `isochrone inventory list pops` and `list regions` name those that are known."
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = address.choose(
            "Grid", offered, key="grid", usual=offered[0], titles=lambda name: GRIDS[name][0], widget="segmented_control", always=True
        )
        metric_name = address.choose(
            "Metric",
            list(metrics.METRICS),
            key="metric",
            usual="p50",
            titles=lambda name: metrics.METRICS[name].title,
            widget="segmented_control",
        )
        everything = st.toggle(
            "Kept out",
            key="gated",
            bind="query-params",
            help="Show links that a gate keeps out of routes as well. Off, such a pair has no data.",
        )
        as_table = st.toggle("Table", key="table", bind="query-params")
    links = seen.links if everything else seen.usable
    metric = metrics.METRICS[metric_name]
    _, row_kind, column_kind = GRIDS[name]
    grid = heatmap.grid(list(seen.sites.values()), links, row_kind, column_kind)
    if not len(grid):
        frame.next_step("Every link of this grid is kept out by a gate; the Overview says which. Show them with the switch above.")
        return
    pairs = len(grid) - sum(row.id == column.id for row in grid.rows for column in grid.columns)
    table = table_of(grid)
    if as_table:
        st.dataframe(
            table,
            hide_index=True,
            height=620,
            placeholder=text.UNKNOWN,
            column_config={
                "src": "From",
                "dst": "To",
                "medium": "Medium",
                "p50_ms": st.column_config.NumberColumn("p50 (ms)", format="%.2f"),
                "p95_ms": st.column_config.NumberColumn("p95 (ms)", format="%.2f"),
                "loss_ratio": st.column_config.NumberColumn("Loss", format="percent"),
                "fibre_floor_ms": st.column_config.NumberColumn("Floor (ms)", format="%.2f"),
                "inflation": st.column_config.NumberColumn("Inflation", format="%.2f×"),
                "age_s": st.column_config.NumberColumn("Age (s)", format="%.0f"),
                "samples": st.column_config.NumberColumn("Samples"),
                "gate": "Gate",
            },
        )
    else:
        cell = heatmap.draw(heatmap.heat_spec(grid, metric, frame.theme()), "mesh")
        if cell:
            frame.open_pair(*cell)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.download_button(
            "CSV",
            frame.csv_of(table),
            file_name=f"mesh-{name}-{seen.at.snapshot}.csv",
            mime="text/csv",
            on_click="ignore",
            icon=":material/download:",
        )
        st.caption(
            f"{grid.known:,} of {text.plural(pairs, 'ordered pair')} measured · {metric.title}: {metric.explain} · "
            f"{text.MEDIUM_TITLES[seen.medium]}, {text.WINDOW_TITLES[seen.window].lower()} · snapshot {seen.at.snapshot}"
        )


page()
