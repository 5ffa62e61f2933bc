"""Routes: where to serve a request and over which way, what each part of the latency costs, and how sure that is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app import address, answers, command_words, data, frame, planned, text
from app.charts import routes as figures
from app.components import netmap
from app.frame import View
from inventory.load import load
from records.place import Site
from routing.request import OBJECTIVES, Request

RELAY_TITLES = {0: "none", 1: "at most 1", 2: "at most 2"}

Route = Mapping[str, Any]


def _usual_source(seen: View, sources: list[str], served: list[str]) -> str:
    """Where the page opens: a PoP that has to send its requests elsewhere, the one furthest from its fibre floor first."""
    away = [site for site in sources if site in seen.sites and seen.sites[site].kind == "pop" and site not in served]
    worst = frame.usual_pair(seen)[0]
    return worst if worst in away else next(iter(away), sources[0])


def _subject(seen: View, source: str) -> str:
    """Whose data it is, which says what rules hold; "" is where the request comes from."""
    inventory = load()
    named = {site.country for site in (*inventory.pops, *inventory.regions, *inventory.metros) if site.country}
    countries = sorted(named.union(*(rule.applies_to for rule in inventory.rules.values())))
    own = seen.sites[source].country if source in seen.sites else None
    return address.choose(
        "Whose data",
        ["", *countries],
        key="subject",
        usual="",
        titles=lambda country: f"of people in {country or own or 'no known country'}" + ("" if country else ", as From"),
        width=260,
    )


def _ask(seen: View) -> Request:
    """The controls; every one of them is in the address."""
    inventory = load()
    measured = {link.src for link in seen.all_links}
    sources = sorted(measured) + [site.id for site in inventory.metros] + sorted(s.id for s in inventory.pops if s.id not in measured)
    served = sorted({pool.site for pool in inventory.pools})
    with st.container(border=True):
        first = st.columns([3, 3, 3, 2], gap="small")
        with first[0]:
            source = frame.pick_site("From", sources, seen.sites, key="src", usual=_usual_source(seen, sources, served))
        with first[1]:
            destination = address.choose(
                "Serve at",
                ["", *served],
                key="to",
                usual="",
                titles=lambda site: text.site_label(seen.sites.get(site), site) if site else "Best place",
            )
        with first[2]:
            name = frame.pick_workload()
        budget = first[3].number_input(
            "Budget (ms)",
            min_value=1.0,
            value=None,
            step=50.0,
            format="%.0f",
            placeholder="none",
            key="budget",
            bind="query-params",
            help="What the 95th percentile of the objective's latency must keep",
        )
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            objective = address.choose(
                "Least",
                list(OBJECTIVES),
                key="objective",
                usual="ttft",
                titles=text.OBJECTIVE_TITLES.__getitem__,
                widget="segmented_control",
            )
            relays = address.choose("Relays", [0, 1, 2], key="relays", usual=1, titles=RELAY_TITLES.__getitem__, widget="segmented_control")
            connection = address.choose(
                "Connection",
                ["cold", "warm"],
                key="connection",
                usual="cold",
                widget="segmented_control",
                help="Cold: TCP and TLS come first; warm: the connection is open",
            )
            measured_only = st.toggle("Measured legs only", key="measured", bind="query-params")
            rules = st.multiselect(
                "Residency",
                list(inventory.rules),
                key="rules",
                bind="query-params",
                placeholder="No rule",
                width=260,
                help="Rules that hold for this request; dated readings of laws, and counsel decides",
            )
            subject = _subject(seen, source) if rules else ""
        workload = inventory.workloads[name]
        st.caption(
            f"{workload.title}: {workload.input_tokens:,} tokens in, {workload.output_tokens:,} out, "
            f"{text.bytes_(workload.upload_bytes)} up, model `{workload.model}`.",
            help=workload.note,
        )
        if connection == "cold":
            st.caption(text.COLD_STARTS)
    return Request(
        source=source,
        destination=destination or None,
        workload=workload,
        objective=next(name for name in OBJECTIVES if name == objective),
        relays=relays,
        k=5,
        budget_ms=budget or None,
        connection="warm" if connection == "warm" else "cold",
        measured_only=measured_only,
        residency=answers.residency_rules(rules),
        subject_country=subject or None,
    )


def _pool(pool: Mapping[str, Any]) -> str:
    return f"{pool['devices']} × {pool['accelerator']}, {pool['engine']}"


def _headline(route: Route) -> list[tuple[str, str, str, bool]]:
    pool = route["pool"]
    evidence = figures.evidence_of(route)
    return [
        (
            "Serve at",
            route["sites"][-1],
            f"{pool['devices']} × {pool['accelerator']}, {pool['engine']}" if pool else "no pool there",
            pool is None,
        ),
        ("First token", text.milliseconds(route["ttft_ms"]["p50"]), f"p95 {text.milliseconds(route['ttft_ms']['p95'])}", False),
        ("Last token", text.milliseconds(route["e2e_ms"]["p50"]), f"p95 {text.milliseconds(route['e2e_ms']['p95'])}", False),
        (
            "Round trip",
            text.milliseconds(route["rtt_ms"]["p50"]),
            f"{len(route['sites']) - 2 if len(route['sites']) > 2 else 'no'} stop between",
            False,
        ),
        ("Cost", text.usd(route["usd_per_1k"]), "per 1,000 requests", False),
        ("Evidence", evidence, "weakest of its legs", evidence == "modelled"),
    ]


def _infeasible(why: Mapping[str, Any]) -> None:
    st.warning("No route meets this request.", icon=":material/block:")
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("#### What binds")
        for item in why["binding"]:
            st.markdown(f"- {item['text']}")
    with right:
        st.markdown("#### What would give one")
        for item in why["relax"]:
            st.markdown(f"- {item['text']}")
        if not why["relax"]:
            st.caption("No single change does.")


def why_not(routes: Sequence[Route], objective: str) -> list[str]:
    """One sentence for each route but the first: what it is worse in, its largest parts first."""
    said = []
    best = routes[0]
    for rank, route in enumerate(routes[1:], start=2):
        if objective == "cost" and route["usd_per_1k"] is not None and best["usd_per_1k"] is not None:
            more = route["usd_per_1k"] - best["usd_per_1k"]
            said.append(f"**{rank}** {figures.route_name(route)}: {text.usd(more)} more per 1,000 requests")
            continue
        gaps = {part: (route["parts"].get(part) or 0) - (best["parts"].get(part) or 0) for part in figures.shown_parts(objective)}
        whole = sum(gaps.values())
        worse = sorted(((gap, part) for part, gap in gaps.items() if gap >= 0.05), reverse=True)[:2]
        better = sorted((gap, part) for part, gap in gaps.items() if gap <= -0.05)[:1]
        words = " and ".join(f"{text.PART_TITLES[part].lower()} {text.delta_ms(gap)}" for gap, part in worse) or "nothing that counts"
        saved = "".join(f", though {text.PART_TITLES[part].lower()} {text.delta_ms(gap)}" for gap, part in better)
        said.append(f"**{rank}** {figures.route_name(route)}: {text.delta_ms(whole)}; {words}{saved}")
    return said


def _why_not(routes: Sequence[Route], objective: str) -> None:
    sentences = why_not(routes, objective)
    if sentences:
        with st.expander("Why not the others"):
            st.markdown("\n".join(f"- {sentence}" for sentence in sentences))


def _route_map(route: Route, places: Mapping[str, Site], key: str) -> None:
    colours = frame.theme()
    legs = list(itertools.pairwise(route["sites"]))
    guessed = [(leg["src"], leg["dst"]) for leg in route["evidence"] if leg["evidence"] == "modelled"]
    spec = netmap.map_spec(
        {site: places[site] for site in route["sites"] if site in places},
        netmap.route_layer(legs, colours, modelled=guessed),
        colours,
        focus=route["sites"][0],
        height=300,
        alt=f"Map of the route {figures.route_name(route)}",
    )
    netmap.draw(spec, key)


def _detail(answer: Mapping[str, Any], places: Mapping[str, Site]) -> None:
    routes = answer["routes"]
    names = [f"Route {rank}" for rank in range(1, len(routes) + 1)] + (["Backup"] if answer["backup"] else [])
    chosen = st.pills("Look at", names, default=names[0], required=True, label_visibility="collapsed", key="look")
    place = names.index(chosen) if chosen in names else 0
    route = answer["backup"] if chosen == "Backup" else routes[place]
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _route_map(route, places, "route_map")
    with right:
        st.markdown(f"**{figures.route_name(route)}**")
        for reason in route["reasons"]:
            st.markdown(f"- {reason}")
        if chosen == "Backup":
            st.caption("Shares no serving site, ingress or relay with route 1, and no cloud provider where that can be had.")
    st.dataframe(
        figures.legs_table(route),
        hide_index=True,
        height="content",
        placeholder=text.UNKNOWN,
        column_config={
            "leg": "Leg",
            "medium": "Medium",
            "p50_ms": st.column_config.NumberColumn("p50 (ms)", format="%.2f"),
            "p95_ms": st.column_config.NumberColumn("p95 (ms)", format="%.2f"),
            "loss": st.column_config.TextColumn("Loss", alignment="right"),
            "evidence": "Evidence",
            "samples": st.column_config.NumberColumn("Samples"),
        },
    )


def measured_apart(best: Route, connection: str) -> str:
    """What a plan's time to first token holds that a measured one does not."""
    said = "Their TTFT begins when the request goes out over an open connection"
    ttft, connect = best["ttft_ms"]["p50"], best["parts"].get("connect")
    if connection == "warm" or not connect or ttft is None:
        return f"{said}, as the plan's does."
    return f"{said}; the plan's begins with Connect, and without it route 1 takes {text.milliseconds(ttft - connect)}."


def _measured(seen: View, request: Request, best: Route) -> None:
    source = request.source
    table = figures.measured_table(data.inference_latest(seen.at, seen.window), source)
    if not table["dst"]:
        return
    st.markdown(f"#### Measured from {source}")
    st.caption(
        "Real requests of the agent there to the servers it may ask, whatever model they serve: to set beside the plan, not part of it. "
        + measured_apart(best, request.connection)
    )
    st.dataframe(
        table,
        hide_index=True,
        height="auto",
        placeholder=text.UNKNOWN,
        column_order=["dst", "medium", "model", "count", "errors", "ttft_p50_ms", "ttft_p95_ms", "tcp_rtt_p50_ms"],
        column_config={
            "dst": "Served at",
            "medium": "Medium",
            "model": "Model",
            "count": st.column_config.NumberColumn("Requests"),
            "errors": st.column_config.NumberColumn("Errors"),
            "ttft_p50_ms": st.column_config.NumberColumn("TTFT p50 (ms)", format="%.1f"),
            "ttft_p95_ms": st.column_config.NumberColumn("p95 (ms)", format="%.1f"),
            "tcp_rtt_p50_ms": st.column_config.NumberColumn(
                "RTT of it (ms)", format="%.1f", help="Smoothed RTT of the same TCP connection"
            ),
        },
    )


def page() -> None:
    """Ask, then the ranking, the parts, one route in detail, latency against cost, and what was measured."""
    frame.head("Routes", "Where should this request be served, and over which way, so that the first token arrives soonest within cost?")
    seen = frame.view()
    frame.need_links(seen)
    request = _ask(seen)
    for idle in answers.rules_not_in_force(request, seen.sites):
        st.info(f"{idle}: it changes nothing here. Whose data, above, names another country.", icon=":material/info:")
    answer = planned.plan(seen.at, seen.window, request)
    if answer["infeasible"]:
        _infeasible(answer["infeasible"])
        return
    routes = answer["routes"]
    frame.strip(_headline(routes[0]))
    st.plotly_chart(
        figures.parts_figure(routes, frame.theme(), objective=request.objective, budget_ms=request.budget_ms),
        key="parts",
        config=frame.PLOTLY,
        alt="Each route's latency split into its parts",
    )
    table = figures.ranking(routes, answer["ties"])
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        placeholder=text.UNKNOWN,
        column_config={
            "rank": st.column_config.NumberColumn("#", width=40),
            "route": st.column_config.TextColumn("Route", width="large"),
            "pool": "Pool",
            "ttft_p50": st.column_config.NumberColumn("TTFT p50 (ms)", format="%.1f"),
            "ttft_p95": st.column_config.NumberColumn("p95 (ms)", format="%.1f"),
            "e2e_p50": st.column_config.NumberColumn("E2E p50 (ms)", format="%.0f"),
            "rtt_p50": st.column_config.NumberColumn("RTT p50 (ms)", format="%.1f"),
            "usd": st.column_config.NumberColumn("USD / 1,000", format="%.3f"),
            "evidence": "Evidence",
            "tied": st.column_config.TextColumn("Tied with", help="Ranks the evidence cannot tell apart from this one"),
        },
    )
    _why_not(routes, request.objective)
    _detail(answer, seen.sites)
    front = [route for route in routes if route["usd_per_1k"] is not None and route["ttft_ms"]["p50"] is not None]
    if len(front) > 1:
        st.markdown("#### Latency against cost")
        st.plotly_chart(
            figures.pareto_figure(routes, answer["pareto"], frame.theme()), key="pareto", config=frame.PLOTLY, alt="Routes by TTFT and cost"
        )
    _measured(seen, request, routes[0])
    command = command_words.routing(request, seen.at.location, seen.window)
    st.caption(f"{text.ALL_MEDIA} Snapshot {answer['snapshot']}. The same from a shell: `{command}`")


page()
