"""Start everything in order, watch it measure, end everything in order."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx

from app.commands.up import collector_argv
from app.demo.plan import intervals, write_agent_config
from app.demo.summary import Progress, Summary, boots, progress, summarise
from app.processes import Child, require_free_port, spawn
from app.tokens import new_tokens
from records.errors import OutsideError

if TYPE_CHECKING:
    from lab.world import Lab

__all__ = ["WORLD", "Demo", "running"]

#: The built-in topology the demo runs on: 16 PoPs and 8 cloud regions.
WORLD = "world-24"

_COLLECTOR_START_S = 30.0
_AGENT_STOP_S = 25.0

Say = Callable[[str], None]


@dataclass(slots=True)
class Demo:
    """A running demo; made by `running`."""

    lab: Lab
    warehouse: str
    agents: list[Child]
    collector: Child
    dashboard: Child | None
    before: frozenset[tuple[str, str]]
    say: Say

    def progress(self) -> Progress:
        """What has been measured so far."""
        return progress(self.warehouse)

    def check(self) -> None:
        """Raise OutsideError when a process that must run has ended, with its last words."""
        for child in [self.collector, *self.agents, *([self.dashboard] if self.dashboard else [])]:
            if not child.alive():
                raise OutsideError(f"the {child.name} ended with status {child.process.returncode}:\n{child.last_words()}")

    def finish(self) -> Summary:
        """End the agents, let them deliver what they hold, and sum up what is kept."""
        self.say("ending the agents; each delivers what it still holds")
        _stop(self.agents, _AGENT_STOP_S)
        for agent in self.agents:
            if agent.process.returncode != 0:
                self.say(f"  the {agent.name} ended with status {agent.process.returncode}: {agent.last_words(3)}")
        return summarise(self.warehouse, self.lab, before=self.before)


def _stop(children: list[Child], timeout_s: float) -> None:
    """End children together: ask all, then wait for each within one common time."""
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + timeout_s
    for child in children:
        child.wait(max(0.1, deadline - time.monotonic()))


@contextlib.contextmanager
def running(
    *,
    world: str = WORLD,
    warehouse: str,
    host: str,
    ports: tuple[int, int] | None,
    mode: Literal["auto", "namespaces", "loopback"],
    say: Say,
) -> Iterator[Demo]:
    """Start lab, collector, agents and the dashboard; on the way out end all of them.

    world   a built-in world, or the path of a topology file
    ports   of the dashboard and the collector; None: no dashboard, and any free port for the collector

    Raises OutsideError when a part does not start, with what it said.
    """
    from app import dashboard as pages
    from lab.topology import load
    from lab.world import start
    from warehouse import open_warehouse
    from warehouse.queries import put_sites

    port, collector_port = ports or (None, 0)
    if port is not None:
        require_free_port(host, port, "the dashboard")
        require_free_port("127.0.0.1", collector_port, "the collector")
    topology = load(world)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isochrone-demo-")))
        with open_warehouse(warehouse, mode="write") as writer:
            put_sites(writer, [site.place for site in topology.sites])
        before = boots(warehouse)
        lab = start(topology, folder / "lab", mode=mode, progress=say)
        stack.callback(lab.stop)
        say(f"lab: {len(topology.sites)} sites in {_kind(lab.kind)}")

        tokens_file = folder / "tokens.json"
        tokens = new_tokens({site.id: site.id for site in topology.sites}, tokens_file)
        socket = folder / "collector.sock"
        collector = spawn(
            "collector",
            collector_argv(warehouse, host="127.0.0.1", port=collector_port, uds=socket, tokens=tokens_file),
            log=folder / "collector.log",
        )
        stack.callback(lambda: _stop([collector], 15))
        _await_collector(collector, socket)
        say(f"collector: keeping in {warehouse}" + (f", metrics on http://127.0.0.1:{collector_port}/metrics" if collector_port else ""))

        dashboard = None
        if port is not None:
            dashboard = spawn("dashboard", pages.argv(host, port), log=folder / "dashboard.log", env=pages.environment(warehouse))
            stack.callback(lambda: _stop([dashboard], 10))

        often = intervals(lab)
        agents: list[Child] = []
        stack.callback(lambda: _stop(agents, _AGENT_STOP_S))
        for site in topology.sites:
            config = write_agent_config(lab, site.id, often, folder=folder, collector_socket=socket, token=tokens[site.id])
            argv = lab.command(site.id, [sys.executable, "-m", "app.cli", "agent", "run", "--config", str(config)])
            agents.append(spawn(f"agent at {site.id}", argv, log=config.with_suffix(".log")))
        say(f"agents: {len(agents)}, one at each site")
        yield Demo(lab, warehouse, agents, collector, dashboard, before, say)


def _kind(kind: str) -> str:
    return "network namespaces, joined by a user-space fabric" if kind == "namespaces" else "one loopback, with reflectors that delay"


def _await_collector(collector: Child, socket: Path) -> None:
    """Return when the collector takes batches; raise OutsideError when it ends or takes too long."""
    deadline = time.monotonic() + _COLLECTOR_START_S
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://collector") as client:
        while time.monotonic() < deadline:
            if not collector.alive():
                raise OutsideError(f"the collector did not start:\n{collector.last_words()}")
            with contextlib.suppress(httpx.TransportError):
                if client.get("/readyz").status_code == 200:
                    return
            time.sleep(0.1)
    raise OutsideError(f"the collector is not ready after {_COLLECTOR_START_S:.0f} s:\n{collector.last_words()}")


def stop_on_signals() -> threading.Event:
    """An event that SIGINT and SIGTERM set, so that everything is ended in order."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    return stopping
