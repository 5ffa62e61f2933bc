"""What the small worlds promise, worked out from their files by networkx or by hand, and on the wire."""

from __future__ import annotations

import json
import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import networkx as nx
import pytest
from lab_tools import run_at, truth_of

from lab import namespaces
from lab.agenda import Agenda
from lab.forwarding import Forwarder
from lab.namespace_lab import NamespaceLab
from lab.paths import PathFinder
from lab.topology import builtin
from lab.truth import PairTruth, pair_truths
from lab.world import start

S = 10**9
MS = 10**6


def truths(name: str) -> dict[tuple[str, str, str], PairTruth]:
    return {(p.src, p.dst, p.medium): p for p in pair_truths(builtin(name))}


def file_of(name: str) -> dict[str, list[dict[str, object]]]:
    return tomllib.loads(Path(f"lab/worlds/{name}.toml").read_text("utf-8"))


def test_ecmp_has_four_equal_paths() -> None:
    """By metric alone networkx finds four paths from a to b, of 20, 24, 30 and 34 ms, and two to c; no fifth is as good."""
    graph = nx.Graph()
    for link in file_of("ecmp")["links"]:
        a, b = link["between"]  # type: ignore[misc]
        graph.add_edge(a, b, metric=link["metric"], delay=link["delay_ms"])
    found = {
        goal: sorted(nx.path_weight(graph, path, "delay") for path in nx.all_shortest_paths(graph, "a", goal, "metric")) for goal in "bc"
    }
    assert found == {"b": [20, 24, 30, 34], "c": [12, 22]}
    for goal, delays in found.items():
        pair = truths("ecmp")["a", goal, "internet"]
        assert sorted(path.delay_ns / MS for path in pair.paths) == delays
        assert sorted(path.delay_ns / MS for path in pair.reverse_paths) == delays
        assert {path.share for path in pair.paths} == {1 / len(delays)}
        assert (pair.rtt_min_ns / MS, pair.rtt_max_ns / MS) == (2 * delays[0], 2 * delays[-1])


@pytest.mark.parametrize(("dst", "loss"), [("clean", 0), ("oneway", 0.05), ("both", 0.0396), ("chain", 1 - 0.99**6), ("narrow", 0)])
def test_lossy_loses_what_it_says(dst: str, loss: float) -> None:
    """The loss of an echo, by hand; and the narrow path has its rate."""
    pair = truths("lossy")["a", dst, "internet"]
    assert pair.loss_ratio == pytest.approx(loss, abs=1e-12)
    assert pair.bottleneck_bps == (2_000_000 if dst == "narrow" else None)


def test_asymmetric_goes_out_north_and_back_south() -> None:
    """15 ms out over the north, 40 ms back over the south; 30 and 10 ms, 100 and 10 Mbit/s to the uplink."""
    found = truths("asymmetric")
    out, back = found["a", "b", "internet"], found["b", "a", "internet"]
    assert ([*out.nodes], [*back.nodes]) == (["edge-a", "north", "edge-b", "b"], ["edge-b", "south", "edge-a", "a"])
    assert (out.forward_ns / MS, out.reverse_ns / MS, back.forward_ns / MS) == (15, 40, 40)
    up = found["a", "uplink", "internet"]
    assert (up.forward_ns / MS, up.reverse_ns / MS, up.bottleneck_bps) == (30, 10, 100_000_000)
    assert found["uplink", "a", "internet"].bottleneck_bps == 10_000_000


def test_blackout_cuts_off_the_island_and_only_it() -> None:
    """At 30 s of every 120 nobody reaches the island, at 60 s everybody; at 90 s north and south go round by west."""
    world = builtin("blackout")
    agenda = Agenda(Forwarder(world, Random(1).random), start_ns=0)
    names = [site.id for site in world.sites]
    for lap in (0, 120):
        for at_s, island, via_west in [(10, True, False), (30, False, False), (60, True, False), (90, True, True), (110, True, False)]:
            agenda.advance((lap + at_s) * S)
            finder = PathFinder(world, lambda link: agenda.forwarder.states[link.key].up)
            joined = {(a, b) for a in names for b in names if a != b and finder.path(a, b, "internet")}
            assert joined == {(a, b) for a in names for b in names if a != b and (island or "island" not in (a, b))}
            path = finder.path("north", "south", "backbone")
            assert path
            assert ("bb-west" in [link.dst for link in path]) == via_west


def test_diurnal_evenings_go_round() -> None:
    """In two minutes each city's access is worst at 20 h of its own sun, by 15 ms each way, and free twelve hours later."""
    world = builtin("diurnal")
    agenda = Agenda(Forwarder(world, Random(1).random), start_ns=0)
    for site, lon in (("nrt", 139.77), ("fra", 8.68), ("iad", -77.49)):
        link = agenda.forwarder.states[site, f"in-{site}", "internet"]
        agenda = Agenda(agenda.forwarder, start_ns=0)
        peak_s = (20 - lon / 15) % 24 / 24 * 120
        for at_s, extra_ms, rate_mbps in ((peak_s, 15, 100), (peak_s + 60, 0, 200), (peak_s + 30, 7.5, 150)):
            agenda.advance(round((240 + at_s) * S))
            assert (link.delay_ns - MS) / MS == pytest.approx(extra_ms, abs=0.2)
            assert link.rate_bps == pytest.approx(rate_mbps * 1e6, rel=0.01)
            agenda = Agenda(agenda.forwarder, start_ns=0)
    assert {round((20 - lon / 15) % 24) for lon in (139.77, 8.68, -77.49)} == {11, 19, 1}


@pytest.fixture
def diurnal_lab(namespace_support: namespaces.Support, tmp_path: Path) -> Iterator[NamespaceLab]:
    lab = start(builtin("diurnal"), tmp_path, "namespaces", serving=False)
    assert isinstance(lab, NamespaceLab)
    yield lab
    lab.stop()


@pytest.mark.lab
@pytest.mark.waits
def test_a_diurnal_link_is_on_the_wire_as_the_truth_says_now(diurnal_lab: NamespaceLab) -> None:
    """The truth moves with the time, and the least of a few pings lies between the truths before and after them."""
    address = truth_of(diurnal_lab, "fra", "iad").address
    seen = []
    for _ in range(3):
        before = truth_of(diurnal_lab, "fra", "iad").rtt_ns / MS
        text = run_at(diurnal_lab, "fra", "ping", "-n", "-q", "-c", "12", "-i", "0.02", "-W", "2", address)
        after = truth_of(diurnal_lab, "fra", "iad").rtt_ns / MS
        found = re.search(r"= ([0-9.]+)/", text)
        assert found, text
        # Jitter of up to 4 x 3 ms on average keeps even the least of twelve above the truth.
        jitter_ms = truth_of(diurnal_lab, "fra", "iad").jitter_ns / MS
        assert min(before, after) - 0.5 <= float(found[1]) <= max(before, after) + max(1.0, 1.5 * jitter_ms)
        seen.append(after)
        time.sleep(1)
    assert len(set(seen)) == 3
    status = diurnal_lab.status()
    assert len(status["congested"]) == 8
    assert status["edited"] == []
    assert status["up_s"] > 2
    assert json.loads(json.dumps(status))["events"] == {"done": 0, "last": [], "ahead": []}
