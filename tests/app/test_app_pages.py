"""Every page of the dashboard, run by Streamlit's own test runner: without a warehouse, with an empty one, with the test world."""

from __future__ import annotations

import functools
import json
import re
import shutil
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import dashboard_seed
import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from app import data, frame, text
from app.dashboard import SCRIPT
from records.errors import WarehouseMissing
from warehouse import open_warehouse

#: Needs nothing but the inventory.
ALONE = ("inventory",)
PAGES = (
    "overview",
    "mesh",
    "pair",
    "paths",
    "inference",
    "routes",
    "isochrones",
    "whatif",
    "scenario",
    "placement",
    "cost",
    "fleet",
    "quality",
    "sql",
)

Open = Callable[..., AppTest]


#: What Streamlit looks for in every installed package before each run of a page: half of what a run takes, and always the same.
_installed_components = functools.cache(manifest_scanner.scan_component_manifests)
#: When the test world of a folder was made, in seconds of the wall clock.
_MADE_S: dict[Path, float] = {}


@functools.cache
def _world(folder: Path) -> Path:
    made = dashboard_seed.build(folder / "warehouse", minutes=12)
    _MADE_S[made] = time.time()
    return made


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a warehouse with the test world in it, one for all that import this."""
    return _world(tmp_path_factory.getbasetemp() / "world-of-pages")


def _clock(behind: timedelta) -> type[datetime]:
    """The pages' clock, late by so much: a world that was made a while ago is as fresh as when it was made."""

    class Late(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - behind

    return Late


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a page over a warehouse folder, with an address; the run must end without an exception."""

    def run(folder: Path, page: str = "overview", **address: str) -> AppTest:
        st.cache_data.clear()
        st.cache_resource.clear()
        monkeypatch.setenv("ISOCHRONE_WAREHOUSE", str(folder))
        monkeypatch.setattr(manifest_scanner, "scan_component_manifests", _installed_components)
        monkeypatch.setattr(data, "datetime", _clock(timedelta(seconds=time.time() - _MADE_S.get(folder, time.time()))))
        at = AppTest.from_file(str(SCRIPT), default_timeout=60)
        for key, value in address.items():
            at.query_params[key] = value
        at.switch_page(f"app_pages/{page}.py")
        at.run()
        assert not at.exception, at.exception
        return at

    return run


def _html(at: AppTest) -> str:
    return " ".join(element.proto.body for element in at.get("html"))


def _figures(at: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]


def _kpis(at: AppTest) -> dict[str, str]:
    return dict(re.findall(r'class="n">([^<]*)</div><div class="v[^"]*">([^<]*)<', _html(at)))


@pytest.mark.parametrize("page", PAGES)
def test_without_a_warehouse_a_page_says_what_to_do(opened: Open, tmp_path: Path, page: str) -> None:
    """No warehouse: every page names the place it looked at and the command that makes one, and raises nothing."""
    at = opened(tmp_path / "none", page)
    assert str(tmp_path / "none") in at.info[0].value
    assert "isochrone demo" in at.code[0].value
    assert not at.error


@pytest.mark.parametrize("page", PAGES)
def test_with_an_empty_warehouse_a_page_says_what_to_do(opened: Open, kept: Path, page: str) -> None:
    """An empty warehouse: every page says how to fill it."""
    at = opened(kept, page)
    assert "empty" in at.info[0].value
    assert "isochrone import rtt-matrix" in at.code[0].value
    assert not at.error


@pytest.mark.parametrize("page", [*PAGES, *ALONE])
def test_with_data_a_page_shows_them(opened: Open, world: Path, page: str) -> None:
    """The test world: every page draws, nothing is an error or a next step."""
    at = opened(world, page)
    assert not at.error
    assert not at.info
    assert at.get("bidi_component") or at.get("plotly_chart") or at.dataframe


def test_overview_counts_what_is_there(opened: Open, world: Path) -> None:
    """The strip shows the sites and links of the test world, its worst loss, its silent agent; the gates' table its faults."""
    at = opened(world)
    kpis = _kpis(at)
    count = len(dashboard_seed.sites())
    pops = sum(site.kind == "pop" for site in dashboard_seed.sites())
    assert kpis["Sites"] == str(count)
    # Every PoP measures every other site over the internet, and every other PoP over the backbone too.
    assert kpis["Links measured"] == f"{pops * (count - 1) + pops * (pops - 1)}"
    assert kpis["Agents silent"] == f"1 of {pops}"
    assert " → ".join(dashboard_seed.FAULTS["lossy"]).replace("→", "→") in _html(at).replace("&gt;", ">")
    gates = at.dataframe[-1].value
    # Nothing of a degraded agent is routed over: all its links; and the one impossible link.
    assert dict(zip(gates["gate"], gates["links"], strict=True)) == {"faster than light": 1, "degraded agent": (count - 1) + (pops - 1)}


def test_overview_says_the_whole_of_why_links_are_kept_out(opened: Open, world: Path) -> None:
    """Each gate's reason as text that wraps; every figure's cell has all it says as its title."""
    at = opened(world)
    gates = at.dataframe[-1].value
    said = " ".join(caption.value for caption in at.caption)
    assert all(f"**{gate}**: {why}" in said for gate, why in zip(gates["gate"], gates["why"], strict=True))
    assert f'title="Agents silent: {_kpis(at)["Agents silent"]} · ' in _html(at)


def test_mesh_leaves_out_what_a_gate_keeps_out(opened: Open, world: Path) -> None:
    """The impossible link is no data by default and comes back with the switch; the table holds the known cells."""
    src, dst = dashboard_seed.FAULTS["impossible"]

    def pairs(**address: str) -> set[tuple[str, str]]:
        table = opened(world, "mesh", table="true", grid="pop-region", **address).dataframe[0].value
        return set(zip(table["src"], table["dst"], strict=True))

    assert (src, dst) not in pairs()
    assert (src, dst) in pairs(gated="true")


def test_pair_follows_its_address_and_turns_round(opened: Open, world: Path) -> None:
    """?src and ?dst choose the pair; Reverse swaps them, in the address too."""
    at = opened(world, "pair", src="sin", dst="fra")
    assert (at.session_state["src"], at.session_state["dst"]) == ("sin", "fra")
    next(button for button in at.button if button.label == "Reverse").click().run()
    assert (at.session_state["src"], at.session_state["dst"]) == ("fra", "sin")
    assert at.query_params["src"] in ("fra", ["fra"])
    assert not at.exception


def test_pair_shows_the_change_and_the_loss(opened: Open, world: Path) -> None:
    """The link that was made slower half-way has a later median about 18 % above the earlier; the lossy one has loss bars."""
    src, dst = dashboard_seed.FAULTS["changed"]
    figure = _figures(opened(world, "pair", src=src, dst=dst))[0]
    median = [y for y in _numbers(next(t for t in figure["data"] if t.get("name") == "median")["y"]) if y == y]  # noqa: PLR0124
    third = len(median) // 3
    early, late = sorted(median[:third])[third // 2], sorted(median[-third:])[third // 2]
    assert late / early == pytest.approx(1.18, abs=0.06)
    src, dst = dashboard_seed.FAULTS["lossy"]
    figure = _figures(opened(world, "pair", src=src, dst=dst))[0]
    bars = _numbers(next(t for t in figure["data"] if t.get("name") == "loss")["y"])
    assert max(y for y in bars if y == y) > 0  # noqa: PLR0124


def _numbers(sent: Any) -> list[float]:
    """A Plotly array, whether sent as a list or as base64."""
    if isinstance(sent, dict):
        import base64

        import numpy as np

        return [float(y) for y in np.frombuffer(base64.b64decode(sent["bdata"]), dtype=sent["dtype"])]
    return [float("nan") if y is None else float(y) for y in sent]


def test_a_site_nobody_knows_in_the_address_is_named(opened: Open, world: Path) -> None:
    """An unknown site in a link is said in words, and the page shows its usual pair instead."""
    at = opened(world, "pair", src="atlantis")
    assert any("atlantis" in toast.value for toast in at.toast)
    assert at.session_state["src"] != "atlantis"


def test_routes_start_from_the_site_that_was_focused(opened: Open, world: Path) -> None:
    """From the Overview with a site in focus to Routes: from that site; without a focus from where a page opens by itself."""
    at = opened(world, "overview", site="gru")
    at.query_params.clear()
    at.switch_page("app_pages/routes.py").run()
    assert at.session_state["src"] == "gru"
    at = opened(world, "overview")
    at.switch_page("app_pages/routes.py").run()
    assert at.session_state["src"] != "gru"


@pytest.mark.parametrize(
    ("page", "asked", "shown"),
    [
        ("overview", {"site": "nosuch"}, "All sites"),
        ("routes", {"to": "nosuch"}, "Best place"),
        ("routes", {"objective": "foo"}, "First token"),
        ("routes", {"budget": "-5"}, "none"),
        ("routes", {"rules": "zzz"}, "none"),
        ("placement", {"k": "999999"}, "8"),
        ("cost", {"cameras": "-1"}, "1000"),
        ("mesh", {"table": "perhaps"}, "off"),
    ],
)
def test_what_an_address_cannot_have_is_named(opened: Open, world: Path, page: str, asked: dict[str, str], shown: str) -> None:
    """Whichever widget takes it: the value as it was asked, and as it reads on the page what is shown instead."""
    at = opened(world, page, **asked)
    ((key, value),) = asked.items()
    assert [toast.value for toast in at.toast] == [f"`{key}={value}` in the address is not among the choices here; showing {shown}"]


@pytest.mark.parametrize(
    ("page", "asked"),
    [
        ("routes", {"src": "gru", "budget": "900", "measured": "true", "objective": "ttft"}),
        ("placement", {"k": "8", "prove": "false"}),
        ("cost", {"cameras": "300"}),
        ("inventory", {"find": "sing", "utm": "x"}),
    ],
)
def test_what_an_address_can_have_is_shown_without_a_word(opened: Open, world: Path, page: str, asked: dict[str, str]) -> None:
    """Values that are taken, usual ones that need not be said, free text, and what no widget is called."""
    assert not opened(world, page, **asked).toast


def test_paths_keeps_silent_hops(opened: Open, world: Path) -> None:
    """The hop table has every TTL, the silent fifth among them, and the strip counts the change of path."""
    src, dst = dashboard_seed.FAULTS["changed"]
    at = opened(world, "paths", src=src, dst=dst)
    rows = at.dataframe[0].value
    assert rows["hop"].tolist() == list(range(1, 8))
    assert rows["address"][4] == "no answer"
    assert any("change" in caption.value and "0 changes" not in caption.value for caption in at.caption)


def test_routes_answers_and_explains(opened: Open, world: Path) -> None:
    """From a PoP the planner ranks routes whose parts add up; an impossible budget says what binds instead of an error."""
    at = opened(world, "routes", src="gru")
    table = at.dataframe[0].value
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert table["ttft_p50"].tolist() == sorted(table["ttft_p50"])
    measured = at.dataframe[-1].value
    # The test world's agents ask every region, and TTFT is at least the round trip.
    assert set(measured["dst"]) == {site.id for site in dashboard_seed.sites() if site.kind == "region"}
    assert measured["ttft_p50_ms"].tolist() == sorted(measured["ttft_p50_ms"])
    at = opened(world, "routes", src="gru", budget="1")
    assert at.warning
    assert any("What binds" in markdown.value for markdown in at.markdown)
    assert not at.error


def test_whatif_loses_no_pair_silently(opened: Open, world: Path) -> None:
    """Failing a PoP: every pair before is an end of it, cut, re-routed or unchanged; the table lists the re-routed by harm."""
    at = opened(world, "whatif", fail="fra")
    kpis = _kpis(at)
    assert int(kpis["End at the site"]) > 0
    table = at.dataframe[0].value
    rerouted = [state for state in table["state"] if "re-routed" in state]
    assert int(kpis["Re-routed"]) == len(rerouted)
    assert table["delta_ms"].tolist() == sorted(table["delta_ms"], reverse=True)
    assert at.query_params["fail"] in ("fra", ["fra"])
    served = at.dataframe[-1].value
    hit = [state != "unchanged" for state in served["state"]]
    assert any(hit)
    assert hit == sorted(hit, reverse=True)  # what changed stands above what did not
    for _, rows in served.groupby("state"):
        assert rows["delta_ms"].tolist() == sorted(rows["delta_ms"], reverse=True)


def test_sql_runs_and_refuses(opened: Open, world: Path) -> None:
    """A query gives its rows; a statement that writes is refused with a message, not an exception box."""
    at = opened(world, "sql", q="SELECT 41 + 1 AS answer")
    at.button[0].click().run()
    assert at.dataframe[0].value["answer"].tolist() == [42]
    at.text_area[0].set_value("DROP TABLE site").run()
    at.button[0].click().run()
    assert at.error
    assert not at.exception


def test_sql_shows_columns_of_one_name_as_two(opened: Open, world: Path) -> None:
    """Two columns called a are two, each with its own value, as `isochrone sql` names them; no field of the CSV is lost."""
    at = opened(world, "sql", q="SELECT 1 AS a, 2 AS a")
    at.button[0].click().run()
    assert at.dataframe[0].value.to_dict("records") == [{"a": 1, "a_2": 2}]
    assert frame.csv_of(at.session_state["result"].table.to_pydict())() == "a,a_2\r\n1,2\r\n"


def test_sql_says_what_it_cannot_show(opened: Open, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer too large to be drawn, a table that is not there, too little time: one sentence each that can be followed."""

    def asked(query: str) -> AppTest:
        at = opened(world, "sql", q=query)
        at.button[0].click().run()
        assert not at.exception
        assert not at.dataframe
        return at

    at = asked("SELECT repeat('x', 60000000) AS a")
    assert [info.value for info in at.info] == [
        "The answer has 60.0 MB, and this page shows 50.0 MB at most: save it as CSV or Parquet, or narrow the query."
    ]
    assert [button.label for button in at.get("download_button")] == ["CSV", "Parquet"]
    at = asked("FROM nosuch")
    assert at.error[0].value.endswith("does not exist!")
    monkeypatch.setattr(data.workbench, "run", functools.partial(_hurried, data.workbench.run))
    at = asked("SELECT sum(a.i * b.i % 7) FROM range(1000000) AS a (i), range(1000000) AS b (i)")
    assert at.error[0].value == (
        "The query took longer than 0.2 s, the limit here; narrow its window or its sites, or give it more time with "
        "`isochrone sql --timeout SECONDS`"
    )


def _hurried(run: Callable[..., Any], *arguments: Any, **limits: Any) -> Any:
    return run(*arguments, **{**limits, "timeout_s": 0.2})


def test_every_error_reads_alike() -> None:
    """An error that is raised, one that is told, and words that a form gives: a sentence with a capital and one full stop."""

    def script() -> None:
        from app import decisions, frame
        from records.errors import NoAnswer, UserError

        with frame.guard():
            raise UserError("no site; name one\n  here\n  ^")
        frame.tell(UserError("no site; name one"))
        frame.tell(NoAnswer("no route keeps 1 ms"))
        frame.tell(decisions.scenario_problem({"name": "new", "edits": [{"op": "fail_site", "site": "nosuch"}]}, ["nou"]) or "")

    at = AppTest.from_function(script, default_timeout=60).run()
    assert not at.exception
    told = "No site; name one."
    assert [error.value for error in at.error] == [told, told, "Unknown site 'nosuch'; did you mean nou."]
    assert [info.value for info in at.info] == ["No route keeps 1 ms."]
    assert [code.value for code in at.code] == ["  here\n  ^"]


def test_every_sql_example_runs(world: Path) -> None:
    """Each example of the SQL page runs against the schema as it is and gives at least one row."""
    from app.sql_examples import SQL_EXAMPLES, SQL_IMPORTED
    from warehouse import workbench

    with open_warehouse(world) as warehouse:
        for name, query in SQL_EXAMPLES.items():
            rows = workbench.run(warehouse, query).table.num_rows
            assert rows > 0 or name == SQL_IMPORTED, name  # the test world imports nothing


@pytest.mark.parametrize("page", PAGES)
def test_an_unreadable_warehouse_is_a_message(opened: Open, tmp_path: Path, page: str) -> None:
    """A place that is no warehouse gives one clear message on every page."""
    place = tmp_path / "file"
    place.write_text("not a folder")
    at = opened(place, page)
    assert len(at.error) == 1
    assert str(place) in at.error[0].value


@pytest.mark.parametrize("page", ["overview", "sql"])
def test_files_that_are_gone_are_one_sentence(opened: Open, world: Path, tmp_path: Path, page: str) -> None:
    """A catalog without its folder of files, and one that loses it while it is looked at: what is missing and what brings it back."""
    shutil.copytree(world, tmp_path / "kept")
    at = opened(tmp_path / "kept", page)
    (tmp_path / "kept" / "data").rename(tmp_path / "away")
    st.cache_data.clear()
    at.run()
    assert len(at.error) == 1
    assert re.search(r"A file of the warehouse cannot be read; .*brings it back: .*\.parquet", at.error[0].value)
    at = opened(tmp_path / "kept", page)
    assert len(at.error) == 1
    assert f"there is no folder {tmp_path / 'kept' / 'data'}; put it back, or take a copy" in at.error[0].value


@pytest.mark.parametrize("page", ["overview", "sql", "inventory"])
def test_a_warehouse_that_is_gone_is_one_sentence_until_it_is_back(opened: Open, world: Path, tmp_path: Path, page: str) -> None:
    """Moved away under an open page: said as if there had never been one, with nothing kept forgotten; moved back, all is as it was."""
    shutil.copytree(world, tmp_path / "kept")
    at = opened(tmp_path / "kept", page)
    (tmp_path / "kept").rename(tmp_path / "away")
    for _ in range(2):
        at.run()
        assert not at.exception
        assert not at.error
        assert [info.value for info in at.info] == ([] if page in ALONE else [text.NO_DATA["warehouse"].format(location=tmp_path / "kept")])
        assert any(f"No warehouse at `{tmp_path / 'kept'}`" in caption.value for caption in at.sidebar.caption)
        st.cache_data.clear()
    (tmp_path / "away").rename(tmp_path / "kept")
    at.run()
    assert not at.exception
    assert not at.error
    assert not at.info
    assert any("Snapshot" in caption.value for caption in at.sidebar.caption)


def test_what_goes_on_looking_is_told_that_the_warehouse_is_gone(opened: Open, world: Path, tmp_path: Path) -> None:
    """A part of a page that refreshes by itself has no page around it that says so; what is put in the place of another is read."""
    shutil.copytree(world, tmp_path / "kept")
    opened(tmp_path / "kept")
    seen = data.source()
    assert seen is not None
    (tmp_path / "kept").rename(tmp_path / "away")
    with pytest.raises(WarehouseMissing, match=f"there is no warehouse at {tmp_path / 'kept'}"):
        data.fresh(seen)
    assert data.source() is None
    shutil.copytree(tmp_path / "away", tmp_path / "kept")
    assert data.fresh(seen).location == str(tmp_path / "kept")


def test_sql_that_would_take_all_memory_is_one_sentence(opened: Open, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of 40 GB that DuckDB does not count: refused, and the next question is answered."""
    at = opened(world, "sql", q="SELECT repeat('x', 400000000) AS a FROM range(100)")
    monkeypatch.setattr("app.data.SESSIONS_SPARE_MB", 200)
    monkeypatch.setattr("warehouse.workbench.MEMORY_MB", 100)
    at.button[0].click().run()
    assert not at.exception
    assert [error.value for error in at.error] == ["The query needs more memory than the 100 MB a query may use; aggregate or narrow it."]
    at.text_area[0].set_value("SELECT 41 + 1 AS answer").run()
    at.button[0].click().run()
    assert at.dataframe[0].value["answer"].tolist() == [42]


def test_a_commit_shows_at_the_next_tick(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is kept by snapshot: after another agent's batch, a rerun in the next tick counts its measurements."""
    monkeypatch.setattr(data, "TICK_S", 1)
    folder = dashboard_seed.build(tmp_path / "warehouse", minutes=3, pops=("sin", "fra"))
    at = opened(folder)
    before = int(_kpis(at)["Measurements"].replace(",", ""))
    dashboard_seed.build(folder, minutes=3, pops=("iad",))
    time.sleep(1.1)
    at.run()
    assert int(_kpis(at)["Measurements"].replace(",", "")) > before
