"""What the pages say is what they show: legends, units, orders, and the words beside a number."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from app_page import page_functions
from streamlit.testing.v1 import AppTest
from test_app_pages import Open, _figures, _kpis, opened, world  # noqa: F401  fixtures

from app import text, whatif_text
from app.charts import reach
from app.charts.scenario import burst_figure, burst_strip
from app.scenario_form import EDITS, sentence, to_address
from app.theme import DARK, LIGHT
from inventory.load import load
from records.link import LinkEstimate
from records.units import MS
from routing import gates

#: Ten times all demand: more than all pools take, so that places are lost.
RUSH = {"name": "rush", "edits": [{"op": "burst", "factor": 10.0, "start_s": 600, "rise_s": 120, "hold_s": 600, "fall_s": 120}]}


def maps(at: AppTest) -> list[dict[str, Any]]:
    """What the canvases of a page are given."""
    return [json.loads(one.proto.bytes or one.proto.json) for one in at.get("bidi_component")]


def said(at: AppTest) -> str:
    """All captions, remarks and headings of a page."""
    return "\n".join(one.value for one in (*at.caption, *at.markdown, *at.info, *at.warning))


def test_who_is_not_served_has_a_shape_of_its_own() -> None:
    """A ring, which no class of time has, and the legend names it; the same mark on the map and in the legend."""
    for colours in (LIGHT, DARK):
        *classes, unserved = reach.legend_items(colours, "lost")
        ring = reach.dot_of(None, colours, [])
        assert ring.ring
        assert (unserved["text"], unserved["ring"], unserved["colour"], unserved["dot"]) == ("lost", True, ring.colour, ring.size)
        for time_ms, item in zip((5.0, 30.0, 80.0, 150.0, 900.0), classes, strict=True):
            dot = reach.dot_of(time_ms, colours, [])
            assert (dot.ring, dot.colour, dot.size) == (False, item["colour"], item["dot"])


def test_isochrones_name_who_is_not_served(opened: Open, world: Path) -> None:  # noqa: F811
    """All three legends."""
    at = opened(world, "isochrones")
    assert [spec["legend"]["items"][-1]["text"] for spec in maps(at)] == ["not served"] * 3
    assert text.COLD_STARTS in said(at)


def test_a_burst_says_who_is_lost_and_what_its_waits_are_of(opened: Open, world: Path) -> None:  # noqa: F811
    """Of ten times the demand places are lost: rings after, none before, and both legends say what a ring is.

    Its waits come with the command's own sentence, how far over capacity, who waits longest and how many; no thousands of ms.
    """
    at = opened(world, "scenario", s=to_address(RUSH))
    for spec, is_lossy in zip(maps(at), (False, True), strict=True):
        rings = [site for site in spec["sites"] if site["dot"] and site["dot"]["ring"]]
        assert bool(rings) is is_lossy
        assert all(["TTFT p95", "lost"] in site["tip"] for site in rings)
        assert spec["legend"]["items"][-1]["text"] == "lost"
    assert whatif_text.IN_TIME in said(at)
    assert text.COLD_STARTS in said(at)
    kpis = _kpis(at)
    assert {"Over capacity", "Mean wait", "Worst pool", "Waiting"} <= set(kpis)
    assert kpis["Over capacity"] != "0 %"
    (figure,) = _figures(at)
    titles = [axis["title"]["text"] for name, axis in sorted(figure["layout"].items()) if name.startswith("yaxis")]
    assert titles[:2] == ["requests/s", "over cap. (%)"]
    assert titles[2] in ("mean wait (s)", "mean wait (min)")
    assert "Demand bursts: 10 times, begins after 10 min, rises within 2 min, holds 10 min, falls within 2 min" in said(at)


def test_waits_are_told_in_the_unit_that_fits() -> None:
    """Two and three quarter minutes are no 165,000 ms, on the axis nor in the strip; a short wait stays in ms."""
    step = {"t_s": 600.0, "rps": 640.0, "over_capacity_share": 0.13, "worst_pool": "sin-l40s", "worst_wait_ms": 200_000.0, "waiting": 17.4}
    figure = burst_figure([step | {"wait_ms": 165_000.0}], LIGHT)
    assert (figure.data[-1].name, list(figure.data[-1].y)) == ("mean wait (s)", [165.0])
    assert list(figure.data[1].y) == [13.0]
    assert burst_figure([step | {"wait_ms": 12.0}], LIGHT).data[-1].name == "mean wait (ms)"
    shown = {name: (value, remark) for name, value, remark, _ in burst_strip([step | {"wait_ms": 165_000.0}])}
    assert shown["Mean wait"] == ("2 min 45 s", "at most, minute 10")
    assert shown["Worst pool"] == ("sin-l40s", "waits 3 min 20 s")
    assert (shown["Over capacity"][0], shown["Waiting"][0]) == ("13.0 %", "17")


@pytest.mark.parametrize("op", list(EDITS))
def test_no_field_of_a_form_is_said_by_its_name_in_the_file(op: str) -> None:
    """Words, not `start_s`: of every edit with every field it may have."""
    edit = {"op": op} | {field.name: field.usual if field.usual is not None else ["x"] for field in EDITS[op].fields}
    assert not re.search(r"[a-z]_[a-z]", sentence(edit)), sentence(edit)


def test_a_scenario_that_names_its_workload_is_shown_and_kept_by_it(opened: Open, world: Path) -> None:  # noqa: F811
    """The list shows the scenario's own and cannot be turned; the row side by side has its name; no two columns are called the same."""
    at = opened(world, "scenario", s=to_address({"name": "x", "workload": "voice-agent", "rps": 20, "edits": []}))
    (shown,) = [one for one in at.selectbox if one.label.startswith("Workload")]
    assert (shown.label, shown.value, shown.disabled) == ("Workload, named by the scenario", "voice-agent", True)
    next(button for button in at.button if button.label == "Keep to compare").click().run()
    kept = at.dataframe[-1]
    assert kept.value["scenario"].tolist() == ["x · voice-agent"]
    labels = [column.get("label") for column in json.loads(kept.proto.columns).values()]
    assert len(set(labels)) == len(labels)
    sites = next(one for one in at.selectbox if one.key == "field_fail_site_site")
    assert {"fra · Frankfurt", "sin · Singapore"} <= set(sites.options)


def _asked(src: str, setup: float | None, network: float | None, machine: float | None, ttft: float | None = 1.0) -> dict[str, Any]:
    row: dict[str, Any] = {"src": src, "dst": "sin", "medium": "internet", "model": "m", "connection": "cold"}
    return row | {"setup_p50_ms": setup, "network_p50_ms": network, "machine_p50_ms": machine, "ttft_p50_ms": ttft}


def test_inference_orders_its_bars_by_what_is_drawn() -> None:
    """The longest bar first, setup and all where it is drawn; who never answered last; and the axis says what is in."""
    page = page_functions("inference")
    rows = [_asked("a", 1.0, 20.0, 20.0), _asked("b", 50.0, 1.0, 1.0), _asked("c", None, None, None, None), _asked("d", 2.0, 30.0, 5.0)]
    found = {name: [row[name] for row in rows] for name in rows[0]}
    cold = page["chosen_rows"](found, model="m", connection="cold", by="dst", site="")
    assert cold["src"] == ["b", "a", "d", "c"]
    figure = page["split_figure"](cold, LIGHT, cold=True)
    lengths = [sum(trace.x[i] or 0 for trace in figure.data) for i in range(len(rows))]
    assert lengths == sorted(lengths, reverse=True)
    assert figure.layout.xaxis.title.text.startswith("setup and time to first token")
    warm = page["chosen_rows"](found | {"connection": ["warm"] * 4}, model="m", connection="warm", by="dst", site="")
    assert warm["src"] == ["a", "d", "b", "c"]
    assert page["split_figure"](warm, LIGHT, cold=False).layout.xaxis.title.text.startswith("time to first token")
    apart = page["chosen_rows"](
        {name: [*found[name], value] for name, value in _asked("e", 1.0, None, None, 45.0).items()},
        model="m",
        connection="cold",
        by="dst",
        site="",
    )
    assert apart["src"] == ["b", "e", "a", "d", "c"]  # a time whose parts nobody told apart is no short one
    assert page["split_figure"](apart, LIGHT, cold=True).data[-1].x == (None, 45.0, None, None, None)


def test_a_plan_says_what_it_holds_that_a_measurement_does_not() -> None:
    """The plan without its Connect is what a request over an open connection is to be set beside; a warm plan has none."""
    apart = page_functions("routes")["measured_apart"]
    route = {"ttft_ms": {"p50": 466.4}, "parts": {"connect": 200.0}}
    assert "begins with Connect, and without it route 1 takes 266.4 ms" in apart(route, "cold")
    assert apart(route | {"parts": {"connect": 0.0}}, "warm").endswith("as the plan's does.")


def test_inference_says_what_is_in_its_times_and_media(opened: Open, world: Path) -> None:  # noqa: F811
    """Setup is in the bars and in no TTFT of tile and table; Medium on the left counts for nothing here, and it is said."""
    at = opened(world, "inference", window="all")
    assert "Least TTFT, setup apart" in _kpis(at)
    assert text.ALL_MEDIA in said(at)
    assert re.search(r"The 24 slowest shown, \d+ more in the table", said(at))
    assert "Setup comes before: it is in the bars, and in no TTFT of this page." in said(at)


def test_one_city_has_two_times_and_pages_say_why(opened: Open, world: Path) -> None:  # noqa: F811
    """Cold from a metro is far sooner than cold from its PoP where the way is long, and pages say why; warm there is nothing to say."""
    shown = {}
    for source in ("gru", "metro:sao-paulo"):
        at = opened(world, "routes", src=source, to="gcp:asia-southeast1")
        assert text.COLD_STARTS in said(at)
        assert text.ALL_MEDIA in said(at)
        shown[source] = at.dataframe[0].value["ttft_p50"].min()
    assert shown["metro:sao-paulo"] < 0.7 * shown["gru"]
    assert text.COLD_STARTS not in said(opened(world, "routes", src="gru", connection="warm"))
    assert text.COLD_STARTS in said(opened(world, "whatif", fail="fra"))


def test_what_is_kept_out_says_by_which_numbers() -> None:
    """Both medians of a pair whose directions are apart, as the gate held them against each other; other verdicts their own numbers."""
    page = page_functions("quality")

    def link(src: str, dst: str, p50: float | None, **more: Any) -> LinkEstimate:
        return LinkEstimate(src=src, dst=dst, medium="internet", rtt_p50_ns=None if p50 is None else round(p50 * MS), **more)

    given = [
        link("a", "b", 30.0),
        link("b", "a", 96.0),
        link("c", "d", 50.0, rtt_min_ns=20 * MS),
        link("d", "c", 60.0, rtt_min_ns=58 * MS),
        link("sin", "fra", 5.0),
        link("e", "f", 9.0, rtt_min_ns=8 * MS, age_s=200_000.0, sample_count=50),
        link("g", "h", None),
    ]
    table = page["kept_out"](gates.grade(given, load().sites, gates.GatePolicy(max_age_s=86_400.0)))
    found = {(a, b): at for at, (a, b) in enumerate(zip(table["from"], table["to"], strict=True))}
    assert set(found) == {("a", "b"), ("c", "d"), ("sin", "fra"), ("e", "f"), ("g", "h")}
    because = {key: table["reason"][at] for key, at in found.items()}
    assert because["a", "b"] == "p50 30.00 ms, back 96.00 ms"
    assert (table["p50_ms"][found["a", "b"]], table["back_ms"][found["a", "b"]]) == (30.0, 96.0)
    assert because["c", "d"] == "least 20.00 ms, back 58.00 ms"
    assert because["sin", "fra"].startswith("p50 5.00 ms, light takes ")
    assert because["e", "f"] == "newest sample 2 d 7 h ago"
    assert (because["g", "h"], table["back_ms"][found["g", "h"]]) == ("no RTT", None)
