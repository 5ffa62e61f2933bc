"""The pages of decisions and of trust: what they say over the test world, held to what the test world was made of."""

from __future__ import annotations

import json
from pathlib import Path

import dashboard_seed
import pytest
from test_app_pages import Open, _figures, _kpis, _numbers, opened, world  # noqa: F401  fixtures

from app.scenario_form import from_address, to_address
from inventory.load import load
from warehouse import open_warehouse

#: Names a site that nobody knows.
NOWHERE = {"name": "x", "edits": [{"op": "fail_site", "site": "atlantis"}]}


def test_isochrones_count_people(opened: Open, world: Path) -> None:  # noqa: F811
    """The strip's shares are those of the table; where requests may go anywhere nobody waits longer than at the edge or in the cloud."""
    at = opened(world, "isochrones", workload="chat")
    table = at.dataframe[0].value
    assert len(table) == len([site for site in load().metros if load().population.get(site.id)])
    best = max(table.loc[table[f"{mode}_ms"] <= 100, "people"].sum() / table["people"].sum() for mode in ("edge", "cloud", "any"))
    assert _kpis(at)["Within 100 ms"] == f"{best * 100:.1f} %"
    alone = table[["edge_ms", "cloud_ms"]].min(axis=1)
    assert (table["any_ms"] <= alone * 1.02 + 0.5).all()  # draws of quantiles differ by a little
    curve = _numbers(_figures(at)[0]["data"][0]["y"])
    assert curve == sorted(curve)
    assert curve[-1] <= 100.0 + 1e-9


def test_placement_places_and_proves(opened: Open, world: Path) -> None:  # noqa: F811
    """As many sites as asked for; what stands already is among them; the proof finds nothing better than it says."""
    at = opened(world, "placement", k="3", keep="sin", kinds="pop")
    quick = at.dataframe[0].value
    assert len(quick) == 3
    assert "sin" in set(quick["site"])
    assert quick["people"].sum() == pytest.approx(sum(load().population.values()) / 1e6, rel=1e-6)


@pytest.mark.slow
def test_placement_proves(opened: Open, world: Path) -> None:  # noqa: F811
    """The proof finds nothing worse than the quick answer, and says how sure it is."""
    value = float(_kpis(opened(world, "placement", k="3", keep="sin", kinds="pop"))["Mean RTT of people"].removesuffix(" ms"))
    proven = _kpis(opened(world, "placement", k="3", keep="sin", kinds="pop", prove="true"))
    assert float(proven["Mean RTT of people"].removesuffix(" ms")) <= value + 0.005
    assert proven["Proof"] != "not proven"


def test_cost_of_the_cameras(opened: Open, world: Path) -> None:  # noqa: F811
    """1,000 cameras of 2 Mbit/s are 648 TB in a month of 30 days, and a hundredth of it is 6.48 TB; twice the cameras, twice the bytes."""
    at = opened(world, "cost")
    kpis = _kpis(at)
    assert kpis["Sent a month"] == "648 TB"
    assert kpis["Anomalies only"] == "6.48 TB"
    assert _kpis(opened(world, "cost", cameras="2000"))["Sent a month"] == "1,296 TB"
    bars = {trace["name"]: _numbers(trace["y"]) for trace in _figures(at)[0]["data"]}
    assert all(few < every for few, every in zip(bars["anomalies only"], bars["everything"], strict=True) if few == few)  # noqa: PLR0124


def test_cost_says_the_numbers_that_were_chosen(opened: Open, world: Path) -> None:  # noqa: F811
    """The sentence below the cameras has the sliders' numbers, the tab none; a cloud without a bar is named; links break even in GB."""
    at = opened(world, "cost", cameras="5000", mbps="4", odd="5")
    assert _kpis(at)["Sent a month"] == "6,480 TB"
    (said,) = [caption.value for caption in at.caption if "that is odd" in caption.value]
    assert said.startswith("5,000 cameras of 4 Mbit/s, day and night: all they see to a cloud, against the 5 % that is odd.")
    assert "No price known: Tencent Cloud; unknown is not free." in said
    assert at.button_group[0].options == ["Cameras", "Egress by cloud", "Private links"]
    at = opened(world, "cost", part="private")
    labels = {name: column.get("label") for name, column in json.loads(at.dataframe[0].proto.columns).items()}
    assert labels["even"] == "Breaks even at (GB a month)"
    assert at.slider[0].label == "GB a month"
    assert (at.dataframe[0].value["even"].dropna() > 1000).all()


def test_cost_by_cloud_says_what_is_not_known(opened: Open, world: Path) -> None:  # noqa: F811
    """Every cloud is there; one without a price is named, never drawn as free."""
    at = opened(world, "cost", part="egress")
    internet = _figures(at)[0]["data"][0]
    clouds = dict(zip(internet["x"], _numbers(internet["y"]), strict=True))
    assert len(clouds) == 6
    unknown = [name for name, value in clouds.items() if value != value]  # noqa: PLR0124  NaN
    assert unknown
    (said,) = [caption.value for caption in at.caption if "unknown is not free" in caption.value]
    assert all(name in said for name in unknown)
    assert all(value > 0 for value in clouds.values() if value == value)  # noqa: PLR0124


def test_inference_splits_the_network_from_the_machine(opened: Open, world: Path) -> None:  # noqa: F811
    """Every request of the test world is counted, but for those of the agent that failed its own checks; tokens come every 10 ms."""
    at = opened(world, "inference", window="all")
    with open_warehouse(world) as warehouse, warehouse.cursor() as cursor:
        (stored,) = cursor.execute(
            "SELECT count(*) FROM inference WHERE agent <> $agent", {"agent": dashboard_seed.FAULTS["degraded"]}
        ).fetchone()  # type: ignore[misc]
    assert int(_kpis(at)["Requests"].replace(",", "")) == stored
    pools = at.dataframe[0].value
    assert set(pools["dst"]) == {site.id for site in dashboard_seed.sites() if site.kind == "region"}
    assert pools["tpot"].tolist() == pytest.approx([10.0] * len(pools))


def test_a_scenario_is_built_shared_and_kept(opened: Open, world: Path) -> None:  # noqa: F811
    """A change is taken out and the outcome is the baseline's; the address opens the same scenario; kept ones stand side by side."""
    at = opened(world, "scenario")
    word = at.query_params["s"]
    word = word if isinstance(word, str) else word[0]
    assert from_address(word)["edits"] == [{"op": "fail_site", "site": "fra"}]
    next(button for button in at.button if button.label == "Keep to compare").click().run()
    next(button for button in at.button if button.label == "✕").click().run()
    assert not at.exception
    after = _kpis(at)
    assert after["Served elsewhere"] == "0 %"
    next(button for button in at.button if button.label == "Keep to compare").click().run()
    kept = at.dataframe[-1].value
    assert kept["ttft_delta"].tolist()[1] == 0
    assert len(set(kept["hash"])) == 2
    gone = opened(
        world, "scenario", s=to_address({"name": "two", "edits": [{"op": "fail_site", "site": "sin"}, {"op": "fail_site", "site": "iad"}]})
    )
    assert any("A site fails: iad" in line.value for line in gone.markdown)
    (pools,) = (one.value for one in gone.dataframe if {"pool", "is"} <= set(one.value.columns))
    assert dict(zip(pools["pool"], pools["is"], strict=True))["sin-l40s"] == "down"


def test_a_burst_is_followed_in_time_where_it_belongs(opened: Open, world: Path) -> None:  # noqa: F811
    """Drawn when all the rest is, above the places; the bar that said how far it was is gone."""
    edit = {"op": "burst", "factor": 2.0, "start_s": 600, "rise_s": 120, "hold_s": 600, "fall_s": 120}
    at = opened(world, "scenario", s=to_address({"name": "rush", "edits": [edit]}))
    titles = [one.value for one in at.markdown if one.value.startswith("####")]
    assert titles[:2] == ["#### The burst in time", "#### Places"]
    assert len(at.get("plotly_chart")) == 1
    assert not at.get("progress")


@pytest.mark.parametrize(
    ("word", "says"),
    [("nonsense", "cannot be read"), (to_address(NOWHERE), "atlantis")],
)
def test_a_broken_scenario_is_a_sentence(opened: Open, world: Path, word: str, says: str) -> None:  # noqa: F811
    """A cut link, or a site nobody knows, is one clear message on the page."""
    at = opened(world, "scenario", s=word)
    assert says in at.error[0].value


@pytest.mark.slow
def test_every_single_failure_is_ranked(opened: Open, world: Path) -> None:  # noqa: F811
    """The ranking is by harm: nothing lost below something lost; sites with a pool that is used are among the noticed."""
    at = opened(world, "scenario", part="rank")
    table = at.dataframe[0].value
    assert table["rank"].tolist() == sorted(table["rank"])
    assert table["lost"].tolist() == sorted(table["lost"], reverse=True)
    assert set(table["kind"]) == {"site", "provider"}
    columns = json.loads(at.dataframe[0].proto.columns)
    assert {columns[name]["type_config"]["format"] for name in ("lost", "late", "moved")} == {"%.3g"}  # no key reads as 0.00
    assert any("Ordered by what is lost, then by what is late or lost" in caption.value for caption in at.caption)
    assert next(one for one in at.button_group if one.key == "objective").options == ["First token", "Last token", "Cost"]


def test_fleet_lists_what_is_wrong_first(opened: Open, world: Path) -> None:  # noqa: F811
    """The silent agent leads, then the degraded with its reason; the strip counts them."""
    at = opened(world, "fleet")
    table = at.dataframe[0].value
    assert table["agent"].tolist()[:2] == [dashboard_seed.FAULTS["silent"], dashboard_seed.FAULTS["degraded"]]
    assert table["state"].tolist()[:3] == ["✕ silent", "! degraded", "✓ ok"]
    assert "loop lag" in table["why"][1]
    assert _kpis(at)["Agents"] == str(len(dashboard_seed.POPS))
    assert _kpis(at)["Silent"] == "1"


def test_quality_names_what_is_kept_out_and_refused(opened: Open, world: Path) -> None:  # noqa: F811
    """Each fault of the test world is found: the impossible link, the degraded agent's links, the broken row; and no gap."""
    at = opened(world, "quality")
    gates = dict(zip(at.dataframe[0].value["gate"], at.dataframe[0].value["links"], strict=True))
    count, pops = len(dashboard_seed.sites()), len(dashboard_seed.POPS)
    assert gates["faster than light"] == 1
    assert gates["degraded agent"] == (count - 1) + (pops - 1)
    out = at.dataframe[1].value
    assert dashboard_seed.FAULTS["impossible"] in set(zip(out["from"], out["to"], strict=True))
    assert _kpis(at)["Refused rows"] == "1"
    assert any("No source was silent" in caption.value for caption in at.caption)


def test_inventory_finds_words(opened: Open, tmp_path: Path) -> None:  # noqa: F811
    """Words are looked for in every column, without a warehouse too; no match says so instead of an empty table."""
    at = opened(tmp_path / "none", "inventory", kind="pops", find="singapore")
    ids = set(at.dataframe[0].value["id"])
    assert "sin" in ids
    assert all("singapore" in " ".join(map(str, row)).lower() for row in at.dataframe[0].value.to_numpy())
    at = opened(tmp_path / "none", "inventory", kind="rules", find="atlantis")
    assert not at.dataframe
    assert "atlantis" in at.info[0].value
