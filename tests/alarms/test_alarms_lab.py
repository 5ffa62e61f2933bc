"""Real packets, real agents, a real collector: a slower link, a site that is cut off and a path that moves each raise their alarm."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_tools import ROOT

from lab import namespaces
from lab.links import Change
from lab.namespace_lab import NamespaceLab
from lab.reading import parse_text
from lab.world import start
from warehouse import alarms, open_warehouse
from warehouse.rollup import FAR_BACK

#: Half a minute on a machine that has nothing else to do.
pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(500)]

#: a and b have a link of their own; c hangs on both; from a to d there are two ways of the same length.
_TOPOLOGY = """
name = "alarms"
title = "four sites whose links go wrong"
sites = [
    { id = "a", kind = "pop", name = "Alfa", lat = 50.1, lon = 8.7, country = "DE" },
    { id = "b", kind = "pop", name = "Bravo", lat = 48.9, lon = 2.4, country = "FR" },
    { id = "c", kind = "pop", name = "Charlie", lat = 51.5, lon = -0.1, country = "GB" },
    { id = "d", kind = "pop", name = "Delta", lat = 52.4, lon = 4.9, country = "NL" },
]
routers = [
    { id = "r-ab", medium = "internet" },
    { id = "r-ac", medium = "internet" },
    { id = "r-bc", medium = "internet" },
    { id = "r-d", medium = "internet" },
    { id = "upper", medium = "internet" },
    { id = "lower", medium = "internet" },
]
links = [
    { between = ["a", "r-ab"], delay_ms = 8 },
    { between = ["r-ab", "b"], delay_ms = 8 },
    { between = ["a", "r-ac"], delay_ms = 8 },
    { between = ["r-ac", "c"], delay_ms = 8 },
    { between = ["b", "r-bc"], delay_ms = 8 },
    { between = ["r-bc", "c"], delay_ms = 8 },
    { between = ["a", "upper"], delay_ms = 5, metric = 10 },
    { between = ["a", "lower"], delay_ms = 5, metric = 20 },
    { between = ["upper", "r-d"], delay_ms = 5, metric = 10 },
    { between = ["lower", "r-d"], delay_ms = 5, metric = 20 },
    { between = ["r-d", "d"], delay_ms = 5, metric = 10 },
]
"""
_ALARMS = """
[evaluate]
every_s = 0.5
bucket_s = 0.5
lag_s = 6
[data_missing]
after_s = 60
[shift]
window = 40
learn = 8
run = 3
rtt_step_ms = 25
loss_step = 0.3
false_per_series_day = 10
[path_change]
learn = 3
"""
_AGENT = """
[agent]
id = "{site}-1"
site = "{site}"
spool_dir = "{home}/spool"
status_interval_s = 1
allow_private_targets = true
[collector]
url = "http+unix://{socket}"
batch_max_age_s = 0.3
[limits]
packets_per_second = 400
packets_per_second_per_target = 100
[[probe]]
type = "ping"
interval_s = 0.25
count = 2
interval_ms = 40
timeout_ms = 500
[[probe]]
type = "traceroute"
interval_s = 0.5
max_ttl = 6
timeout_ms = 400
targets = {traced}
"""
_TARGETS = {"a": ("b", "c", "d"), "b": ("a", "c"), "c": ("a", "b")}


@pytest.fixture
def lab(namespace_support: namespaces.Support, tmp_path: Path) -> Iterator[NamespaceLab]:
    """A small world of its own."""
    made = start(parse_text(_TOPOLOGY, "alarms.toml"), tmp_path / "lab", "namespaces", serving=False)
    assert isinstance(made, NamespaceLab)
    yield made
    made.stop()


@pytest.fixture
def kept(lab: NamespaceLab, tmp_path: Path) -> Iterator[Path]:
    """Agents at a, b and c that measure each other (a also d), and a collector with alarms over the warehouse at this place."""
    place, socket, rules = tmp_path / "kept", tmp_path / "collector.sock", tmp_path / "alarms.toml"
    rules.write_text(_ALARMS)
    argv = [sys.executable, "-m", "app.cli", "collector", "--warehouse", str(place), "--port", "0", "--uds", str(socket)]
    running = [subprocess.Popen([*argv, "--alarms", str(rules)], cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)]
    try:
        assert running[0].stderr is not None
        assert running[0].stderr.readline().startswith("collector ready")
        for site, targets in _TARGETS.items():
            home = tmp_path / site
            home.mkdir()
            text = _AGENT.format(site=site, home=home, socket=socket, traced='["d"]' if site == "a" else f'["{targets[0]}"]')
            for target in targets:
                text += f'[[target]]\nsite = "{target}"\naddress = "{lab.address(site, target)}"\nmedium = "internet"\n'
            (home / "agent.toml").write_text(text)
            command = lab.command(site, [sys.executable, "-m", "app.cli", "agent", "run", "--config", str(home / "agent.toml")])
            running.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True))
        yield place
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
        for process in reversed(running):
            try:
                process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _until(what: Callable[[], bool], longest_s: float) -> bool:
    """Whether it came to be so in time."""
    end = time.monotonic() + longest_s
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def test_what_goes_wrong_raises_its_alarm_and_only_it(lab: NamespaceLab, kept: Path) -> None:
    """At the same time: 80 ms more each way between a and b, c cut off, the way from a to d over another router. Then all is mended."""
    with open_warehouse(kept) as wh:

        def rows() -> list[dict[str, Any]]:
            return alarms.alarm_rows(wh, closed_since=FAR_BACK)

        def is_learnt() -> bool:
            with wh.cursor() as cursor:
                found = cursor.execute(
                    "SELECT count(*) FILTER (n >= 60), (SELECT count(*) FROM traceroute WHERE dst = 'd')"
                    " FROM (SELECT src, dst, count(*) AS n FROM ping_sample GROUP BY src, dst)"
                ).fetchone()
            assert found is not None
            return bool(found[0] == 7 and found[1] >= 5)

        def grades() -> set[str]:
            with wh.cursor() as cursor:
                return {row[0] for row in cursor.execute("SELECT DISTINCT grade FROM agent_status").fetchall()}

        def require(happened: bool, otherwise: object) -> None:
            if not happened and "degraded" in grades():
                pytest.skip("this machine is too busy: agents do not trust what they measure, and what they measure is not judged")
            assert happened, otherwise

        require(_until(is_learnt, 120), "nothing is measured")
        lab.change("a", "r-ab", Change(op="degrade", delay_ns=88_000_000))
        lab.change("a", "upper", Change(op="shift", metric=50))
        lab.change_site("c", "fail")
        expected = {
            ("rtt_shift", "a", "b", "pair:a|b"),
            ("rtt_shift", "b", "a", "pair:a|b"),
            ("loss_shift", "a", "c", "site:c"),
            ("loss_shift", "c", "a", "site:c"),
            ("loss_shift", "b", "c", "site:c"),
            ("loss_shift", "c", "b", "site:c"),
            ("path_change", "a", "d", "pair:a|d"),
        }

        def found() -> set[tuple[str, ...]]:
            return {(row["kind"], row["src"], row["dst"], row["group_key"]) for row in rows()}

        require(_until(lambda: found() >= expected, 120), found())
        lab.change("a", "r-ab", Change(op="restore"))
        lab.change("a", "upper", Change(op="restore"))
        lab.change_site("c", "restore")
        require(_until(lambda: all(row["closed_at"] is not None for row in rows()), 120), rows())
        assert sorted(found()) == sorted(expected)
        assert {row["close_reason"] for row in rows()} == {"recovered"}
        assert len(rows()) == len(expected)
        rtt = next(row for row in rows() if row["kind"] == "rtt_shift")
        assert rtt["value"] - rtt["baseline"] == pytest.approx(160, abs=20)  # 80 ms more each way
