"""The pure parts of the dashboard: words, scales, projection, and what the figures and the canvases are given."""

from __future__ import annotations

import base64
import doctest
import itertools
import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app import metrics, projection, text, theme
from app.charts import hops, quick, routes, series
from app.charts.uprights import uprights
from app.components import heatmap, netmap
from records.link import GATES, MEDIA, LinkEstimate
from records.measurement import Hop, TracerouteResult
from records.place import EARTH_RADIUS_KM, PROVIDERS, Site, fibre_floor_ns, great_circle_km
from records.units import MS

SIN = Site(id="sin", kind="pop", name="Singapore", lat=1.35, lon=103.82, country="SG")
FRA = Site(id="fra", kind="pop", name="Frankfurt", lat=50.11, lon=8.68, country="DE")
SJC = Site(id="sjc", kind="pop", name="San Jose", lat=37.34, lon=-121.89, country="US")
NRT = Site(id="nrt", kind="pop", name="Tokyo", lat=35.68, lon=139.77, country="JP")
IAD1 = Site(id="aws:us-east-1", kind="region", name="N. Virginia", lat=38.9, lon=-77.4, country="US", provider="aws")
SITES = {site.id: site for site in (SIN, FRA, SJC, NRT, IAD1)}

LATITUDE, LONGITUDE = st.floats(-89, 89), st.floats(-179.9, 179.9)


def link(src: str, dst: str, p50_ms: float | None = 100.0, floor_ms: float | None = 50.0, **more: object) -> LinkEstimate:
    """A link with a median and a floor in ms."""
    values: dict[str, object] = {
        "medium": "internet",
        "rtt_p50_ns": None if p50_ms is None else round(p50_ms * MS),
        "fibre_floor_ns": None if floor_ms is None else round(floor_ms * MS),
    }
    return LinkEstimate(src=src, dst=dst, **(values | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("module", [text, theme, metrics, routes, heatmap, hops, series])
def test_examples_in_docstrings_hold(module: object) -> None:
    """Every example in the docstrings of the pure modules gives what it says."""
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_every_gate_medium_and_provider_has_words() -> None:
    """The tables of words cover the vocabulary: a new gate, medium or cloud without words fails here."""
    assert set(text.GATE_TITLES) == set(GATES)
    assert set(text.MEDIUM_TITLES) == {*MEDIA, "any"}
    assert set(PROVIDERS.values()) <= set(text.GROUPS)
    assert set(text.WINDOW_TITLES) == set(text.WINDOWS)
    assert set(text.PART_TITLES) == set(theme.PARTS)


@given(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)))
def test_unknown_is_a_dash_and_never_a_zero(value: float | None) -> None:
    """None, NaN and infinity read as a dash in every format; a positive ratio never reads as zero."""
    for write in (text.milliseconds, text.percent, text.inflation, text.age, text.usd, text.delta_ms):
        if value is None or not math.isfinite(value):
            assert write(value) == text.UNKNOWN
    if value is not None and 0 < value < 1:
        assert text.percent(value) != text.percent(0.0)


def test_window_opens_on_all_when_the_data_are_old() -> None:
    """A warehouse whose newest measurement is older than a day opens with everything, a fresh one with the last day."""
    now = datetime(2026, 5, 1, tzinfo=UTC)
    assert text.default_window(now - timedelta(minutes=5), now) == "24h"
    assert text.default_window(now - timedelta(days=2), now) == "all"


def test_robinson_at_known_points() -> None:
    """The equator has length 2 pi 0.8487 R, the poles lie at 1.3523 R (Robinson 1974), north is up."""
    x, y = projection.robinson(np.array([180.0, 0.0, 0.0]), np.array([0.0, 90.0, -90.0]))
    assert x[0] == pytest.approx(math.pi * 0.8487)
    assert y.tolist() == pytest.approx([0, -1.3523, 1.3523])


@given(LATITUDE, LONGITUDE, LATITUDE, LONGITUDE)
@example(83.0, 100.0, 63.0, -81.0)
def test_great_circle_joins_its_ends_at_its_own_length(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> None:
    """The pieces start at one site, end at the other, never jump across the map, and add up to the haversine distance."""
    a = Site(id="a", kind="pop", name="a", lat=lat_a, lon=lon_a)
    b = Site(id="b", kind="pop", name="b", lat=lat_b, lon=lon_b)
    pieces = projection.great_circle(a, b)
    flat = np.vstack(pieces)
    assert flat[0] == pytest.approx([lon_a, lat_a], abs=1e-6)
    assert flat[-1] == pytest.approx([lon_b, lat_b], abs=1e-6) or great_circle_km(a, b) < 1
    for piece in pieces:
        assert np.all(np.abs(np.diff(piece[:, 0])) <= 180 + 1e-9)
    length = sum(
        great_circle_km(
            Site(id="p", kind="pop", name="p", lat=float(p[1]), lon=float(p[0])),
            Site(id="q", kind="pop", name="q", lat=float(q[1]), lon=float(q[0])),
        )
        for piece in pieces
        for p, q in itertools.pairwise(np.clip(piece, [-180, -90], [180, 90]))
    )
    assert length == pytest.approx(great_circle_km(a, b), rel=1e-6, abs=0.01)


def test_pacific_link_is_cut_at_the_antimeridian() -> None:
    """Tokyo to San Jose crosses 180 degrees: two pieces, and they meet the edge at the same latitude."""
    first, second = projection.great_circle(NRT, SJC)
    assert (first[-1, 0], second[0, 0]) == (180.0, -180.0)
    assert first[-1, 1] == pytest.approx(second[0, 1])


@given(LATITUDE, LONGITUDE, st.floats(5, 190))
def test_isochrone_is_where_the_fibre_floor_is_that_rtt(lat: float, lon: float, rtt_ms: float) -> None:
    """Every point of the ring has the ring's RTT as its fibre floor; an oracle is records.place.fibre_floor_ns."""
    centre = Site(id="c", kind="pop", name="c", lat=lat, lon=lon)
    ring = [point for piece in projection.isochrone(centre, rtt_ms) for point in piece if abs(point[0]) < 179.999]
    for lon_p, lat_p in ring[:: max(1, len(ring) // 8)]:
        at = Site(id="p", kind="pop", name="p", lat=float(lat_p), lon=float(lon_p))
        assert fibre_floor_ns(centre, at) / MS == pytest.approx(rtt_ms, rel=1e-3)


def test_no_isochrone_beyond_the_antipode() -> None:
    """Half the Earth's circumference is about 200 ms away in fibre: there is no ring at 250 ms."""
    assert math.pi * EARTH_RADIUS_KM / 199_861.6 * 2 * 1000 == pytest.approx(200.3, abs=0.5)
    assert projection.isochrone(SIN, 250) == []


def _contrast(a: str, b: str) -> float:
    """Contrast ratio of WCAG 2.1, from its definition."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_text_and_worst_class_can_be_read(colours: theme.Theme) -> None:
    """Text and muted text reach WCAG AA (4.5) on the page; the worst class and the accent reach 3 on the ocean."""
    assert _contrast(colours.text, colours.page) >= 7
    assert _contrast(colours.muted, colours.page) >= 4.5
    assert _contrast(colours.warning, colours.page) >= 4.5
    assert _contrast(colours.classes[-1], colours.ocean) >= 3
    assert _contrast(colours.accent, colours.ocean) >= 3


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_more_stands_out_further_from_the_page(colours: theme.Theme) -> None:
    """Along the continuous scale the contrast with the page only grows, so it reads without any hue."""
    contrasts = [_contrast(colour, colours.page) for colour in colours.sequence]
    assert contrasts == sorted(contrasts)


def test_the_worse_direction_gives_the_colour_and_the_order() -> None:
    """One great circle for each pair of sites, coloured by its worse direction, the worst pair first."""
    links = [link("sin", "fra", 80), link("fra", "sin", 190), link("sjc", "nrt", 120)]
    drawn, total = netmap.link_layer(links, metrics.METRICS["inflation"], theme.LIGHT)
    assert total == 2
    assert [(item.src, item.dst) for item in drawn] == [("fra", "sin"), ("sjc", "nrt")]
    assert [item.colour for item in drawn] == [theme.LIGHT.classes[4], theme.LIGHT.classes[2]]  # 3.8x and 2.4x


def test_unknown_is_not_drawn_and_the_limit_keeps_the_worst() -> None:
    """A link without a median is not drawn as if it were good; past the limit the worst stay."""
    links = [link("sin", f"x{i}", 50 + i) for i in range(200)] + [link("sin", "unknown", None)]
    drawn, total = netmap.link_layer(links, metrics.METRICS["inflation"], theme.LIGHT, limit=150)
    assert (len(drawn), total) == (150, 200)
    assert drawn[0].dst == "x199"
    assert "unknown" not in {item.dst for item in drawn}


def test_a_focus_shows_only_that_site_and_its_isochrones() -> None:
    """With a focus only its links are drawn, and rings in fibre are there around it."""
    links = [link("sin", "fra"), link("sjc", "nrt")]
    drawn, _ = netmap.link_layer(links, metrics.METRICS["p50"], theme.LIGHT, focus="sin")
    spec = netmap.map_spec(SITES, drawn, theme.LIGHT, focus="sin")
    assert [(item["src"], item["dst"]) for item in spec["links"]] == [("sin", "fra")]
    assert [ring["text"] for ring in spec["rings"]] == ["25 ms", "50 ms", "100 ms", "150 ms"]
    assert netmap.map_spec(SITES, drawn, theme.LIGHT)["rings"] == []


def test_map_spec_carries_what_the_canvas_reads() -> None:
    """Points per line add up to the packed floats; every link names existing sites; a stranger to the map is left out."""
    drawn, _ = netmap.link_layer([link("sin", "fra"), link("nrt", "sjc"), link("sin", "nowhere")], metrics.METRICS["p50"], theme.DARK)
    spec = netmap.map_spec(SITES, drawn, theme.DARK, failed=["fra"])
    for name in ("sphere", "land", "borders", "paths"):
        assert len(base64.b64decode(spec[name]["xy"])) == 8 * sum(spec[name]["sizes"])
    assert len(spec["links"]) == 2
    assert all(spec["sites"][item["a"]]["id"] == item["src"] for item in spec["links"])
    assert sum(item["pieces"] for item in spec["links"]) == len(spec["paths"]["sizes"])
    assert [site["id"] for site in spec["sites"] if site["failed"]] == ["fra"]


def test_missing_cells_are_level_zero_and_zero_is_not() -> None:
    """A pair without a link and one without a number are level 0 (no data); a loss of exactly 0 is a known cell."""
    links = [link("sin", "aws:us-east-1", loss_ratio=0.0), link("fra", "aws:us-east-1", loss_ratio=None)]
    table = heatmap.grid(list(SITES.values()), links, "pop", "region")
    spec = heatmap.heat_spec(table, metrics.METRICS["loss"], theme.LIGHT)
    levels = list(base64.b64decode(spec["levels"]))
    by_row = dict(zip([row["id"] for row in spec["rows"]], levels, strict=True))
    assert by_row == {"fra": 0, "sin": 1}
    assert spec["texts"][[row["id"] for row in spec["rows"]].index("sin")] == "0 %"


def test_grid_is_ordered_by_cloud_and_longitude() -> None:
    """Rows of one kind run from west to east; only sites with a link appear; the diagonal is marked as the same site."""
    links = [link(a, b) for a in ("sin", "fra", "sjc") for b in ("sin", "fra", "sjc") if a != b]
    table = heatmap.grid(list(SITES.values()), links, "pop", "pop")
    assert [site.id for site in table.rows] == ["sjc", "fra", "sin"]
    spec = heatmap.heat_spec(table, metrics.METRICS["p50"], theme.LIGHT)
    assert spec["self"] == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert table.known == 6


@given(st.lists(st.floats(0.1, 500), min_size=1, max_size=20))
def test_levels_keep_the_order_of_the_numbers(values: list[float]) -> None:
    """A larger RTT never gets a smaller level, and every level fits the palette."""
    sites = [Site(id=f"p{i}", kind="pop", name="p", lat=0, lon=i) for i in range(len(values))]
    links = [link(site.id, "aws:us-east-1", value) for site, value in zip(sites, values, strict=True)]
    spec = heatmap.heat_spec(heatmap.grid([*sites, IAD1], links, "pop", "region"), metrics.METRICS["p50"], theme.LIGHT)
    levels = list(base64.b64decode(spec["levels"]))
    assert all(1 <= level <= len(base64.b64decode(spec["palette"])) // 3 for level in levels)
    ranked = sorted(zip(values, levels, strict=True))
    assert [level for _, level in ranked] == sorted(levels)


def test_fastest_of_all_takes_the_faster_medium() -> None:
    """The medium "any" keeps, for each ordered pair, the link with the least median; an unknown median loses."""
    links = [link("sin", "fra", 160), link("sin", "fra", 120, medium="backbone"), link("sin", "fra", None, medium="direct-connect")]
    assert [found.medium for found in metrics.of_medium(links, "any")] == ["backbone"]
    assert metrics.media_of(links) == ["internet", "backbone", "direct-connect"]


def _columns(known: list[bool], value: float = 100.0) -> dict[str, list[object]]:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    times = [start + timedelta(seconds=60 * i) for i in range(len(known))]
    fill = [value if is_known else None for is_known in known]
    return {
        "bucket_at": times,
        "sent": [5 if is_known else 0 for is_known in known],
        "lost": [1 if is_known else 0 for is_known in known],
    } | {name: list(fill) for name in ("min_ms", "p5_ms", "p25_ms", "p50_ms", "p75_ms", "p95_ms", "max_ms")}


def test_gaps_stay_gaps_and_are_shaded() -> None:
    """Buckets without packets are NaN in the median, break the bands and are shaded; loss there is unknown, not zero."""
    found = series.series_of(_columns([True] * 5 + [False] * 4 + [True] * 5))
    figure = series.band_figure(found, theme.LIGHT, floor_ms=50.0)
    median = next(trace for trace in figure.data if trace.name == "median")
    assert [math.isnan(y) for y in median.y] == [False] * 5 + [True] * 4 + [False] * 5
    bars = next(trace for trace in figure.data if trace.name == "loss")
    assert [None if math.isnan(y) else round(float(y), 1) for y in bars.y] == [20.0] * 5 + [None] * 4 + [20.0] * 5
    assert len(figure.layout.shapes) == 1
    assert next(trace for trace in figure.data if "floor" in (trace.name or "")).y == (50.0, 50.0)


def test_axis_fits_what_was_measured_unless_the_floor_is_asked_for() -> None:
    """Fitted, the axis holds the least and greatest RTT and not a floor far below; an empty series leaves it alone."""
    found = series.series_of(_columns([True] * 5))
    least, most = min(found.columns["min_ms"]), max(found.columns["max_ms"])
    low, high = series.band_figure(found, theme.LIGHT, floor_ms=1.0, from_floor=False).layout.yaxis.range
    assert 1.0 < low < least
    assert most < high
    assert series.band_figure(found, theme.LIGHT, floor_ms=1.0).layout.yaxis.range is None
    assert series.fitted(series.series_of(_columns([False] * 5))) is None


def test_band_outline_has_one_polygon_for_each_stretch() -> None:
    """Each stretch of known buckets is closed on itself; a single bucket still has a width."""
    found = series.series_of(_columns([True, True, False, True]))
    figure = series.band_figure(found, theme.LIGHT, floor_ms=None)
    band = next(trace for trace in figure.data if trace.name == "p25 – p75")
    pieces = [list(group) for is_gap, group in itertools.groupby(band.x, key=math.isnan) if not is_gap]
    assert len(pieces) == 2
    assert all(piece[0] == piece[-1] and len(set(piece)) > 1 for piece in pieces)


def test_throughput_and_ttft_get_rows_of_their_own_only_when_there_are_any() -> None:
    """Rows: RTT and loss always; throughput and TTFT when there are points; failed tests are no points."""
    found = series.series_of(_columns([True] * 3))
    at = [datetime(2026, 5, 1, tzinfo=UTC)] * 2
    rates = {"started_at": at, "throughput_bps": [50_000_000, None], "direction": ["up", "up"]}
    bare = series.band_figure(found, theme.LIGHT, floor_ms=None, throughput={"started_at": [], "throughput_bps": [], "direction": []})
    full = series.band_figure(found, theme.LIGHT, floor_ms=None, throughput=rates, inference={"started_at": at, "ttft_ms": [80.0, None]})
    assert not hasattr(bare.layout, "yaxis3") or bare.layout.yaxis3.domain is None
    assert full.layout.yaxis4.title.text == "TTFT (ms)"
    assert [list(trace.y) for trace in full.data if trace.name == "throughput up"] == [[50.0]]


@given(st.lists(st.booleans(), max_size=40))
def test_runs_are_the_true_stretches(flags: list[bool]) -> None:
    """The stretches put together give back exactly the flags."""
    rebuilt = [False] * len(flags)
    for first, last in series.runs(flags):
        assert first < last
        rebuilt[first:last] = [True] * (last - first)
    assert rebuilt == flags


def _path(rtts_ms: list[float | None], **more: object) -> TracerouteResult:
    path_hops = tuple(
        Hop(
            ttl=ttl,
            address=None if rtt is None else f"192.0.2.{ttl}",
            rtt_ns=None if rtt is None else round(rtt * MS),
            probes=2,
            replies=2 * (rtt is not None),
        )
        for ttl, rtt in enumerate(rtts_ms, start=1)
    )
    values: dict[str, object] = {"flow": 0, "reached": rtts_ms[-1] is not None, "path_hash": "abcdef012345"}
    head = {"id": "b-1", "agent": "test", "src": "sin", "dst": "fra", "medium": "internet", "target": "192.0.2.9", "started_at_ns": 0}
    return TracerouteResult(**head, engine="test/1", protocol="icmp", hops=path_hops, **(values | more))  # type: ignore[arg-type]


def test_silent_hops_stand_between_their_neighbours() -> None:
    """A silent hop is placed midway, stays in the table as "no answer", and one after the last answer has no place."""
    path = _path([1.0, None, 5.0, None])
    assert hops.placed(path) == [(1, 1.0), (2, 3.0), (3, 5.0), (4, None)]
    rows = hops.hop_rows(path)
    assert [row["address"] for row in rows] == ["192.0.2.1", "no answer", "192.0.2.3", "no answer"]
    assert [row["added_ms"] for row in rows] == [1.0, None, 4.0, None]


def test_hops_figure_marks_loud_and_silent_apart() -> None:
    """The figure has full markers for the hops that answered and hollow ones for those that did not."""
    figure = hops.hops_figure([_path([1.0, None, 5.0])], theme.LIGHT, floor_ms=3.0)
    markers = [trace for trace in figure.data if "markers" in trace.mode]
    assert [list(trace.x) for trace in markers] == [[3.0], [1.0, 5.0]]
    assert figure.layout.shapes[0].x0 == 3.0


def test_path_changes_are_counted_for_each_flow() -> None:
    """Two flows on two paths change nothing; a flow that leaves its path and comes back changes twice."""
    start = datetime(2026, 5, 1, tzinfo=UTC)
    seen = [(0, "a"), (1, "x"), (0, "b"), (1, "x"), (0, "a")]
    history = {
        "started_at": [start + timedelta(minutes=i) for i in range(5)],
        "flow": [flow for flow, _ in seen],
        "path_hash": [path for _, path in seen],
        "hop_count": [7] * 5,
        "reached": [True, True, True, False, True],
    }
    assert hops.changes(history) == 2
    figure = hops.changes_figure(history, theme.LIGHT)
    assert [trace.name for trace in figure.data] == ["a", "x", "b"]
    assert list(figure.data[1].marker.symbol) == ["diamond", "diamond-open"]


ROUTE = {
    "sites": ["fra", "sin"],
    "parts": {"connect": 10.0, "upload": 5.0, "relay": 0.0, "queue": None, "prefill": 20.0, "network": 15.0, "decode": 900.0},
    "ttft_ms": {"p50": 50.0},
    "e2e_ms": {"p50": 950.0},
    "usd_per_1k": 1.0,
}


def test_bars_add_up_to_the_time_asked_for() -> None:
    """For TTFT the parts shown add up to it and decoding is left out; for E2E it is in. Unknown parts take no room."""
    figure = routes.parts_figure([ROUTE], theme.LIGHT, objective="ttft", budget_ms=60)
    assert sum(trace.x[0] or 0 for trace in figure.data if trace.type == "bar") == 50.0
    assert figure.data[-1].text[0].strip() == "50.00 ms"
    assert figure.layout.shapes[0].x0 == 60
    whole = routes.parts_figure([ROUTE], theme.LIGHT, objective="e2e")
    assert sum(trace.x[0] or 0 for trace in whole.data if trace.type == "bar") == 950.0


def test_a_bar_and_the_strip_round_alike() -> None:
    """473.45 is a little less than it reads, and its parts add up to a little more: one number, one rounding, in bar and strip."""
    parts = {"connect": 473.4500001, "upload": 0.0, "relay": 0.0, "queue": None, "prefill": 0.0, "network": 0.0, "decode": 0.0}
    figure = routes.parts_figure([{**ROUTE, "parts": parts, "ttft_ms": {"p50": 473.45}}], theme.LIGHT)
    assert figure.data[-1].text[0].strip() == text.milliseconds(473.45) == "473.4 ms"


def test_pareto_leaves_out_routes_without_a_price() -> None:
    """A route whose price is not known is not drawn at zero; ranks stay those of the ranking."""
    figure = routes.pareto_figure([{**ROUTE, "usd_per_1k": None}, ROUTE], [], theme.LIGHT)
    assert list(figure.data[-1].text) == ["2"]


def test_quick_chart_needs_a_number_to_draw() -> None:
    """Times go across first, numbers go up; a table without numbers has no chart."""
    import pandas as pd
    import pyarrow as pa

    assert quick.axes(pa.table({"a": ["x"], "b": ["y"]})) is None
    table = pa.Table.from_pandas(
        pd.DataFrame({"n": [2.0, 1.0], "word": ["b", "a"], "at": pd.to_datetime(["2026-01-02", "2026-01-01"], utc=True)})
    )
    across, up = quick.axes(table) or ([], [])
    assert (across[0], up) == ("at", ["n"])
    assert quick.usual_kind(table, "word") == "bar"
    assert list(quick.figure(table, "at", ["n"], "line", theme.LIGHT).data[0].y) == [1.0, 2.0]


def test_a_map_is_sent_as_it_is() -> None:
    """What goes to the browser is the map's JSON, also when parts of it were sent before."""
    drawn, _ = netmap.link_layer([link("sin", "fra"), link("nrt", "sjc")], metrics.METRICS["p50"], theme.LIGHT)
    for failed in ((), ("fra",), ()):
        spec = netmap.map_spec(SITES, drawn, theme.LIGHT, focus="sin", failed=failed)
        assert json.loads(netmap.encoded(spec)) == json.loads(json.dumps(spec))


@pytest.mark.parametrize("above", [False, True])
def test_lines_up_are_those_of_plotly(above: bool) -> None:
    """Shape and annotation are what `add_vline` makes of the same, which takes as long as the rest of a chart."""
    line = {"color": "red", "width": 1, "dash": "dot"}
    theirs, ours = go.Figure(), go.Figure()
    for figure in (theirs, ours):
        figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1]))
    for x in (20.0, 50.0):
        theirs.add_vline(
            x=x, line=line, annotation_text=f"{x:g}", annotation_font_size=11, annotation_position="top" if above else "top right"
        )
    ours.update_layout(**uprights([(20.0, "20"), (50.0, "50")], line, above=above))
    assert ours.layout.shapes == theirs.layout.shapes
    assert ours.layout.annotations == theirs.layout.annotations
