"""SQL: any question the other pages do not answer; read-only, with limits, on one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import streamlit as st

from app import data, frame, text
from app.charts import quick
from app.components import complete
from app.sql_examples import SQL_EXAMPLES, SQL_IMPORTED
from warehouse import output

ROW_LIMIT = 10_000
TIMEOUT_S = 10.0
#: A larger answer is not drawn: the browser would stand still, and Streamlit sends no more than 200 MB at once.
SHOWN_BYTES = 50_000_000


def _example() -> None:
    chosen = st.session_state.get("example")
    if chosen:
        st.session_state["q"] = SQL_EXAMPLES[chosen]


def group_of(name: str, kind: str) -> str:
    """The shelf a table or view stands on: what people ask first, first."""
    if name in ("links", "paths", "hops", "latest_ping", "agents", "imported_links", "data_dictionary"):
        return "Views for people"
    if name.startswith("valid_"):
        return "Measurements that count"
    return "Internal views" if kind == "view" else "Raw tables"


def tree_of(tables: Sequence[Any]) -> str:
    """The schema as nested HTML details, every word of the warehouse escaped."""
    shelves: dict[str, list[str]] = {name: [] for name in ("Views for people", "Measurements that count", "Raw tables", "Internal views")}
    for table in sorted(tables, key=lambda table: table.name):
        columns = "".join(
            f"<li><b>{escape(column.name)}</b> <i>{escape(column.type.lower())}</i><span>{escape(column.comment or '')}</span></li>"
            for column in table.columns
        )
        head = f"<summary><b>{escape(table.name)}</b> <span>{escape(table.comment or '')}</span></summary>"
        shelves[group_of(table.name, table.kind)].append(f"<details>{head}<ul>{columns}</ul></details>")
    return "".join(f"<h4>{escape(shelf)}</h4>{''.join(found)}" for shelf, found in shelves.items() if found)


def csv_text(table: Any) -> str:
    """A result as CSV, made when it is asked for: a large one takes a while."""
    return frame.csv_of(table.to_pydict())()


def _result(result: Any) -> None:
    table = result.table
    size = f"{text.plural(table.num_rows, 'row')}, {text.plural(table.num_columns, 'column')}"
    note = f"{size} in {result.elapsed_s * 1000:,.0f} ms · snapshot {result.snapshot_id}"
    if result.truncated:
        note += f" · **cut at {ROW_LIMIT:,} rows**"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(note)
        st.download_button(
            "CSV",
            lambda: csv_text(table),
            file_name="result.csv",
            mime="text/csv",
            on_click="ignore",
            icon=":material/download:",
            type="tertiary",
        )
        st.download_button(
            "Parquet",
            lambda: output.parquet(table),
            file_name="result.parquet",
            mime="application/vnd.apache.parquet",
            on_click="ignore",
            icon=":material/download:",
            type="tertiary",
        )
    if table.nbytes > SHOWN_BYTES:
        st.info(
            f"The answer has {text.bytes_(table.nbytes)}, and this page shows {text.bytes_(SHOWN_BYTES)} at most: save it as CSV or "
            "Parquet, or narrow the query.",
            icon=":material/info:",
        )
        return
    st.dataframe(table, hide_index=True, height=min(420, 37 * (max(1, table.num_rows) + 1)), placeholder="NULL")
    axes = quick.axes(table)
    if axes is not None and table.num_rows > 1:
        with st.expander("Chart", expanded=False):
            x_options, y_options = axes
            left, right, third = st.columns(3)
            x = left.selectbox("Across", x_options)
            y = right.multiselect("Up", [name for name in y_options if name != x], default=[name for name in y_options if name != x][:1])
            kind = third.segmented_control("As", ["line", "bar", "points"], default=quick.usual_kind(table, x), required=True)
            if y:
                st.plotly_chart(quick.figure(table, x, y, kind or "line", frame.theme()), config=frame.PLOTLY, alt="Chart of the result")


def page() -> None:
    """Editor and result on the left, the schema on the right."""
    frame.head(
        "SQL",
        f"One read-only statement in DuckDB's SQL; at most {ROW_LIMIT:,} rows and {TIMEOUT_S:g} s.",
    )
    seen = frame.view()
    left, right = st.columns([5, 3], gap="medium")
    with right:
        st.html(f'<div class="iso-tree">{tree_of(data.schema(seen.at))}</div>')
    with left:
        if "q" not in st.session_state and "q" not in st.query_params:
            usual = next(iter(SQL_EXAMPLES)) if data.counts(seen.at).get("ping") else SQL_IMPORTED
            st.session_state["q"] = SQL_EXAMPLES[usual]
        st.selectbox("Examples", list(SQL_EXAMPLES), index=None, placeholder="Start from an example", key="example", on_change=_example)
        st.text_area("Query", key="q", bind="query-params", height=190, label_visibility="collapsed", placeholder="SELECT ...")
        complete.offer("Query", complete.words_of(data.schema(seen.at)), frame.theme(), "complete")
        run = st.button("Run", type="primary", shortcut="Ctrl+Enter", icon=":material/play_arrow:")
        query = st.session_state["q"].strip()
        # Our own examples run at once, so that the page shows something; a query from an address waits for its reader.
        if query and (run or (query in SQL_EXAMPLES.values() and st.session_state.get("ran") != query)):
            st.session_state["ran"] = query
            with frame.guard(), st.spinner("Running"):
                st.session_state["result"] = None
                st.session_state["result"] = data.run_sql(seen.at, query, row_limit=ROW_LIMIT, timeout_s=TIMEOUT_S)
        if run and not query:
            st.info("Write a query first, or start from an example.", icon=":material/info:")
        if st.session_state.get("result") is not None:
            _result(st.session_state["result"])


page()
