"""Completion for the SQL page's text area: tables, columns and the words of the language, offered while one types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st

from app.theme import Theme

__all__ = ["KEYWORDS", "offer", "words_of"]

#: The words of DuckDB's SQL that a question here is made of.
KEYWORDS = (
    *("SELECT", "FROM", "WHERE", "GROUP BY", "GROUP BY ALL", "ORDER BY", "HAVING", "LIMIT", "JOIN", "LEFT JOIN", "USING", "ASOF JOIN"),
    *(
        "WITH",
        "UNION ALL",
        "DISTINCT",
        "FILTER",
        "OVER",
        "PARTITION BY",
        "QUALIFY",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "BETWEEN",
        "INTERVAL",
    ),
    *(
        "count(*)",
        "avg",
        "min",
        "max",
        "sum",
        "median",
        "quantile_cont",
        "quantile_disc",
        "arg_max",
        "time_bucket",
        "date_trunc",
        "unnest",
        "now()",
    ),
)
_HERE = Path(__file__).parent


def words_of(tables: Iterable[Any]) -> list[tuple[str, str]]:
    """(word, what it is): tables and views first, then columns once each with the tables that have them, then keywords."""
    columns: dict[str, list[str]] = {}
    names: list[tuple[str, str]] = []
    for table in sorted(tables, key=lambda table: table.name):
        names.append((table.name, table.kind))
        for column in table.columns:
            columns.setdefault(column.name, []).append(table.name)
    found = [
        (name, f"column of {owners[0]}" + (f" and {len(owners) - 1} more" if len(owners) > 1 else ""))
        for name, owners in sorted(columns.items())
    ]
    return [*names, *found, *((word, "SQL") for word in KEYWORDS)]


@lru_cache(maxsize=1)
def _component() -> Any:
    return st.components.v2.component(
        "isochrone_complete",
        html='<ul class="complete" role="listbox" hidden></ul>',
        css=(_HERE / "complete.css").read_text("utf-8"),
        js=(_HERE / "complete.js").read_text("utf-8"),
    )


def offer(label: str, words: Sequence[tuple[str, str]], theme: Theme, key: str) -> None:
    """Offer words in the text area of that label, wherever on the page it is."""
    colours = {name: getattr(theme, name) for name in ("page", "text", "line", "muted", "ocean", "accent")}
    _component()(data={"label": label, "words": [list(word) for word in words], "colours": colours}, key=key, height=0)
