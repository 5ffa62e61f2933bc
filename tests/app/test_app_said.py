"""What the pages say is what they show: legends, units, orders, and the words beside a number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest
from test_app_pages import Open, opened, world  # noqa: F401  fixtures

from app.charts import reach
from app.scenario_form import to_address
from app.theme import DARK, LIGHT

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


def test_lost_places_are_rings_in_the_legend_of_a_burst(opened: Open, world: Path) -> None:  # noqa: F811
    """Of ten times the demand places are lost: rings on the map after, none before, and both legends say what a ring is."""
    before, after = maps(opened(world, "scenario", s=to_address(RUSH)))
    for spec, is_lossy in ((before, False), (after, True)):
        rings = [site for site in spec["sites"] if site["dot"] and site["dot"]["ring"]]
        assert bool(rings) is is_lossy
        assert all(["TTFT p95", "lost"] in site["tip"] for site in rings)
        assert spec["legend"]["items"][-1]["text"] == "lost"


def test_isochrones_name_who_is_not_served(opened: Open, world: Path) -> None:  # noqa: F811
    """All three legends."""
    assert [spec["legend"]["items"][-1]["text"] for spec in maps(opened(world, "isochrones"))] == ["not served"] * 3
