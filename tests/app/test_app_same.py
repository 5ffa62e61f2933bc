"""A page and the command line say the same: its sentences, and the command that a page prints, run as it stands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest
from test_app_pages import Open, opened, world  # noqa: F401  fixtures

from app import command_words, text
from app.cli import root
from records.errors import UserError


def printed(at: AppTest) -> list[str]:
    """The words of the command that a page prints."""
    (found,) = [command for caption in at.caption for command in re.findall(r"`(isochrone [^`]*)`", caption.value)]
    return shlex.split(found)


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the command line answers, as JSON; the warehouse is the one it is told of, not the environment's."""
    monkeypatch.delenv("ISOCHRONE_WAREHOUSE")
    done = CliRunner().invoke(root, [*words[1:], *([] if "--json" in words else ["--json"])])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_rule_that_does_nothing_is_said_where_it_is_asked(opened: Open, world: Path) -> None:  # noqa: F811
    """GDPR for people in Brazil: the command's sentence; not for people in Germany, whom the address may name; nothing without a rule."""
    sentence = "gdpr does not hold for data of people in BR"
    assert [sentence in one.value for one in opened(world, "routes", src="gru", rules="gdpr").info] == [True]
    at = opened(world, "routes", src="gru", rules="gdpr", subject="DE")
    assert not at.info
    assert set(at.dataframe[0].value["route"].str.split(" → ").str[-1]) <= {"fra", "azure:westeurope"}
    assert printed(at)[-8:-4] == ["--residency", "gdpr", "--subject-country", "DE"]
    done = CliRunner().invoke(root, ["route", "--from", "gru", "--residency", "gdpr", "--warehouse", str(world)])
    assert f"{sentence}; --subject-country names another country" in done.stderr


@pytest.mark.parametrize(
    "address",
    [
        {"src": "gru", "connection": "warm", "measured": "true", "relays": "2", "window": "1h"},
        {"src": "metro:lagos", "objective": "cost", "budget": "1234.5", "rules": "gdpr", "subject": "FR", "window": "all"},
    ],
)
def test_the_command_of_routes_answers_as_the_page(
    opened: Open,  # noqa: F811
    world: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    address: dict[str, str],
) -> None:
    """Every control that is set: the same sites in the same order with the same times and costs."""
    at = opened(world, "routes", **address)
    answer = run(printed(at), monkeypatch)
    shown = at.dataframe[0].value
    assert [" → ".join(route["sites"]) for route in answer["routes"]] == shown["route"].tolist()
    for column, values in (
        ("ttft_p50", [route["ttft_ms"]["p50"] for route in answer["routes"]]),
        ("e2e_p50", [route["e2e_ms"]["p50"] for route in answer["routes"]]),
        ("usd", [route["usd_per_1k"] for route in answer["routes"]]),
    ):
        assert shown[column].tolist() == pytest.approx(values, rel=1e-9)


@pytest.mark.parametrize(
    "address", [{"k": "3", "keep": "sin", "window": "1h"}, {"k": "2", "kinds": "region", "objective": "within-budget", "budget": "40"}]
)
def test_the_command_of_placement_answers_as_the_page(
    opened: Open,  # noqa: F811
    world: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    address: dict[str, str],
) -> None:
    """The candidates are the page's: PoPs where it says nothing else; the same sites, each worth the same."""
    at = opened(world, "placement", **address)
    answer = run(printed(at), monkeypatch)
    shown = at.dataframe[0].value
    assert answer["sites"] == shown["site"].tolist()
    factor = 100.0 if answer["objective"] == "within-budget" else 1.0
    gain = {row["site"]: row["gain"] * factor for row in answer["marginal"] if row["chosen"]}
    assert dict(zip(shown["site"], shown["loss"], strict=True)) == pytest.approx(gain)


def test_the_command_of_what_if_answers_as_the_page(opened: Open, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Every re-routed pair of the page is in the matrix of the command, with its time after."""
    at = opened(world, "whatif", fail="fra")
    rows = {(row["src"], row["dst"]): row["best_ms"] for row in run(printed(at), monkeypatch)}
    shown = at.dataframe[0].value
    assert len(shown)
    assert all(rows[row["from"], row["to"]] == pytest.approx(row["after_ms"]) for _, row in shown.iterrows())


def test_commands_name_what_was_chosen() -> None:
    """Workload and objective of the ranking, the age that a window of a week lets links have; a folder with a blank is quoted."""
    assert command_words.ranking("voice-agent", "cost", "/a b", "24h") == (
        "isochrone whatif --all-single-failures --workload voice-agent --objective cost --json --warehouse '/a b' --window 24h"
    )
    assert command_words.failing("sin", "w", "7d").endswith("--fail sin --warehouse w --window 7d --max-age 7d")
    assert command_words.scenario("chat", "w", "all").endswith("--window all --max-age all")
    for window in text.WINDOWS:
        words = shlex.split(command_words.ranking("chat", "ttft", "w", window))
        command = root.get_command(click.Context(root), words[1])
        assert command is not None
        assert command.make_context(words[1], words[2:]).params["as_json"]


def test_candidates_are_of_a_file_or_of_a_kind(tmp_path: Path) -> None:
    """Both at once is a mistake that is said."""
    (tmp_path / "c.csv").write_text("id\nsin\n")
    done = CliRunner().invoke(root, ["place", "-k", "1", "--candidates", str(tmp_path / "c.csv"), "--kinds", "pop"])
    assert isinstance(done.exception, UserError)
    assert "take one" in str(done.exception)
