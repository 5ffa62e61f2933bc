"""What-if: a site fails. Which pairs lose their way, which are re-routed and by how much, and where requests go then."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import streamlit as st

from app import ahead, command_words, frame, metrics, planned, text
from app.components import netmap
from app.frame import View
from app.theme import Theme
from inventory.load import load
from records.place import Site
from routing.matrix import Matrix, MatrixRow
from routing.scenario import MatrixChange

MAP_HEIGHT = 330


def kind_of(change: MatrixChange, site: str) -> str:
    """``end`` when the failed site is an end of the pair, ``cut`` when nothing joins it any more, else ``moved``."""
    if site in (change.before.src, change.before.dst):
        return "end"
    return "cut" if change.after is None or not math.isfinite(change.delta_ms) else "moved"


def change_table(changes: Sequence[MatrixChange], site: str) -> dict[str, list[object]]:
    """Pairs that moved or were cut, the worst first; pairs that end at the failed site are only counted, they are all lost."""
    rows = [change for change in changes if kind_of(change, site) != "end"]
    return {
        "from": [change.before.src for change in rows],
        "to": [change.before.dst for change in rows],
        "state": ["✕ cut off" if kind_of(change, site) == "cut" else "↷ re-routed" for change in rows],
        "before_ms": [change.before.best_ms for change in rows],
        "after_ms": [change.after.best_ms if change.after else None for change in rows],
        "delta_ms": [change.delta_ms if math.isfinite(change.delta_ms) else None for change in rows],
        "via_before": [_via(change.before) for change in rows],
        "via_after": [
            (", ".join(change.after.relays) or "direct") if change.after and change.after.best_ms is not None else None for change in rows
        ],
    }


def _via(row: MatrixRow | None) -> str | None:
    return None if row is None or row.best_ms is None else ", ".join(row.relays) or "direct"


def _legs(row: MatrixRow) -> list[tuple[str, str]]:
    return list(itertools.pairwise((row.src, *row.relays, row.dst)))


def layers(
    before: Matrix, changes: Sequence[MatrixChange], site: str, theme: Theme
) -> tuple[list[netmap.DrawnLink], list[netmap.DrawnLink]]:
    """What the two maps draw, important first: what hangs on the site, then what carries the re-routed pairs; grey is not affected.

    More than LINK_LIMIT grey links would only hide the others, and are left out.
    """
    quiet = np.isfinite(before.direct_ms)
    for change in changes:
        quiet[before.index[change.before.src], before.index[change.before.dst]] = False
    hung = {_pair(leg) for change in changes for leg in _legs(change.before) if site in leg}
    around = {_pair(leg) for change in changes if change.after and change.after.best_ms is not None for leg in _legs(change.after)}
    ends = np.argwhere(np.triu(quiet | quiet.T, k=1))

    def drawn(pairs: set[tuple[str, str]], colour: str, width: float, remark: str) -> list[netmap.DrawnLink]:
        return [netmap.DrawnLink(a, b, colour, width, [f"{a} ↔ {b}", remark]) for a, b in sorted(pairs)]

    rest: set[tuple[str, str]] = set()
    if len(ends) <= netmap.LINK_LIMIT + len(hung):
        rest = ({_pair((before.names[i], before.names[j])) for i, j in ends.tolist()} | around) - hung
        if len(rest) > netmap.LINK_LIMIT:
            rest = set()
    return (
        [*drawn(hung, theme.accent, 1.6, f"ends at {site} or is relayed by it"), *drawn(rest, theme.quiet, 1.0, "not affected")],
        [*drawn(around, theme.reverse, 2.0, "carries re-routed pairs"), *drawn(rest - around, theme.quiet, 1.0, "not affected")],
    )


def _pair(leg: tuple[str, str]) -> tuple[str, str]:
    return (leg[0], leg[1]) if leg[0] < leg[1] else (leg[1], leg[0])


def verdict(changes: Sequence[MatrixChange], total: int, site: str) -> list[tuple[str, str, str, bool]]:
    """The strip of figures."""
    kinds = [kind_of(change, site) for change in changes]
    moved = [change.delta_ms for change, kind in zip(changes, kinds, strict=True) if kind == "moved"]
    worst = max(moved, default=None)
    return [
        ("Pairs before", text.count(total), "joined, all media", False),
        ("End at the site", text.count(kinds.count("end")), "lost with it", False),
        ("Cut off", text.count(kinds.count("cut")), "no way left", kinds.count("cut") > 0),
        ("Re-routed", text.count(len(moved)), "by another way", False),
        ("Typical cost", text.delta_ms(statistics.median(moved)) if moved else text.UNKNOWN, "median re-routed pair", False),
        ("Worst cost", text.delta_ms(worst), "worst re-routed pair", worst is not None and worst >= 20),
    ]


def _maps(seen: View, site: str, before: Matrix, changes: Sequence[MatrixChange]) -> None:
    colours = frame.theme()
    places: Mapping[str, Site] = seen.sites
    shown = {name: places[name] for name in before.names if name in places}
    quiet = {"colour": colours.quiet, "width": 1.5, "text": "not affected", "dash": False}
    hung = {"colour": colours.accent, "width": 2, "text": f"ends at or is relayed by {site}", "dash": False}
    around = {"colour": colours.reverse, "width": 2, "text": "carries re-routed pairs", "dash": False}
    first, second = layers(before, changes, site, colours)
    for column, title, drawn, gone, key in zip(
        st.columns(2, gap="small"), ("Before", "After"), (first, second), ((), (site,)), (hung, around), strict=True
    ):
        legend = netmap.Legend(title, [key, quiet] if any(link.colour == colours.quiet for link in drawn) else [key])
        spec = netmap.map_spec(shown, drawn, colours, legend=legend, failed=gone, height=MAP_HEIGHT, alt=f"{title} the failure of {site}")
        with column:
            netmap.draw(spec, f"whatif_{title}")


def _serving(seen: View, site: str) -> None:
    st.markdown("#### Where requests are served then")
    name = frame.pick_workload(width=320)
    effects = planned.failure_effects(seen.at, seen.window, site, name)
    if not effects["from"]:
        st.caption("No PoP with measured links asks for anything here.")
        return
    hit = sum(state != "unchanged" for state in effects["state"])
    st.caption(
        f"Of {text.plural(len(effects['from']), 'PoP')} that ask, {hit} served otherwise, listed first. Objective: first token, median. "
        + text.COLD_STARTS
    )
    st.dataframe(
        effects,
        hide_index=True,
        height="auto",
        placeholder=text.UNKNOWN,
        column_config={
            "from": "From",
            "state": "State",
            "before": "Served at",
            "after": "Then at",
            "rehome": st.column_config.TextColumn("Users re-home to", help="The surviving PoP with the least RTT from the failed one"),
            "before_ms": st.column_config.NumberColumn("TTFT before (ms)", format="%.1f"),
            "delta_ms": st.column_config.NumberColumn("Added (ms)", format="%+.1f"),
        },
    )


def page() -> None:
    """Choose a site to fail; the verdict, both maps, the pairs, the requests."""
    frame.head(
        "What-if",
        "A site fails: which pairs lose their way, which are re-routed, at what cost. The address holds the scenario.",
    )
    seen = frame.view_of_minute()
    frame.need_links(seen)
    degree = metrics.degrees(seen.all_links)
    ends = sorted(degree)
    if not ends:
        frame.next_step("Every link in this window is kept out by a gate; the Overview says which.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        pops = [end for end in ends if end in seen.sites and seen.sites[end].kind == "pop"]
        site = frame.pick_site("Fail the site", ends, seen.sites, key="fail", usual=max(pops or ends, key=degree.__getitem__), width=340)
    before, changes = planned.failure(seen.at, seen.window, site)
    frame.strip(verdict(changes, before.joined, site))
    _maps(seen, site, before, changes)
    table = change_table(changes, site)
    st.markdown("#### Pairs that are re-routed or cut off")
    if not table["from"]:
        st.caption(f"None: no other pair was relayed by {site}. Only the pairs that end there are lost.")
    else:
        st.dataframe(
            table,
            hide_index=True,
            height="auto",
            placeholder=text.UNKNOWN,
            column_config={
                "from": "From",
                "to": "To",
                "state": "State",
                "before_ms": st.column_config.NumberColumn("Before (ms)", format="%.1f"),
                "after_ms": st.column_config.NumberColumn("After (ms)", format="%.1f"),
                "delta_ms": st.column_config.NumberColumn("Added (ms)", format="%+.1f"),
                "via_before": "Via before",
                "via_after": "Via after",
            },
        )
        st.download_button(
            "CSV",
            frame.csv_of(table),
            file_name=f"fail-{site}.csv".replace(":", "_"),
            mime="text/csv",
            on_click="ignore",
            icon=":material/download:",
        )
    _serving(seen, site)
    st.caption(
        f"Over all media together, at most one relay, each adding 0.5 ms. Snapshot {seen.at.snapshot}. "
        f"From a shell: `{command_words.failing(site, seen.at.location, seen.window)}`"
    )
    ahead.soon("whatif", [partial(planned.failure_effects, seen.at, seen.window, site, name) for name in load().workloads])


page()
