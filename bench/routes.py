"""Benchmark: the best route over at most one relay for every pair of a fleet, beside general shortest-path libraries.

All answer the same question on the same random RTTs (dense, relay cost 0.5 ms) and are checked to agree to the nanosecond.
The libraries search a layered graph, in which a path of n edges ends in layer n, since a plain search does not stop after
one relay. networkx takes minutes, so it answers for a few sources and its time is scaled up; the output says so.

    python bench/routes.py [--sites 550] [--json]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from routing.engine import best

RELAY_MS = 0.5
NETWORKX_SOURCES = 3
REPEATS = 3


def rtts_ms(sites: int, seed: int = 1) -> np.ndarray:
    """[sites, sites] RTTs: great circles of random places on the globe times a lognormal inflation; inf on the diagonal."""
    rng = np.random.default_rng(seed)
    point = rng.normal(size=(sites, 3))
    point /= np.linalg.norm(point, axis=1, keepdims=True)
    distance_km = 6371 * np.arccos(np.clip(point @ point.T, -1, 1))
    rtt_ms = np.rint((1 + distance_km / 100 * rng.lognormal(np.log(1.8), 0.33, (sites, sites))) * 1e6) / 1e6
    np.fill_diagonal(rtt_ms, np.inf)
    return rtt_ms


def layered(rtt_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges (from, to, ns): site i is node i, n + i after one leg, 2n + i after two."""
    n = len(rtt_ms)
    i, j = np.nonzero(np.isfinite(rtt_ms))
    ns = np.rint(rtt_ms[i, j] * 1e6)
    return np.concatenate((i, i + n)), np.concatenate((j + n, j + 2 * n)), np.concatenate((ns, ns + RELAY_MS * 1e6))


def least_ms(lengths_ns: np.ndarray, sites: int) -> np.ndarray:
    """From lengths to every layered node to the least over one and two legs, in ms."""
    return np.minimum(lengths_ns[:, sites : 2 * sites], lengths_ns[:, 2 * sites :]) / 1e6


def timed(question: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, Any]:
    """Least wall time of some runs in seconds, and the answer."""
    seconds, answer = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        answer = question()
        seconds.append(time.perf_counter() - start)
    return min(seconds), answer


def with_networkx(edges: tuple[np.ndarray, ...], sites: int) -> tuple[float, np.ndarray]:
    """(seconds for all sources, scaled up; answers of the first sources)."""
    graph = nx.DiGraph()
    graph.add_weighted_edges_from(zip(*(column.tolist() for column in edges), strict=True))
    start = time.perf_counter()
    found = np.full((NETWORKX_SOURCES, 3 * sites), np.inf)
    for source in range(NETWORKX_SOURCES):
        for node, length in nx.single_source_dijkstra_path_length(graph, source).items():
            found[source, node] = length
    return (time.perf_counter() - start) * sites / NETWORKX_SOURCES, least_ms(found, sites)


def with_rustworkx(edges: tuple[np.ndarray, ...], sites: int) -> tuple[float, np.ndarray] | None:
    """The same with rustworkx, where it is installed."""
    try:
        rx = importlib.import_module("rustworkx")
    except ModuleNotFoundError:
        return None
    graph = rx.PyDiGraph()
    graph.add_nodes_from(range(3 * sites))
    graph.add_edges_from(list(zip(*(column.tolist() for column in edges), strict=True)))

    def every_source() -> np.ndarray:
        found = np.full((sites, 3 * sites), np.inf)
        for source in range(sites):
            for node, length in rx.dijkstra_shortest_path_lengths(graph, source, float).items():
                found[source, node] = length
        return found

    seconds, found = timed(every_source, repeats=1)
    return seconds, least_ms(found, sites)


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sites", type=int, default=550)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rtt_ms = rtts_ms(options.sites)
    edges = layered(rtt_ms)

    ours_s, ours = timed(lambda: best(rtt_ms, relays=1, relay_ms=RELAY_MS).cost)
    fast_s, fast = timed(lambda: best(rtt_ms, relays=1, relay_ms=RELAY_MS, precision="float32").cost)
    matrix = csr_array((edges[2], (edges[0], edges[1])), shape=(3 * options.sites, 3 * options.sites))
    scipy_s, scipy_ns = timed(lambda: dijkstra(matrix, indices=np.arange(options.sites)), repeats=1)
    networkx_s, networkx_ms = with_networkx(edges, options.sites)
    rust = with_rustworkx(edges, options.sites)

    pairs = ~np.eye(options.sites, dtype=bool)
    agree = {
        "scipy": np.array_equal(ours[pairs], least_ms(scipy_ns, options.sites)[pairs]),
        "networkx": np.array_equal(ours[: len(networkx_ms)][pairs[: len(networkx_ms)]], networkx_ms[pairs[: len(networkx_ms)]]),
        "float32": bool(np.allclose(ours, fast, rtol=1e-6)),
    }
    others: dict[str, dict[str, object] | None] = {
        "networkx": {"seconds": networkx_s, "scaled_up_from_sources": NETWORKX_SOURCES},
        "scipy": {"seconds": scipy_s},
        "rustworkx": None,
    }
    seconds = {"networkx": networkx_s, "scipy": scipy_s}
    if rust is not None:
        others["rustworkx"], seconds["rustworkx"] = {"seconds": rust[0]}, rust[0]
        agree["rustworkx"] = np.array_equal(ours[pairs], rust[1][pairs])
    document = {
        "claim": f"best route over at most one relay for all {options.sites * (options.sites - 1)} pairs of {options.sites} sites",
        "ours": {"seconds": ours_s, "seconds_float32": fast_s},
        "others": others,
        "ratio": {name: value / ours_s for name, value in seconds.items()},
        "agree": {name: bool(value) for name, value in agree.items()},
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "numpy": np.__version__, "system": platform.platform()},
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    print(document["claim"])
    print(f"  isochrone {ours_s:8.2f} s  (float32 {fast_s:.2f} s)")
    for name, value in seconds.items():
        scaled = f", scaled up from {NETWORKX_SOURCES} sources" if name == "networkx" else ""
        print(f"  {name:9} {value:8.2f} s  {value / ours_s:.0f} times ours{scaled}")
    if rust is None:
        print("  rustworkx is not installed here")
    print(f"  answers agree: {', '.join(f'{name} {value}' for name, value in document['agree'].items())}")


if __name__ == "__main__":
    main()
