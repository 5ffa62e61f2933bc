"""Pair: what one pair of sites does over time, and how it compares with its reverse direction and the fibre floor."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import streamlit as st

from app import data, frame, metrics, pair_data, text
from app.charts import hops, series
from app.frame import View
from records.link import LinkEstimate
from records.place import fibre_floor_ns, great_circle_km
from records.units import ms

#: At most this many buckets are drawn, each of a width that a person would choose.
BUCKETS = 600
WIDTHS_S = (5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400, 604_800)

NO_SERIES = {
    "matrix": "These figures come from an imported matrix, which has no history. A series appears as soon as an agent pings this pair.",
    "ungraded": "The agent of this pair failed its own checks, so its probe packets are not drawn; the Overview says why.",
    "none": "No probe packet of this pair counts in this window.",
}


def figures(link: LinkEstimate | None) -> list[tuple[str, str, str, bool]]:
    """The strip of figures of one direction."""
    if link is None:
        return [("This direction", "not measured", "in this window", False)]
    ratio = metrics.METRICS["inflation"].read(link)
    return [
        ("p50", text.milliseconds(ms(link.rtt_p50_ns)), "median RTT", False),
        ("p95", text.milliseconds(ms(link.rtt_p95_ns)), f"p99 {text.milliseconds(ms(link.rtt_p99_ns))}", False),
        ("Least", text.milliseconds(ms(link.rtt_min_ns)), "minimum RTT", False),
        ("Inflation", text.inflation(ratio), f"floor {text.milliseconds(ms(link.fibre_floor_ns))}", False),
        ("Loss", text.percent(link.loss_ratio), f"{text.count(link.sample_count)} replies", (link.loss_ratio or 0) >= 0.05),
        ("Throughput", text.bits_per_second(link.throughput_bps), "latest test" if link.throughput_bps else "not tested", False),
        (
            "Newest sample",
            text.age(link.age_s),
            "passed every gate" if link.gate == "ok" else text.GATE_TITLES[link.gate],
            link.gate != "ok",
        ),
    ]


def comparison(forward: LinkEstimate | None, reverse: LinkEstimate | None) -> dict[str, list[str]]:
    """Both directions side by side, and the difference of the RTTs; an RTT should be the same from both ends."""
    rows: dict[str, list[str]] = {"": [], "forward": [], "reverse": [], "difference": []}

    def add(name: str, a: str, b: str, difference: str = "") -> None:
        for column, words in zip(rows.values(), (name, a, b, difference), strict=True):
            column.append(words)

    for name, field in (("Least RTT", "rtt_min_ns"), ("p50", "rtt_p50_ns"), ("p95", "rtt_p95_ns"), ("p99", "rtt_p99_ns")):
        a, b = (ms(getattr(link, field)) if link else None for link in (forward, reverse))
        add(name, text.milliseconds(a), text.milliseconds(b), text.delta_ms(a - b) if a is not None and b is not None else "")
    writers: dict[str, Callable[[LinkEstimate], str]] = {
        "Loss": lambda link: text.percent(link.loss_ratio),
        "Throughput": lambda link: text.bits_per_second(link.throughput_bps),
        "Replies": lambda link: text.count(link.sample_count),
        "Newest sample": lambda link: text.age(link.age_s),
        "Gate": lambda link: text.GATE_TITLES[link.gate],
    }
    for name, write in writers.items():
        add(name, *(write(link) if link else text.UNKNOWN for link in (forward, reverse)))
    return rows


def _turn() -> None:
    st.session_state["src"], st.session_state["dst"] = st.session_state["dst"], st.session_state["src"]


def _series(seen: View, src: str, dst: str, medium: str) -> series.Series | None:
    """The ping series of the window, from the pair's first bucket with data on; None when there is none."""
    start, end = seen.span()
    first = data.first(seen.at)
    start = max(start, first) if first is not None else start
    last = data.newest(seen.at)
    if last is not None and last > start:  # silence is shown, and does not crowd out what was measured
        end = min(end, last + max(timedelta(minutes=1), (last - start) / 4))
    width_s = width_of((end - start).total_seconds() / BUCKETS)
    found = _fetch(seen, (src, dst, medium), start, end, width_s)
    if series.is_empty(found):
        return None
    apart = series.spacing(found)
    return found if apart == 1 else _fetch(seen, (src, dst, medium), start, end, width_of(2 * apart * width_s))


def width_of(least_s: float) -> int:
    """The smallest usual bucket width of at least so many seconds.

    >>> width_of(3.1), width_of(61), width_of(1e9)
    (5, 120, 604800)
    """
    return next((width for width in WIDTHS_S if width >= least_s), WIDTHS_S[-1])


def _fetch(seen: View, pair: tuple[str, str, str], start: datetime, end: datetime, width_s: int) -> series.Series:
    """Whole buckets that cover [start, end], on multiples of their width."""
    low, high = int(start.timestamp()) // width_s, -(-int(end.timestamp() + 1) // width_s)
    first, last = (datetime.fromtimestamp(edge * width_s, UTC) for edge in (low, high))
    return series.series_of(pair_data.ping(seen.at, *pair, first, last, high - low))


def page() -> None:
    """Choose a pair, see it over time, compare its directions."""
    frame.head("Pair", "What one pair does over time, against the fibre floor and against its own reverse direction.")
    seen = frame.view()
    frame.need_links(seen)
    places = seen.sites
    sources = sorted({link.src for link in seen.links})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        usual = frame.usual_pair(seen)
        src = frame.pick_site("From", sources, places, key="src", usual=usual[0], width=255)
        targets = sorted({link.dst for link in seen.links if link.src == src})
        dst = frame.pick_site("To", targets, places, key="dst", usual=usual[1], width=255)
        pairs = metrics.by_pair(seen.links)
        forward, reverse = pairs.get((src, dst)), pairs.get((dst, src))
        st.button(
            "Reverse",
            icon=":material/swap_horiz:",
            on_click=_turn,
            disabled=reverse is None,
            help="Measured from the other end" if reverse else "Nobody measures this pair from the other end",
        )
        if st.button("Path", icon=":material/route:", help="The hops between the two"):
            frame.open_pair(src, dst, seen.medium, frame.PATHS_PAGE)
    assert forward is not None
    frame.strip(figures(forward))
    floor_ns = forward.fibre_floor_ns
    if floor_ns is None and src in places and dst in places:
        floor_ns = fibre_floor_ns(places[src], places[dst])
    medium = forward.medium
    found = _series(seen, src, dst, medium)
    if found is None:
        st.info(
            NO_SERIES["matrix" if forward.sample_count is None else forward.gate if forward.gate == "ungraded" else "none"],
            icon=":material/info:",
        )
    else:
        start, end = seen.span()
        from_floor = st.toggle("From the fibre floor", key="floor", bind="query-params", help="Off: the RTT's axis fits what was measured")
        st.plotly_chart(
            series.band_figure(
                found,
                frame.theme(),
                floor_ms=ms(floor_ns),
                from_floor=from_floor,
                throughput=pair_data.throughput(seen.at, src, dst, medium, start, end),
                inference=pair_data.inference(seen.at, src, dst, medium, start, end),
                path_changes=hops.change_times(pair_data.path_history(seen.at, src, dst, medium, start, end)),
            ),
            key="series",
            config=frame.PLOTLY,
            alt=f"Round-trip time from {src} to {dst} over time in percentile bands, loss below",
        )
        st.caption(
            f"Buckets of {text.age(found.step_ms / 1000)}; shaded grey where nothing was sent. {text.MEDIUM_TITLES[medium]}, times in UTC. "
            "Loss counts probe packets without an answer in time."
        )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown("#### Both directions")
        st.dataframe(
            comparison(forward, reverse),
            hide_index=True,
            height="content",
            column_config={
                "": st.column_config.TextColumn(""),
                "forward": st.column_config.TextColumn(f"{src} → {dst}", alignment="right"),
                "reverse": st.column_config.TextColumn(f"{dst} → {src}", alignment="right"),
                "difference": st.column_config.TextColumn("Difference", alignment="right"),
            },
        )
    with right:
        st.markdown("#### The two places")
        if src in places and dst in places:
            distance = great_circle_km(places[src], places[dst])
            st.markdown(
                f"{text.site_label(places[src], src)} and {text.site_label(places[dst], dst)} are **{distance:,.0f} km** apart. "
                f"Light in fibre needs **{text.milliseconds(ms(floor_ns))}** there and back."
            )
        other = [link for link in seen.all_links if (link.src, link.dst) == (src, dst) and link.medium != medium]
        for link in other:
            p50, loss = text.milliseconds(ms(link.rtt_p50_ns)), text.percent(link.loss_ratio)
            st.markdown(f"{text.MEDIUM_TITLES[link.medium]}: p50 **{p50}**, loss {loss}")
        if found is not None:
            columns = {"bucket_at_ms": found.at_ms.tolist()} | {name: column.tolist() for name, column in found.columns.items()}
            st.download_button(
                "Series as CSV",
                frame.csv_of({name: [None if x != x else x for x in column] for name, column in columns.items()}),  # noqa: PLR0124
                file_name=f"{src}-{dst}-{medium}.csv".replace(":", "_"),
                mime="text/csv",
                on_click="ignore",
                icon=":material/download:",
            )


page()
