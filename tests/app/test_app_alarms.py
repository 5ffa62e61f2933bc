"""`isochrone alarms` as a person calls it, and the Overview's panel."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alarms.keep import alarm_of, alarm_row
from alarms.life import merged
from alarms.model import Alarm, Condition
from alarms.settings import Settings
from app.alarm_watch import check_workloads
from app.cli import root
from records.errors import ConfigError, NoAnswer, OutsideError, UserError
from warehouse import alarms, open_warehouse

NOW = datetime.now(UTC).replace(microsecond=0)


def _alarms() -> list[Alarm]:
    conditions = [
        Condition(
            key=f"rtt_shift:{src}>{dst}:internet",
            kind="rtt_shift",
            severity="warning" if dst == "fra" else "critical",
            summary=f"{src} → {dst}: RTT rose",
            sites=(src, dst),
            src=src,
            dst=dst,
            medium="internet",
            since=NOW - timedelta(minutes=10),
            value=120.0,
            baseline=80.0,
            unit="ms",
            detail={"level": {"baseline": 80.0, "value": 120.0, "margin": 8.0, "since": NOW.isoformat(), "seen": 5}},
        )
        for src, dst in (("sin", "fra"), ("fra", "nrt"))
    ]
    return merged([], conditions, {}, now=NOW)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with two open alarms."""
    folder = tmp_path_factory.mktemp("alarms") / "kept"
    with open_warehouse(folder, mode="write") as wh, alarms.changing(wh) as cursor:
        alarms.put_alarms(cursor, [alarm_row(alarm) for alarm in _alarms()])
    return folder


Run = Callable[..., Any]


@pytest.fixture
def run(place: Path) -> Run:
    """A command of `isochrone alarms`, and what it prints as JSON."""

    def called(*arguments: str, needs_warehouse: bool = True) -> Any:
        argv = ["alarms", *arguments, "--json", *(["--warehouse", str(place)] if needs_warehouse else [])]
        result = CliRunner().invoke(root, argv, standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return json.loads(result.stdout)

    return called


def test_list_show_ack_and_silence(run: Run, place: Path) -> None:
    """What is open, one of it by the beginning of its id, taken on, silenced and not silenced any more."""
    found = run("list")
    assert {(one["kind"], one["dst"], one["state"], one["silenced"]) for one in found} == {
        ("rtt_shift", "fra", "open", False),
        ("rtt_shift", "nrt", "open", False),
    }
    name = next(one["id"] for one in found if one["dst"] == "fra")
    shown = run("show", name[:6])
    assert (shown["id"], shown["value"], shown["notices"]) == (name, 120.0, [])
    (taken,) = run("ack", name, "--by", "ada")
    assert taken["acknowledged_by"] == "ada"
    (silence,) = run("silence", "--site", "nrt", "--for", "1d", "--reason", "works")
    assert [one["silenced"] for one in run("list", "--site", "nrt")] == [True]
    assert [one["id"] for one in run("silence", "--list")] == [silence["id"]]
    run("silence", "--end", silence["id"])
    assert run("silence", "--list") == []
    with open_warehouse(place) as wh:
        assert {alarm_of(row).acknowledged_by for row in alarms.alarm_rows(wh)} == {"ada", None}


def test_a_silence_by_the_beginning_of_an_id_holds(run: Run, place: Path) -> None:
    """What is kept is the whole id, by which alarms are silenced; ended again, nothing is."""
    name = next(one["id"] for one in run("list") if one["dst"] == "nrt")
    (silence,) = run("silence", "--alarm", name[:5])
    assert silence["alarm_id"] == name
    assert {one["id"]: one["silenced"] for one in run("list")}[name]
    assert sum(one["silenced"] for one in run("list")) == 1
    run("silence", "--end", silence["id"])
    assert not any(one["silenced"] for one in run("list"))


@pytest.mark.parametrize("what", [("--agent", "typo-agent"), ("--site", "nosuch"), ("--kind", "path_change"), ("--site", "sin")])
def test_a_silence_that_covers_nothing_now_says_so(run: Run, place: Path, what: tuple[str, str]) -> None:
    """It is made, for what it is about may come, and says on standard error that no open alarm is among it."""
    argv = ["alarms", "silence", *what, "--warehouse", str(place)]
    made = CliRunner().invoke(root, argv)
    (silence,) = run("silence", "--list")
    run("silence", "--end", silence["id"])
    assert made.exit_code == 0
    assert ("of the alarms that are open now it covers none" in made.stderr) == (what != ("--site", "sin"))
    assert made.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("show", "ffff"), NoAnswer, "there is no open alarm 'ffff'; `isochrone alarms list` names them"),
        (("list", "--kind", "rtt"), UserError, "there is no kind 'rtt'; there are data_missing, "),
        (("silence",), UserError, "give what to silence"),
        (("silence", "--site", "x", "--for", "3y"), UserError, "3y"),
        (("silence", "--site", "x", "--for", "0s"), UserError, "longer than nothing"),
        (("silence", "--end", "nope"), UserError, "no silence 'nope' holds"),
    ],
)
def test_a_mistake_is_one_sentence(run: Run, arguments: tuple[str, ...], error: type[Exception], says: str) -> None:
    """What, value, what is allowed, next step."""
    with pytest.raises(error, match=says):
        run(*arguments)


def test_evaluate_says_what_it_would_do(run: Run) -> None:
    """Nothing is measured here: two alarms stay open, and the stated rate comes with it."""
    found = run("evaluate", "--dry-run")
    assert (found["open"], found["opened"], found["closed"], found["dry_run"]) == (2, [], [], True)
    assert 0 < found["false_alarms_per_series_day"] <= 2e-4
    assert (found["begun"], found["judged_s"]) == ({}, 1800)


def test_routes_that_cannot_be_looked_at(run: Run) -> None:
    """Nothing is measured here; and no workload of that name."""
    with pytest.raises(NoAnswer, match="holds no link measured in the last 10m"):
        run("routes", "sin chat")
    with pytest.raises(UserError, match="no workload 'chatt'"):
        run("routes", "sin chatt")
    with pytest.raises(UserError, match='is not "SITE WORKLOAD"'):
        run("routes", "sin")


def test_a_watched_workload_that_is_not_there_is_said_at_the_start() -> None:
    """Not at each look."""
    with pytest.raises(ConfigError, match=r"\[route_flip\] watch: no workload 'chatt'"):
        check_workloads(Settings(watch=(("sin", "chat"), ("sin", "chatt"))))


def test_a_webhook_that_is_not_there(run: Run, tmp_path: Path) -> None:
    """No webhook configured is the user's mistake; one that does not answer is outside."""
    with pytest.raises(UserError, match="there is no webhook to send to; configured: none"):
        run("test-webhook", needs_warehouse=False)
    file = tmp_path / "alarms.toml"
    file.write_text('[[webhook]]\nname = "ops"\nurl = "http://127.0.0.1:9/"\n')
    with pytest.raises(OutsideError, match="ops did not take the notice"):
        run("test-webhook", "--config", str(file), needs_warehouse=False)
    with pytest.raises(ConfigError, match="cannot read the alarms' configuration"):
        run("test-webhook", "--config", str(tmp_path / "none.toml"), needs_warehouse=False)


def test_the_panel_puts_the_worst_cause_first() -> None:
    """By cause, severity in words, where to look; what belongs to one cause is counted by kind in words."""
    from app.alarm_panel import group_table

    found = [Alarm(**{**alarm_row_values(alarm), "group_key": alarm.key, "group_title": alarm.summary}) for alarm in _alarms()]
    table = group_table(found, NOW)
    assert table["severity"] == ["✕ critical", "! warning"]
    pair = {"medium": "internet"}
    assert table["place"] == [("app_pages/pair.py", {"src": a, "dst": b, **pair}) for a, b in (("fra", "nrt"), ("sin", "fra"))]
    assert table["alarms"] == [1, 1]
    one, other = found
    flip = replace(other, kind="route_flip", src="sin", dst=None, workload="chat")
    assert group_table([flip], NOW)["place"] == [("app_pages/routes.py", {"src": "sin", "workload": "chat"})]
    group = [replace(each, group_key="site:fra") for each in (one, other, replace(one, kind="data_missing"))]
    assert group_table(group, NOW)["what"] == ["fra: no data, 2 × RTT moved"]


def alarm_row_values(alarm: Alarm) -> dict[str, Any]:
    """Its fields by name."""
    return {name: getattr(alarm, name) for name in Alarm.__dataclass_fields__}
