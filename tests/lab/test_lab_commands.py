"""The lab from the command line: worlds, several labs, changes, scripts, status; and a start that fails half-way."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from app.cli import root
from lab import namespaces
from lab.state import LabState, runtime_dir
from lab.topology import available, builtin
from records.errors import IsochroneError

pytestmark = [pytest.mark.alone, pytest.mark.waits]


def isochrone(*argv: str, status: int = 0) -> tuple[str, str]:
    """What a command says on standard output and on standard error; its exit status has to be the one given."""
    done = subprocess.run([sys.executable, "-m", "app.cli", *argv], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def at_once(*argv: str, status: int = 0) -> tuple[str, str]:
    """The same without a process of its own, for commands that only ask."""
    result = CliRunner().invoke(root, argv, standalone_mode=False)
    error = result.exception
    if isinstance(error, click.ClickException):
        assert status == error.exit_code
        return result.stdout, error.format_message()
    if isinstance(error, IsochroneError):
        assert status == error.exit_status, error
        return result.stdout, str(error)
    if error is not None:
        raise error
    assert status == 0
    return result.stdout, result.stderr


def said(*argv: str) -> Any:
    """The JSON document of a command."""
    return json.loads(at_once(*argv, "--json")[0])


def test_worlds_are_listed() -> None:
    """Every world with a line on it; the seven that the lab promises are there."""
    listed = {world["name"]: world for world in said("lab", "worlds")}
    assert set(listed) == set(available()) >= {"world-24", "triangle", "ecmp", "lossy", "asymmetric", "blackout", "diurnal", "demo-14"}
    assert listed["world-24"]["sites"] == 24
    assert listed["blackout"]["events"] == 4
    shown = at_once("lab", "worlds")[0]
    assert all(builtin(name).title in shown for name in available())


@pytest.mark.lab
def test_a_lab_is_changed_and_scripted_as_it_runs(namespace_support: namespaces.Support, tmp_path: Path) -> None:
    """Two labs side by side; every form of change, a script, and what status and truth make of it."""
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    try:
        up = json.loads(isochrone("lab", "up", "triangle", "--no-serving", "--seed", "77", "--json", "--state-dir", one)[0])
        isochrone("lab", "up", "asymmetric", "--no-serving", "--state-dir", two)
        assert (up["world"], up["seed"], [site["id"] for site in up["sites"]]) == ("triangle", 77, ["a", "b", "hub", "aws:eu-west-2"])
        assert {(lab["world"], lab["state_dir"]) for lab in said("lab", "list")} >= {("triangle", one), ("asymmetric", two)}

        def at(state_dir: str, *argv: str, status: int = 0) -> tuple[str, str]:
            return at_once("lab", *argv, "--state-dir", state_dir, status=status)

        def truth(state_dir: str, src: str, dst: str, medium: str = "internet") -> list[dict[str, Any]]:
            return said("lab", "truth", "--src", src, "--dst", dst, "--medium", medium, "--state-dir", state_dir)  # type: ignore[no-any-return]

        # A shifted route: out over the south as well, 80 ms instead of 55.
        assert truth(two, "a", "b")[0]["rtt_ms"] == 55
        at(two, "change", "shift", "edge-a", "north", "--metric", "1000", "--one-way")
        assert truth(two, "a", "b")[0]["rtt_ms"] == 80
        assert "south" in truth(two, "a", "b")[0]["nodes"]

        # Busy hours by command: with a day of many years it is the peak now, and stays it.
        at(two, "congest", "edge-a", "uplink", "--one-way", "--period-s", "300000000", "--peak-at-s", "0", "--delay-ms", "2:20")
        assert truth(two, "a", "uplink")[0]["rtt_ms"] == pytest.approx(60, abs=1e-3)
        assert len(said("lab", "status", "--state-dir", two)["congested"]) == 1
        at(two, "calm", "--site", "uplink")
        assert truth(two, "a", "uplink")[0]["rtt_ms"] == 40

        at(one, "change", "fail-site", "hub")
        assert truth(one, "a", "hub") == []
        assert len(truth(one, "a", "b")) == 1
        at(one, "change", "restore-site", "hub")
        at(one, "change", "set-router", "in-ab", "--silent", "--icmp-per-s", "5")
        script = tmp_path / "script.toml"
        script.write_text('[[events]]\nat_s = 0\nop = "degrade"\nbetween = ["bb-eu", "bb-us"]\ndelay_ms = 45\n'
                          '[[events]]\nat_s = 600\nevery_s = 60\nop = "fail_site"\nsite = "b"\n')  # fmt: skip
        assert len(said("lab", "play", str(script), "--state-dir", one)) == 2
        deadline = time.monotonic() + 10
        while truth(one, "a", "b", "backbone")[0]["rtt_ms"] != 98:
            assert time.monotonic() < deadline

        status = said("lab", "status", "--state-dir", one)
        assert (status["world"], status["congested"]) == ("triangle", [])
        assert status["edited"] == [
            {"src": "bb-eu", "dst": "bb-us", "medium": "backbone"}, {"src": "bb-us", "dst": "bb-eu", "medium": "backbone"}]  # fmt: skip
        assert [(r["id"], r["silent"], r["icmp_per_s"]) for r in status["changed_routers"]] == [("in-ab", True, 5)]
        assert [event["op"] for event in status["events"]["last"]] == ["fail_site", "restore_site", "set_router", "degrade"]
        assert [event["by"] for event in status["events"]["last"]] == ["asked", "asked", "asked", "script"]
        assert 595 < status["events"]["ahead"][0]["at_s"] - status["up_s"] <= 600
        assert status["events"]["ahead"][0]["site"] == "b"
        shown = at(one, "status", "--links")[0]
        assert "fail site b" in shown
        assert "4 done, the next in" in shown

        for argv, words in [
            (("change", "fail", "a", "x"), "there is no link from 'a' to 'x'; a is joined to bb-eu, in-ab, in-ah"),
            (("change", "fail", "a"), "needs both its ends"),
            (("change", "fail-site", "hubb"), "there is no site 'hubb'; did you mean hub"),
            (("change", "set-router", "in-ab"), "set changes nothing"),
            (("change", "shift", "a", "in-ab"), "shift needs a metric"),
            (("change", "degrade", "a", "in-ab", "--metric", "3"), "degrade takes no metric"),
            (("congest", "a", "--delay-ms", "3"), "give both ends of one link, or --site, or --medium"),
            (("congest", "--site", "a", "--delay-ms", "3"), "say when the peak is"),
            (("congest", "--site", "a", "--delay-ms", "3:x"), "nor two as QUIET:PEAK"),
            (("play", str(tmp_path / "none.toml")), "none.toml: there is no such file"),
        ]:
            assert words in at(one, *argv, status=2)[1]
    finally:
        for place in (one, two):
            isochrone("lab", "down", "--state-dir", place)
    assert not [lab for lab in said("lab", "list") if lab["state_dir"] in (one, two)]


@pytest.mark.lab
def test_a_start_that_fails_half_way_leaves_nothing(namespace_support: namespaces.Support, tmp_path: Path) -> None:
    """With too few files to open, the lab fails after some of its hosts were made: no namespace, process or file stays."""
    before = {path.name for path in (runtime_dir() / "labs").iterdir()}
    place = tmp_path / "lab"
    argv = ["prlimit", "--nofile=24", sys.executable, "-m", "app.cli", "lab", "up", "world-24", "--no-serving", "--state-dir", str(place)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3, done.stderr
    assert "24 network namespaces" in done.stderr
    assert "Too many open files" in done.stderr
    assert "Traceback" not in done.stderr
    assert LabState.read(place) is None
    assert not place.exists()
    left = {path.name for path in (runtime_dir() / "labs").iterdir()} - before
    living = {lab["id"] for lab in said("lab", "list")}
    assert not left - living
    named = {path.name.split("-")[1] for path in namespaces.NAMESPACES.glob("iso-*")} if namespaces.NAMESPACES.is_dir() else set()
    assert not {name for name in named - before if name not in living and not (runtime_dir() / "labs" / name).exists()}
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(place).encode() in _bytes(path)]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
