"""Placement: where do k sites pay most, and what is each candidate worth as the next one?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import address, command_words, decisions, frame, text
from app.components import netmap
from app.frame import View
from app.placing import KINDS as PLACED_KINDS
from app.theme import Theme

OBJECTIVES = {"p50": "Mean RTT of people", "p95": "RTT that 95 % keep", "within-budget": "People within a budget"}
KINDS = dict(zip(PLACED_KINDS, ("PoPs", "Regions", "Both"), strict=True))
_SIZES = (2.6, 3.4, 4.2, 5.0, 6.0)


def value_text(value: float | None, objective: str, *, signed: bool = False) -> str:
    """A value of an objective with its unit: a share of people as percent, else ms."""
    if objective == "within-budget":
        return ("+" if signed and value else "") + text.percent(value)
    return text.delta_ms(None if value is None else -value) if signed else text.milliseconds(value)


def gains(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The candidates that are not chosen and would help, the most worth first."""
    return [row for row in answer["marginal"] if not row["chosen"] and row["gain"]]


def _keep(site: str) -> None:
    kept = st.session_state.get("keep") or []
    if site and site not in kept and len(kept) < int(st.session_state["k"]):
        st.session_state["keep"] = [*kept, site]


def _map(seen: View, answer: Mapping[str, Any], colours: Theme) -> None:
    chosen = set(answer["sites"])
    worth = gains(answer)[:150]
    most = worth[0]["gain"] if worth else 1.0
    dots = {}
    for row in worth:
        grade = min(4, int(row["gain"] / most * 5))
        dots[row["site"]] = netmap.Dot(
            colours.sequence[1 + grade], _SIZES[grade], [["as the next site", value_text(row["gain"], answer["objective"], signed=True)]]
        )
    names = [*dots, *answer["sites"]]
    steps = ("least", "", "", "", "most")
    items = [
        {"colour": colours.sequence[1 + grade], "width": 0, "dash": False, "dot": size, "text": words}
        for grade, (size, words) in enumerate(zip(_SIZES, steps, strict=True))
    ]
    spec = netmap.map_spec(
        {name: seen.sites[name] for name in names if name in seen.sites},
        [],
        colours,
        legend=netmap.Legend("Worth as the next site", items),
        dots={name: dot for name, dot in dots.items() if name not in chosen},
        height=420,
        alt="Map of chosen sites and of what every other candidate would add",
    )
    netmap.draw(spec, "placement_map", on_site=_keep)


def _proof(answer: Mapping[str, Any]) -> tuple[str, str]:
    if answer["bound"] is None:
        return "not proven", "greedy and swaps"
    if not answer["gap"]:
        return "optimal", "proven by HiGHS"
    return f"within {text.percent(answer['gap'])}", f"no choice beats {value_text(answer['bound'], answer['objective'])}"


def page() -> None:
    """Ask, the map of what is chosen and what would be next, the two tables."""
    frame.head("Placement", "Where should the next sites stand so that people are near one, and what is each worth?")
    seen = frame.view_of_minute()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        k = int(st.number_input("Sites", min_value=1, max_value=60, value=8, key="k", bind="query-params", width=120))
        objective = address.choose("Objective", list(OBJECTIVES), key="objective", usual="p50", titles=OBJECTIVES.__getitem__, width=230)
        kinds = address.choose("Candidates", list(KINDS), key="kinds", usual="pop", titles=KINDS.__getitem__, widget="segmented_control")
        budget_ms = 30.0
        if objective == "within-budget":
            budget_ms = float(
                st.number_input("Budget (ms)", min_value=1.0, max_value=500.0, value=30.0, key="budget", bind="query-params", width=130)
            )
    offered = sorted(site.id for site in seen.sites.values() if site.kind in ("pop", "region"))
    keep = st.multiselect(
        "Stand already",
        offered,
        key="keep",
        bind="query-params",
        placeholder="None: all sites are free to choose. They count among the sites above.",
        max_selections=60,
    )
    proven = st.toggle("Prove it", key="prove", bind="query-params", help="HiGHS looks for the optimum, or a bound; up to 30 s")
    with st.spinner("Proving, up to 30 s" if proven else "Placing"):
        answer = decisions.placed(seen.at, seen.window, k, objective=objective, budget_ms=budget_ms, keep=keep, kinds=kinds, proven=proven)
    worth = gains(answer)
    said, remark = _proof(answer)
    next_one = worth[0] if worth else None
    frame.strip(
        [
            (
                OBJECTIVES[objective],
                value_text(answer["value"], objective),
                f"{len(answer['sites'])} sites of {answer['candidates']} candidates",
                False,
            ),
            ("Proof", said, remark, False),
            (
                "Next best",
                next_one["site"] if next_one else text.UNKNOWN,
                value_text(next_one["gain"], objective, signed=True) if next_one else "nothing helps",
                False,
            ),
            ("People", f"{answer['people'] / 1e6:,.0f} million", text.plural(len(answer["metros"]), "metro"), False),
            ("Measured", text.percent(answer["measured_share"]), "of people's RTTs; others modelled", False),
        ]
    )
    _map(seen, answer, frame.theme())
    st.caption(
        "Named points are the chosen sites; a dot is a candidate, larger and stronger the more it would add as one more site. "
        "Click a dot to keep it among the sites."
    )
    _tables(seen, answer, objective)
    command = command_words.placing(answer, kinds, proven=proven, location=seen.at.location, window=seen.window)
    st.caption(f"From a shell: `{command}` · snapshot {answer['snapshot']}")


def _tables(seen: View, answer: Mapping[str, Any], objective: str) -> None:
    served: dict[str, float] = dict.fromkeys(answer["sites"], 0.0)
    for metro in answer["metros"]:
        served[metro["site"]] = served.get(metro["site"], 0.0) + metro["people"]
    gain = {row["site"]: row["gain"] for row in answer["marginal"]}
    unit = "people (%)" if objective == "within-budget" else "ms"
    factor = 100.0 if objective == "within-budget" else 1.0
    digits = st.column_config.NumberColumn

    def scaled(site: str) -> float | None:
        return None if gain.get(site) is None else gain[site] * factor

    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("#### Chosen")
        chosen = {
            "site": answer["sites"],
            "place": [text.site_label(seen.sites.get(site), site).partition(" · ")[2] for site in answer["sites"]],
            "people": [served[site] / 1e6 for site in answer["sites"]],
            "loss": [scaled(site) for site in answer["sites"]],
        }
        st.dataframe(
            chosen,
            hide_index=True,
            height="auto",
            placeholder=text.UNKNOWN,
            column_config={
                "site": "Site",
                "place": "Place",
                "people": digits("Serves (million)", format="%.1f"),
                "loss": digits(f"Worth ({unit})", format="%.2f", help="How much worse the answer is without it"),
            },
        )
        st.download_button(
            "CSV", frame.csv_of(chosen), file_name="placement.csv", mime="text/csv", on_click="ignore", icon=":material/download:"
        )
    with right:
        st.markdown("#### As one more site")
        more = gains(answer)[:60]
        st.dataframe(
            {
                "site": [row["site"] for row in more],
                "place": [text.site_label(seen.sites.get(row["site"]), row["site"]).partition(" · ")[2] for row in more],
                "gain": [row["gain"] * factor for row in more],
            },
            hide_index=True,
            height="auto",
            column_config={"site": "Site", "place": "Place", "gain": digits(f"Gain ({unit})", format="%.3f")},
        )


page()
