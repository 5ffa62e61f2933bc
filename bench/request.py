"""Benchmark: one inference route asked of a warm planner, and every failure ranked with the load settled again.

350 PoPs, 240 regions and every measured link between them (a dense mesh whose RTTs are the model's, scaled at random: no
measurement is claimed); the inventory's pools and 500 metros. A warm question is a new source each time: nothing about it
is known yet. The other way to the same answer is networkx: a shortest path to each pool's site (RTT only, no quantiles).

    python bench/request.py [--json] [--pops 350]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the worker processes of a pool find the packages by it too

import networkx as nx
import numpy as np

from app import pools
from inventory.load import load
from records.link import LinkEstimate
from routing.fleet import FleetOptions, settle
from routing.harm import rank, single_losses
from routing.modelled import model_link
from routing.planner import Planner
from routing.request import Request
from routing.world import World


def links_of(sites: list[Any], seed: int = 0) -> list[LinkEstimate]:
    """A dense mesh: the model's median x 0.7 to 1.3, the same in both directions."""
    rng = np.random.default_rng(seed)
    found = []
    for i, a in enumerate(sites):
        for b in sites[i + 1 :]:
            base, factor = model_link(a, b), rng.uniform(0.7, 1.3)
            p50, p95 = (round((value or 0) * factor) for value in (base.rtt_p50_ns, base.rtt_p95_ns))
            found += [
                LinkEstimate(src=s.id, dst=d.id, medium="internet", rtt_min_ns=p50, rtt_p50_ns=p50, rtt_p95_ns=p95, sample_count=100)
                for s, d in ((a, b), (b, a))
            ]
    return found


def milliseconds(work: Callable[[str], object], sources: list[str]) -> float:
    """Median wall time of a question, one source each."""
    times = []
    for source in sources:
        start = time.perf_counter()
        work(source)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pops", type=int, default=350)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    inventory = load()
    workload = inventory.workloads["chat"]
    sites = [*inventory.pops[: arguments.pops], *inventory.regions[:240]]
    metros = inventory.metros[:500]
    places = {site.id: site for site in (*sites, *metros)}
    links = links_of(sites)
    serving = [pool for pool in inventory.pools if pool.site in places]

    planner = Planner(links, places, serving)
    planner.plan(Request(source=sites[0].id, workload=workload))
    from_pop = milliseconds(lambda source: planner.plan(Request(source=source, workload=workload)), [site.id for site in sites[1:41]])
    from_metro = milliseconds(lambda source: planner.plan(Request(source=source, workload=workload)), [site.id for site in metros[:40]])

    graph = nx.DiGraph()
    graph.add_weighted_edges_from((link.src, link.dst, link.rtt_p50_ns or 0) for link in links)
    targets = [pool.site for pool in serving]

    def dijkstra(source: str) -> object:
        lengths = nx.single_source_dijkstra_path_length(graph, source)
        return min(lengths[target] for target in targets)

    by_networkx = milliseconds(dijkstra, [site.id for site in sites[1:11]])

    people = sum(inventory.population[metro.id] for metro in metros)
    world = World.of(places, links, serving, demand={m.id: 150 * inventory.population[m.id] / people for m in metros}, workload=workload)
    start = time.perf_counter()
    fleet = settle(world, FleetOptions())
    settled = time.perf_counter() - start
    losses = single_losses(world)
    start = time.perf_counter()
    found = rank(fleet, losses)
    swept = time.perf_counter() - start
    with pools.processes(2) as workers:
        rank(fleet, losses[:2], **workers)  # they are up
        start = time.perf_counter()
        apart = rank(fleet, losses, **workers)
        swept_apart = time.perf_counter() - start
    result = {
        "claim": "a route with quantiles from a warm planner in under 20 ms; every single failure ranked in under 60 s",
        "ours": {
            "route_from_pop_ms": from_pop,
            "route_from_metro_ms": from_metro,
            "settle_s": settled,
            "failures": len(losses),
            "failures_noticed": sum(one.touched for one in found),
            "all_failures_s": swept,
            "all_failures_two_processes_s": swept_apart,
        },
        "others": {"networkx": {"route_from_pop_ms": by_networkx}},
        "ratio": {"networkx": by_networkx / from_pop},
        "agree": {"two_processes": apart == found},
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "pops": arguments.pops, "links": len(links)},
    }
    print(json.dumps(result, indent=2) if arguments.json else "\n".join(f"{name}: {value}" for name, value in result["ours"].items()))
    if not arguments.json:
        print(f"networkx: {by_networkx:.1f} ms a route (RTT only), {result['ratio']['networkx']:.1f} times ours")


if __name__ == "__main__":
    main()
