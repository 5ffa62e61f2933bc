"""Some sites of a lab as agents measure them: real agents, a real collector, a real warehouse, each a process of its own."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab_tools import ROOT

from lab.namespace_lab import NamespaceLab
from lab.truth import PairTruth
from records.link import Medium
from warehouse import open_warehouse
from warehouse.queries import put_sites

Key = tuple[str, str, Medium]

_SECONDS = 6
_CONFIG = """
[agent]
id = "{site}"
site = "{site}"
spool_dir = "{folder}/spool"
status_interval_s = 1
allow_private_targets = true
[collector]
url = "http+unix://{socket}"
batch_max_age_s = 0.5
[limits]
packets_per_second = 400
packets_per_second_per_target = 100
[[probe]]
type = "ping"
interval_s = 1
count = 5
interval_ms = 40
timeout_ms = 800
[[probe]]
type = "traceroute"
interval_s = 2
max_ttl = 24
timeout_ms = 800
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, and what it must be.

    sites      those that measured each other over every medium that joins them
    truth      (src, dst, medium) -> truth, of all their pairs
    relayed    (src, relay, dst): the pair of them that gains most from one relay
    warehouse  the folder where everything is kept; nobody writes to it any more
    """

    sites: tuple[str, ...]
    truth: dict[Key, PairTruth]
    relayed: tuple[str, str, str]
    warehouse: Path


def _relayed(truths: list[PairTruth]) -> tuple[str, str, str]:
    """The pair that gains most from one relay, each leg over its fastest medium."""
    least: dict[tuple[str, str], int] = {}
    for truth in truths:
        least[truth.src, truth.dst] = min(truth.rtt_ns, least.get((truth.src, truth.dst), truth.rtt_ns))
    sites = sorted({src for src, _ in least})
    gains = {
        (src, relay, dst): least[src, dst] - least[src, relay] - least[relay, dst]
        for src, relay, dst in itertools.permutations(sites, 3)
        if {(src, dst), (src, relay), (relay, dst)} <= least.keys()
    }
    return max(gains, key=gains.__getitem__)


def measure(lab: NamespaceLab, folder: Path) -> Measured:
    """Run an agent at a handful of sites for some seconds; returns when all that they measured is kept."""
    truths = lab.truth()
    relayed = _relayed(truths)
    near = min((truth for truth in truths if truth.medium == "direct-connect"), key=lambda truth: truth.rtt_ns)
    sites = tuple(dict.fromkeys((*relayed, near.src, near.dst)))
    chosen = [truth for truth in truths if truth.src in sites and truth.dst in sites]
    place, socket = folder / "kept", folder / "collector.sock"
    with open_warehouse(place, mode="write") as writer:
        put_sites(writer, [lab.topology.site(site).place for site in sites])
    with _collector(place, socket):
        agents = []
        for site in sites:
            home = folder / site.replace(":", "-")
            home.mkdir()
            text = _CONFIG.format(site=site, folder=home, socket=socket)
            for truth in chosen:
                if truth.src == site:
                    text += f'[[target]]\nsite = "{truth.dst}"\naddress = "{truth.address}"\nmedium = "{truth.medium}"\n'
            (home / "agent.toml").write_text(text)
            argv = [sys.executable, "-m", "app.cli", "agent", "run", "--config", str(home / "agent.toml"), "--seconds", str(_SECONDS)]
            agents.append(subprocess.Popen(lab.command(site, argv), cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        try:
            for agent in agents:
                _, said = agent.communicate(timeout=60)
                assert agent.returncode == 0, said
        finally:
            for agent in agents:
                agent.kill()
                agent.communicate()
    return Measured(sites, {(truth.src, truth.dst, truth.medium): truth for truth in chosen}, relayed, place)


@contextlib.contextmanager
def _collector(place: Path, socket: Path) -> Iterator[None]:
    argv = [sys.executable, "-m", "app.cli", "collector", "--warehouse", str(place), "--port", "0", "--uds", str(socket)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = process.stderr.readline()
            assert said.startswith("collector ready"), said + process.stderr.read()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
