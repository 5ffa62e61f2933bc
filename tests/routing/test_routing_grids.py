"""The engine on other real grids: Azure's backbone of July 2026 and IBM's weekly tables, pair by pair against networkx."""

from __future__ import annotations

import csv
import itertools

import networkx as nx
import numpy as np
import pytest
from routing_kit import DATA

from routing.alternatives import any_hop_ms
from routing.engine import best
from routing.failures import single_failures

AZURE = DATA / "azure-latency-2026" / "azure_rtt_p95_2026-07-30_long.csv"
IBM = DATA / "ibm-latency" / "ibm_vpc_interregion_weekly.csv"


def table(rows):
    """[N, N] ms from (src, dst, ms) rows."""
    names = sorted({name for src, dst, _ in rows for name in (src, dst)})
    direct = np.full((len(names), len(names)), np.inf)
    for src, dst, ms in rows:
        direct[names.index(src), names.index(dst)] = ms
    return direct


def grid(name):
    path = AZURE if name == "azure" else IBM
    if not path.exists():
        pytest.skip(f"no {path}: the public grid is not here")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    if name == "azure":
        return table([(row["src"], row["dst"], float(row["rtt_p95_ms"])) for row in rows if row["rtt_p95_ms"]])
    newest = max(row["window_end"] for row in rows)
    return table([(row["src"], row["dst"], float(row["avg_rtt_ms"])) for row in rows if row["window_end"] == newest])


@pytest.mark.parametrize("relays", [1, 2])
@pytest.mark.parametrize("name", ["azure", "ibm"])
def test_every_pair_equals_networkx_to_the_nanosecond(name, relays):
    """Whole ms make ties everywhere: costs are networkx's on a layered graph, and the relays named add up to them."""
    direct = grid(name)
    n = len(direct)
    layers = nx.DiGraph()
    for i, j in zip(*np.nonzero(np.isfinite(direct)), strict=True):
        for layer in range(relays + 1):
            if i != j:
                layers.add_edge((i, layer), (j, layer + 1), weight=round(direct[i, j] * 1e6) + (500_000 if layer else 0))
    found = best(direct, relays=relays, relay_ms=0.5)
    for i in range(n):
        lengths = nx.single_source_dijkstra_path_length(layers, (i, 0))
        for j in set(range(n)) - {i}:
            expected = min(lengths.get((j, layer), np.inf) for layer in range(1, relays + 2))
            assert round(found.cost[i, j] * 1e6) == expected
            stops = (i, *found.relays(i, j), j)
            legs = sum(round(direct[a, b] * 1e6) for a, b in itertools.pairwise(stops))
            assert legs + 500_000 * (len(stops) - 2) == expected


def test_failures_and_any_number_of_relays_on_azure():
    """Five sites fail: read off as solved again; networkx's Dijkstra over any number of relays."""
    direct = grid("azure")
    swept = single_failures(direct, relays=2)
    for site in (0, 7, 20, 33, len(direct) - 1):
        gone = direct.copy()
        gone[site] = gone[:, site] = np.inf
        assert np.array_equal(np.delete(swept.after(site).cost, site, 0), np.delete(best(gone, relays=2).cost, site, 0))
    graph = nx.DiGraph()
    graph.add_weighted_edges_from((i, j, direct[i, j] + 0.5) for i, j in zip(*np.nonzero(np.isfinite(direct)), strict=True) if i != j)
    whole = any_hop_ms(direct)
    for i in range(0, len(direct), 9):
        for j, length in nx.single_source_dijkstra_path_length(graph, i).items():
            assert whole[i, j] == pytest.approx(0 if i == j else length - 0.5, abs=1e-6)
