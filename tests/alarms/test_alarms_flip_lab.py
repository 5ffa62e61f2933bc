"""A route flips in the lab, whole: packets, agent, collector, planner, alarm, webhook, metrics, the Overview's panel, and its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from lab_tools import ROOT
from streamlit.testing.v1 import AppTest
from webhook_receiver import Receiver, receiving

from alarms.keep import alarm_of
from app.dashboard import SCRIPT
from lab import namespaces
from lab.links import Change
from lab.namespace_lab import NamespaceLab
from lab.reading import parse_text
from lab.world import start
from warehouse import alarms, open_warehouse
from warehouse.rollup import FAR_BACK

#: Half a minute on a machine that has nothing else to do: each look at the routes is a process that plans.
pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(1200)]

#: London reaches a pool in Amsterdam in 10 ms and one in Frankfurt in 20 ms; whatever else the inventory has is far away.
_TOPOLOGY = """
name = "flip"
title = "London between two pools"
sites = [
    { id = "lhr", kind = "pop", name = "London", lat = 51.5, lon = -0.1, country = "GB" },
    { id = "fra", kind = "pop", name = "Frankfurt", lat = 50.1, lon = 8.7, country = "DE" },
    { id = "azure:westeurope", kind = "region", provider = "azure", name = "Amsterdam", lat = 52.4, lon = 4.9, country = "NL" },
]
routers = [{ id = "near", medium = "internet" }, { id = "far", medium = "internet" }]
links = [
    { between = ["lhr", "near"], delay_ms = 2.5 },
    { between = ["near", "azure:westeurope"], delay_ms = 2.5 },
    { between = ["lhr", "far"], delay_ms = 5 },
    { between = ["far", "fra"], delay_ms = 5 },
]
"""
_ALARMS = """
[evaluate]
every_s = 0.5
lag_s = 0
kinds = ["route_flip"]
[route_flip]
watch = ["lhr chat", "nowhere chat"]
worth_ms = 200
every_s = 0.2
window_s = {window}
[notify]
group_wait_s = 0
group_interval_s = 0
external_url = "https://isochrone.example"
[[webhook]]
name = "ops"
url = "{url}"
"""
WINDOW_S = 10
OPEN, OPENED = 'isochrone_alarms{kind="route_flip",state="open"}', 'isochrone_alarms_opened_total{kind="route_flip"}'
_AGENT = """
[agent]
id = "lhr-1"
site = "lhr"
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
count = 4
interval_ms = 20
timeout_ms = 500
"""


@dataclass(frozen=True)
class World:
    """What runs, and where it is heard."""

    lab: NamespaceLab
    place: Path
    receiver: Receiver
    metrics: httpx.Client
    log: Path

    def metric(self, name: str) -> float | None:
        """A value of the collector's /metrics, as OpenMetrics gives it."""
        text = self.metrics.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}).text
        assert text.endswith("# EOF\n")
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} ")), None)


@pytest.fixture
def world(namespace_support: namespaces.Support, tmp_path: Path) -> Iterator[World]:
    """The lab, a collector with alarms, an agent in London and whoever is told."""
    lab = start(parse_text(_TOPOLOGY, "flip.toml"), tmp_path / "lab", "namespaces", serving=False)
    assert isinstance(lab, NamespaceLab)
    place, socket, rules, log = (tmp_path / name for name in ("kept", "collector.sock", "alarms.toml", "collector.log"))
    running: list[subprocess.Popen[str]] = []
    client = httpx.Client(transport=httpx.HTTPTransport(uds=str(socket), verify=False), base_url="http://collector", timeout=30)
    try:
        with receiving() as receiver, client, log.open("w") as said:
            rules.write_text(_ALARMS.format(url=receiver.url, window=WINDOW_S))
            argv = [sys.executable, "-m", "app.cli", "collector", "--warehouse", str(place), "--port", "0", "--uds", str(socket)]
            running.append(subprocess.Popen([*argv, "--alarms", str(rules)], cwd=ROOT, stdin=subprocess.DEVNULL, stderr=said, text=True))
            assert _until(lambda: "collector ready" in log.read_text(), 60), log.read_text()
            text = _AGENT.format(home=tmp_path, socket=socket)
            for target in ("fra", "azure:westeurope"):
                text += f'[[target]]\nsite = "{target}"\naddress = "{lab.address("lhr", target)}"\nmedium = "internet"\n'
            (tmp_path / "agent.toml").write_text(text)
            command = lab.command("lhr", [sys.executable, "-m", "app.cli", "agent", "run", "--config", str(tmp_path / "agent.toml")])
            running.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True))
            yield World(lab, place, receiver, client, log)
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
        for process in reversed(running):
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        lab.stop()


def _shown(place: Path) -> list[str]:
    """What the Overview's panel of alarms says, by Streamlit's own test runner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOCHRONE_WAREHOUSE", str(place))
        page = AppTest.from_file(str(SCRIPT), default_timeout=240).switch_page("app_pages/overview.py").run()
    assert not page.exception, page.exception
    (panel,) = (table.value for table in page.dataframe if "severity" in table.value)
    return [str(said) for said in panel["what"]]


def _until(what: Callable[[], bool], longest_s: float) -> bool:
    """Whether it came to be so in time."""
    end = time.monotonic() + longest_s
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def test_a_route_that_flips_is_told_and_shown_and_ends(world: World) -> None:
    """Amsterdam is best; its link 200 ms slower, Frankfurt is, by three of its round trips: TCP, TLS, the request.

    70 ms slower, Amsterdam is behind by 150 ms or so, less than it must be worth and more than half of it: the alarm stays.
    Mended, it ends.
    """
    with open_warehouse(world.place) as wh:

        def rows() -> list[dict[str, Any]]:
            return alarms.alarm_rows(wh, closed_since=FAR_BACK)

        def require(what: Callable[[], bool]) -> None:
            assert _until(what, 240), (rows(), world.log.read_text()[-3000:])

        def planned() -> float:
            return world.metric('isochrone_alarm_route_looks_total{outcome="planned"}') or 0

        def after_looks(count: int) -> None:
            """So many looks that begin from now on."""
            seen = planned()
            require(lambda: planned() > seen + count)

        # A site that is not known does not keep the other from being looked at.
        require(lambda: planned() >= 2)
        assert "no route from nowhere chat can be looked at now: unknown site 'nowhere'" in world.log.read_text()
        assert (world.metric(OPEN), world.metric(OPENED), rows(), world.receiver.posted) == (0, None, [], [])

        world.lab.change("lhr", "near", Change(op="degrade", delay_ns=102_500_000))
        require(lambda: bool(rows()))
        (alarm,) = (alarm_of(row) for row in rows())
        assert (alarm.kind, alarm.src, alarm.workload, alarm.is_open) == ("route_flip", "lhr", "chat", True)
        old, new = alarm.detail["old"], alarm.detail["new"]
        assert (old["sites"], old["pool"], new["sites"], new["pool"]) == (
            ["lhr", "azure:westeurope"],
            "azure-westeurope-h100",
            ["lhr", "fra"],
            "fra-l40s",
        )
        assert "best route is now lhr → fra (fra-l40s), was lhr → azure:westeurope (azure-westeurope-h100); staying" in alarm.summary
        assert alarm.value is not None
        assert alarm.value >= 200
        require(lambda: (world.metric(OPEN), world.metric(OPENED)) == (1, 1))
        require(lambda: bool(world.receiver.posted))
        (told,) = world.receiver.notices[0]["alerts"]
        assert (told["status"], told["annotations"]["summary"]) == ("firing", alarm.summary)
        assert told["labels"] == {"alertname": "route_flip", "severity": "warning", "src": "lhr", "workload": "chat"}
        assert told["generatorURL"] == "https://isochrone.example/routes?src=lhr&workload=chat"
        assert _shown(world.place) == [alarm.summary]

        world.lab.change("lhr", "near", Change(op="degrade", delay_ns=37_500_000))
        time.sleep(WINDOW_S)  # what was measured before is out of the window
        after_looks(3)
        assert rows()[0]["closed_at"] is None

        world.lab.change("lhr", "near", Change(op="restore"))
        require(lambda: rows()[0]["closed_at"] is not None)
        assert (rows()[0]["close_reason"], len(rows())) == ("recovered", 1)
        require(lambda: world.receiver.notices[-1]["status"] == "resolved")
        require(lambda: (world.metric(OPEN), world.metric(OPENED)) == (0, 1))
