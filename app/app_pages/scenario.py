"""Scenario: build a change by clicking and by form, see it before and after, keep several side by side, share it as a link."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import streamlit as st

from app import address, ahead, command_words, decisions, frame, scenario_builder, text
from app.charts import reach
from app.charts import scenario as figures
from app.components import netmap
from app.frame import View
from app.scenario_form import to_address
from app.whatif import read_document
from app.whatif_text import IN_TIME
from inventory.load import load
from records.errors import IsochroneError
from routing.request import OBJECTIVES

#: Scenarios kept side by side in one session.
MOST_KEPT = 12


def _likely(seen: View, document: Mapping[str, Any], workload: str) -> Iterator[Callable[[], object]]:
    """What the two lists of the page would ask: this scenario for the other workloads, the other scenarios for this one."""
    shipped = [read_document(name) for name in scenario_builder.scenarios()]
    others = [] if "workload" in document else [name for name in load().workloads if name != workload]
    for one, name in [*((dict(document), name) for name in others), *((one, workload) for one in shipped)]:
        yield partial(decisions.compared, seen.at, seen.window, one, name)
        if scenario_builder.is_burst(one):
            yield partial(decisions.in_time, seen.at, seen.window, one, name)


def _dots(answer: Mapping[str, Any], side: str) -> dict[str, netmap.Dot]:
    colours = frame.theme()
    dots = {}
    for row in answer["per_metro"]:
        time_ms = row["ttft_p95_ms"][side]
        tip = [
            ["TTFT p95", text.milliseconds(time_ms) if time_ms is not None else "lost"],
            ["served by", ", ".join(part["pool"] for part in row["served"][side]) or "nobody"],
            ["enters at", ", ".join(row["ingress"][side]) or text.UNKNOWN],
        ]
        dots[row["site"]] = reach.dot_of(time_ms, colours, tip)
    return dots


def _maps(seen: View, document: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    colours = frame.theme()
    failed = [str(edit.get("site")) for edit in scenario_builder.edits_of(document) if edit.get("op") in ("fail_site", "remove_site")]
    pools = {pool["site"] for side in ("baseline", "proposed") for pool in answer[side]["pools"]}
    items = reach.legend_items(colours, "lost")
    for column, title, side, gone in zip(st.columns(2, gap="small"), ("Before", "After"), ("before", "after"), ((), failed), strict=True):
        names = {row["site"] for row in answer["per_metro"]} | pools | set(gone)
        spec = netmap.map_spec(
            {name: seen.sites[name] for name in sorted(names) if name in seen.sites},
            [],
            colours,
            legend=netmap.Legend(f"{title}, TTFT p95", items),
            failed=gone,
            dots=_dots(answer, side),
            height=340,
            alt=f"Metros by TTFT {title.lower()} the change",
        )
        with column:
            netmap.draw(spec, f"scenario_{side}", on_site=_click)
    st.caption(
        "Click a serving site to fail it, and again to have it back. Metros are coloured by the first token their people get. "
        + text.COLD_STARTS
    )


def _click(site: str) -> None:
    if site and not site.startswith("metro:"):
        scenario_builder.fail(site)


def _burst(seen: View, document: Mapping[str, Any], workload: str) -> None:
    """Its queues in time: what takes longest here, drawn where it belongs when all the rest is."""
    steps = decisions.in_time(
        seen.at, seen.window, dict(document), workload, progress=frame.progress_of("Following every queue through the burst")
    )
    st.caption(
        f"{IN_TIME}: what no pool is given room for is lost there; here it waits at the pools until the burst is over, "
        "so that the waits below are in no figure above."
    )
    frame.strip(figures.burst_strip(steps))
    st.plotly_chart(
        figures.burst_figure(steps, frame.theme()), key="burst", config=frame.PLOTLY, alt="Demand, over capacity and wait in time"
    )


def _details(answer: Mapping[str, Any]) -> None:
    titles = {site.id: f"{site.name}, {site.country}" for site in load().metros}
    number = st.column_config.NumberColumn
    if points := answer["new_single_points"]:
        said = ", ".join(f"{point['kind']} {point['name']} ({text.percent(point['lost_share'])})" for point in points)
        st.warning(
            f"{text.plural(len(points), 'new single point')} of failure, with the share of demand lost with it: {said}.",
            icon=":material/warning:",
        )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown("#### Places")
        table = figures.metro_table(answer, titles)
        st.dataframe(
            table,
            hide_index=True,
            height=330,
            placeholder=text.UNKNOWN,
            column_config={
                "place": "Place",
                "rps": number("Requests/s", format="%.2f"),
                "before": number("TTFT p95 before (ms)", format="%.1f"),
                "after": number("after (ms)", format="%.1f"),
                "regret": number("Regret (ms)", format="%+.1f"),
                "lost": number("Lost (%)", format="%.1f"),
                "served_before": "Served by",
                "served_after": "then by",
                "ingress": "Enters at",
            },
        )
        st.download_button(
            "CSV", frame.csv_of(table), file_name="scenario-places.csv", mime="text/csv", on_click="ignore", icon=":material/download:"
        )
    with right:
        st.markdown("#### Pools")
        st.dataframe(
            figures.pool_table(answer),
            hide_index=True,
            height=330,
            placeholder=text.UNKNOWN,
            column_config={
                "pool": "Pool",
                "was": "Was",
                "is": "Is",
                "full_before": number("Full before (%)", format="%.0f"),
                "full_after": number("after (%)", format="%.0f"),
                "load": number("Load (req/s)", format="%.1f"),
                "cap": number("Room (req/s)", format="%.1f"),
                "wait": number("Wait (ms)", format="%.2f"),
                "worth": number("Room is worth", format="%.2f", help="What one more request a second would save, in the objective's unit"),
            },
        )


def _kept(document: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    kept: list[tuple[str, Any]] = st.session_state.setdefault("kept", [])
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Keep to compare", icon=":material/bookmark_add:", disabled=len(kept) >= MOST_KEPT):
            name = f"{document.get('name', 'scenario')} · {answer['workload']}"
            if (name, answer) not in kept:
                kept.append((name, answer))
        if kept and st.button("Forget them", type="tertiary"):
            kept.clear()
    if not kept:
        return
    number = st.column_config.NumberColumn
    st.markdown("#### Side by side")
    st.dataframe(
        figures.compare_table(kept),
        hide_index=True,
        height="content",
        placeholder=text.UNKNOWN,
        column_config={
            "scenario": st.column_config.TextColumn("Scenario", width="medium"),
            "ttft": number("TTFT p95 (ms)", format="%.1f"),
            "ttft_delta": number("against its baseline", format="%+.1f"),
            "e2e_delta": number("E2E p95 added (ms)", format="%+.1f"),
            "late": number("Late or lost (%)", format="%.2f"),
            "lost": number("Lost (%)", format="%.2f"),
            "moved": number("Moved (%)", format="%.2f"),
            "usd": number("Known USD a month", format="dollar"),
            "points": number("New single points"),
            "hash": st.column_config.TextColumn("Hash", help="Of the scenario, the snapshot and the seed: the same, the same answer"),
        },
    )


def _ranking(seen: View, workload: str) -> None:
    least = address.choose(
        "Least", list(OBJECTIVES), key="objective", usual="ttft", titles=text.OBJECTIVE_TITLES.__getitem__, widget="segmented_control"
    )
    found = decisions.ranked(
        seen.at,
        seen.window,
        workload,
        next(name for name in OBJECTIVES if name == least),
        progress=frame.progress_of("Losing every site and provider"),
    )
    table = figures.ranking_table(found)
    noticed = sum(row["touched"] for row in found)
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        height=480,
        placeholder=text.UNKNOWN,
        column_config={
            "rank": number("#", width=44),
            "name": "Loss of",
            "kind": "Kind",
            "lost": number("Lost (%)", format="%.3g"),  # significant digits: a key that decides must not read as 0
            "late": number("Late or lost, added (%)", format="%.3g"),
            "ttft": number("TTFT p95 added (ms)", format="%+.1f"),
            "moved": number("Moved (%)", format="%.3g"),
            "full": "Then full",
        },
    )
    st.caption(
        "Ordered by what is lost, then by what is late or lost, then by the added TTFT p95, then by what moves. "
        f"{text.plural(len(found), 'loss', 'losses')} looked at, load settled again after each; {noticed:,} noticed by any request, "
        f"the worst {len(table['rank'])} shown. Snapshot {seen.at.snapshot}. "
        f"From a shell: `{command_words.ranking(workload, least, seen.at.location, seen.window)}`"
    )


def page() -> None:
    """Build, compare, rank: each in the address."""
    frame.head("Scenario", "A site fails, a burst comes, a price or a rule changes: who waits, what is lost, what does it cost?")
    seen = frame.view_of_minute()
    row = st.container(horizontal=True, vertical_alignment="bottom")
    with row:
        part = address.choose(
            "Question",
            ["build", "rank"],
            key="part",
            usual="build",
            titles={"build": "Build a scenario", "rank": "Rank every single failure"}.__getitem__,
            widget="segmented_control",
        )
    if part == "rank":
        with row:
            workload = frame.pick_workload(width=260)
        _ranking(seen, workload)
        return
    document = scenario_builder.document_now()
    with row:
        workload = scenario_builder.pick_workload(document)
    scenario_builder.build(seen, document)
    document = st.session_state["scenario"]
    st.query_params["s"] = to_address(document)
    try:
        answer = decisions.compared(seen.at, seen.window, document, workload)
    except IsochroneError as error:
        frame.tell(error)
        st.caption("Mend the change above or its JSON; nothing else on this page is lost.")
        return
    if "kind" in answer:
        st.info(
            "This is a worked case with its own numbers: `isochrone whatif` prints it, and Cost draws two of them.", icon=":material/info:"
        )
        return
    frame.strip(figures.headline(answer))
    _maps(seen, document, answer)
    burst = None
    if scenario_builder.is_burst(document):
        st.markdown("#### The burst in time")
        burst = st.container()
    _details(answer)
    _kept(document, answer)
    st.caption(
        f"{answer['workload']}, least {answer['objective']}, {answer['baseline']['rps']:.1f} requests/s by people; "
        f"{text.percent(answer['proposed']['measured_share'])} of traffic crosses measured legs only. Snapshot {answer['snapshot']}, "
        f"seed {answer['seed']}, scenario `{answer['scenario_hash'][:16]}`. The address holds the scenario; "
        f"from a shell: save it, then `{command_words.scenario(workload, seen.at.location, seen.window)}`."
    )
    if burst is not None:
        with burst:
            _burst(seen, document, workload)
    ahead.soon("scenario", _likely(seen, document, workload))


page()
