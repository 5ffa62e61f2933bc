"""Benchmark: routes, failures, sweeps, placement and the command line at the size of a fleet, beside general libraries.

Main claim: the best route over at most one relay, with the relay chosen, for every pair of a dense fleet. networkx, SciPy and
rustworkx answer the same question on a layered graph, in which a path of n edges ends in layer n (a plain search does not
stop after one relay), and give predecessors or paths, from which the relay follows. SciPy's and rustworkx's Floyd-Warshall
answer another question, any number of relays, and are listed as such. Graphs are built before the clock starts. All
answers are checked to agree. networkx takes minutes: it answers for a few sources and is scaled up, and so is the brute
force over failures; the output says so. RTTs are random, the places of the route and placement parts are the inventory's.

    python bench/routes.py [--sites 550] [--large 5000] [--only PART]... [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the worker processes of a pool find the packages by it too

import networkx as nx
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra, floyd_warshall

from routing.alternatives import hop_loss
from routing.engine import best
from routing.failures import single_failures

RELAY_MS = 0.5
NETWORKX_SOURCES = 3
REPEATS = 5
PARTS = ("pairs", "failures", "large", "sweep", "placement", "route", "command")


def rtts_ms(sites: int, seed: int = 1) -> np.ndarray:
    """[sites, sites] RTTs: great circles of random places on the globe times a lognormal inflation; inf on the diagonal."""
    rng = np.random.default_rng(seed)
    point = rng.normal(size=(sites, 3))
    point /= np.linalg.norm(point, axis=1, keepdims=True)
    distance_km = 6371 * np.arccos(np.clip(point @ point.T, -1, 1))
    rtt_ms = np.rint((1 + distance_km / 100 * rng.lognormal(np.log(1.8), 0.33, (sites, sites))) * 1e6) / 1e6
    np.fill_diagonal(rtt_ms, np.inf)
    return rtt_ms


def timed(question: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, Any]:
    """Least wall time of some runs in seconds, and the answer."""
    seconds, answer = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        answer = question()
        seconds.append(time.perf_counter() - start)
    return min(seconds), answer


def layered(rtt_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges (from, to, ns): site i is node i, n + i after one leg, 2n + i after two."""
    n = len(rtt_ms)
    i, j = np.nonzero(np.isfinite(rtt_ms))
    ns = np.rint(rtt_ms[i, j] * 1e6)
    return np.concatenate((i, i + n)), np.concatenate((j + n, j + 2 * n)), np.concatenate((ns, ns + RELAY_MS * 1e6))


def least_ms(lengths_ns: np.ndarray, sites: int) -> np.ndarray:
    """From lengths to every layered node to the least over one and two legs, in ms."""
    return np.minimum(lengths_ns[:, sites : 2 * sites], lengths_ns[:, 2 * sites :]) / 1e6


def with_networkx(edges: tuple[np.ndarray, ...], sites: int) -> tuple[float, np.ndarray]:
    """(seconds for all sources, scaled up; answers of the first sources)."""
    graph = nx.DiGraph()
    graph.add_weighted_edges_from(zip(*(column.tolist() for column in edges), strict=True))
    start = time.perf_counter()
    found = np.full((NETWORKX_SOURCES, 3 * sites), np.inf)
    for source in range(NETWORKX_SOURCES):
        _, lengths = nx.dijkstra_predecessor_and_distance(graph, source)
        found[source, list(lengths)] = list(lengths.values())
    return (time.perf_counter() - start) * sites / NETWORKX_SOURCES, least_ms(found, sites)


def with_rustworkx(edges: tuple[np.ndarray, ...], rtt_ms: np.ndarray) -> dict[str, tuple[float, np.ndarray]]:
    """(seconds, answers) of rustworkx, where it is installed: paths over one relay; distances over any number."""
    try:
        rx = importlib.import_module("rustworkx")
    except ModuleNotFoundError:
        return {}
    sites = len(rtt_ms)
    graph = rx.PyDiGraph()
    graph.add_nodes_from(range(3 * sites))
    graph.add_edges_from(list(zip(*(column.tolist() for column in edges), strict=True)))
    weight = {(a, b): w for a, b, w in zip(*(column.tolist() for column in edges), strict=True)}

    def every_source() -> list[Any]:
        return [rx.dijkstra_shortest_paths(graph, source, weight_fn=float) for source in range(sites)]

    seconds, paths = timed(every_source, repeats=1)
    found = np.full((sites, 3 * sites), np.inf)
    for source, by_node in enumerate(paths[:NETWORKX_SOURCES]):
        for node in by_node:
            path = by_node[node]
            found[source, node] = sum(weight[a, b] for a, b in zip(path, list(path)[1:], strict=False))
    plain = rx.PyDiGraph()
    plain.add_nodes_from(range(sites))
    i, j = np.nonzero(np.isfinite(rtt_ms))
    plain.add_edges_from(list(zip(i.tolist(), j.tolist(), (rtt_ms[i, j] + RELAY_MS).tolist(), strict=True)))
    any_s, _ = timed(lambda: rx.floyd_warshall_numpy(plain, weight_fn=float), repeats=2)
    return {"rustworkx": (seconds, least_ms(found[:NETWORKX_SOURCES], sites)), "rustworkx_any_hop": (any_s, np.empty(0))}


def pairs(sites: int) -> dict[str, Any]:
    """All pairs over one relay: ours and the others'; two relays, and what a limit on relays loses."""
    rtt_ms = rtts_ms(sites)
    edges = layered(rtt_ms)
    ours = {
        name: timed(lambda options=options: best(rtt_ms, relay_ms=RELAY_MS, **options))
        for name, options in {
            "seconds": {"form": "numba"},
            "seconds_float32": {"form": "numba", "precision": "float32"},
            "seconds_without_numba": {"form": "numpy"},
            "seconds_two_relays": {"form": "numba", "relays": 2},
        }.items()
    }
    with ThreadPoolExecutor(2) as threads:
        ours["seconds_two_threads"] = timed(lambda: best(rtt_ms, relay_ms=RELAY_MS, form="numba", executor=threads))
    exact = ours["seconds"][1]
    matrix = csr_array((edges[2], (edges[0], edges[1])), shape=(3 * sites, 3 * sites))
    scipy_s, (scipy_ns, _) = timed(lambda: dijkstra(matrix, indices=np.arange(sites), return_predecessors=True), repeats=1)
    whole = np.where(np.isfinite(rtt_ms), rtt_ms + RELAY_MS, 0)
    any_s, _ = timed(lambda: floyd_warshall(whole, return_predecessors=True), repeats=2)
    networkx_s, networkx_ms = with_networkx(edges, sites)
    rust = with_rustworkx(edges, rtt_ms)
    seconds = {"networkx": networkx_s, "scipy": scipy_s, "scipy_any_hop": any_s} | {name: found[0] for name, found in rust.items()}
    first = ~np.eye(sites, dtype=bool)[:NETWORKX_SOURCES]
    agree = {
        "scipy": np.array_equal(exact.cost[~np.eye(sites, dtype=bool)], least_ms(scipy_ns, sites)[~np.eye(sites, dtype=bool)]),
        "networkx": np.array_equal(exact.cost[:NETWORKX_SOURCES][first], networkx_ms[first]),
        "without_numba": np.array_equal(exact.via1, ours["seconds_without_numba"][1].via1),
        "float32": bool(np.allclose(exact.cost, ours["seconds_float32"][1].cost, rtol=4e-7)),
    }
    if "rustworkx" in rust:
        agree["rustworkx"] = np.array_equal(exact.cost[:NETWORKX_SOURCES][first], rust["rustworkx"][1][first])
    ours_s = ours["seconds"][0]
    return {
        "claim": f"best route over at most one relay, with the relay, for all {sites * (sites - 1)} pairs of {sites} sites",
        "ours": {name: found[0] for name, found in ours.items()},
        "others": {name: {"seconds": value} for name, value in seconds.items()}
        | {"networkx": {"seconds": networkx_s, "scaled_up_from_sources": NETWORKX_SOURCES}}
        | ({} if rust else {"rustworkx": None}),
        "ratio": {name: value / ours_s for name, value in seconds.items()},
        "agree": {name: bool(value) for name, value in agree.items()},
        "limit_of_relays": [
            {"relays": loss.relays, "within_1_ms_of_any_number": loss.within, "mean_ms": loss.mean_ms, "worst_ms": loss.worst_ms}
            for loss in hop_loss(rtt_ms, relay_ms=RELAY_MS)
        ],
    }


def failures(sites: int) -> dict[str, Any]:
    """Every single site's failure, all pairs answered anew; brute force for a few, scaled."""
    rtt_ms = rtts_ms(sites)
    found: dict[str, Any] = {"claim": f"all pairs after each of {sites} single-site failures"}
    ours, ratio = {}, {}
    for relays in (1, 2):

        def every(relays: int = relays) -> Any:
            swept = single_failures(rtt_ms, relays=relays, relay_ms=RELAY_MS, form="numba")
            for site in range(sites):
                swept.after(site)
            return swept

        seconds, swept = timed(every, repeats=3)
        tried = (0, sites // 2, sites - 1)
        start = time.perf_counter()
        agree = True
        for site in tried:
            gone = rtt_ms.copy()
            gone[site] = gone[:, site] = np.inf
            again = best(gone, relays=relays, relay_ms=RELAY_MS, form="numba")
            agree &= np.array_equal(np.delete(swept.after(site).cost, site, 0), np.delete(again.cost, site, 0))
        brute_s = (time.perf_counter() - start) * sites / len(tried)
        name = "one_relay" if relays == 1 else "two_relays"
        ours[f"seconds_{name}"], ratio[f"solving_again_{name}"] = seconds, brute_s / seconds
        found.setdefault("others", {})[f"solving_again_{name}"] = {"seconds": brute_s, "scaled_up_from_failures": len(tried)}
        found.setdefault("agree", {})[name] = bool(agree)
    return found | {"ours": ours, "ratio": ratio}


def large(sites: int) -> dict[str, Any]:
    """One relay, float32, two threads, in a process of its own for its memory."""
    done = subprocess.run([sys.executable, __file__, "--large-child", str(sites)], check=True, capture_output=True, text=True)
    return {"claim": f"best route over at most one relay for all pairs of {sites} sites, float32, two threads"} | json.loads(done.stdout)


def large_child(sites: int) -> None:
    """What `large` runs."""
    rng = np.random.default_rng(1)
    rtt_ms = rng.uniform(1, 300, (sites, sites)).astype(np.float32)
    best(rtt_ms[:100, :100], precision="float32", form="numba")  # loads what was compiled
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ThreadPoolExecutor(2) as threads:
        seconds, found = timed(lambda: best(rtt_ms, precision="float32", form="numba", executor=threads), repeats=1)
    i, j = rng.integers(0, sites, (2, 20))
    with np.errstate(invalid="ignore"):
        by_hand = [
            min(rtt_ms[a, b], (np.delete(rtt_ms[a] + np.float32(0.5) + rtt_ms[:, b], [a, b])).min()) for a, b in zip(i, j, strict=True)
        ]
    agree = all(a == b or found.cost[a, b] == value for a, b, value in zip(i, j, by_hand, strict=True))
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours = {"seconds": seconds, "peak_mb": peak_kb / 1024, "peak_mb_before": before_kb / 1024}
    print(json.dumps({"ours": ours, "agree": {"by_hand_20_pairs": bool(agree)}}))


def sweep(sites: int) -> dict[str, Any]:
    """Pairs of failures here, in two processes and on two Dask workers: the same answers, and how much sooner."""
    from itertools import combinations, islice

    from app import pools
    from routing.sweep import failure_effects

    rtt_ms = rtts_ms(sites)
    sets = list(islice(combinations(range(sites), 2), 0, None, max(1, sites * (sites - 1) // 2 // 8000)))
    failure_effects(rtt_ms, sets[:2])
    here_s, here = timed(lambda: failure_effects(rtt_ms, sets), repeats=1)
    ours: dict[str, float] = {}
    others: dict[str, Any] = {}
    ratio, agree = {}, {}
    for name, pool in (("two_processes", pools.processes(2)), ("two_dask_workers", pools.dask(count=2))):
        with contextlib.suppress(ModuleNotFoundError), pool as workers:
            chunk = max(1, round(len(sets) * pools.CHUNK_S / here_s))
            failure_effects(rtt_ms, sets[: 4 * chunk], chunk=chunk, **workers)  # workers are up and have their tables
            # By turns: a machine that others use is slower in one minute than in the next.
            turns = [
                (
                    timed(lambda: failure_effects(rtt_ms, sets), repeats=1),
                    timed(lambda chunk=chunk, workers=workers: failure_effects(rtt_ms, sets, chunk=chunk, **workers), repeats=1),
                )
                for _ in range(3)
            ]
            ours[f"seconds_{name}"] = statistics.median(there[0] for _, there in turns)
            others[f"one_process_beside_{name}"] = {"seconds": statistics.median(alone[0] for alone, _ in turns)}
            ratio[f"one_process/{name}"] = statistics.median(alone[0] / there[0] for alone, there in turns)
            agree[name] = all(there[1] == here for _, there in turns)
    return {
        "claim": f"the effect of {len(sets)} pairs of failures among {sites} sites, on two workers",
        "ours": ours,
        "others": others,
        "ratio": ratio,
        "agree": agree,
    }


def placement() -> dict[str, Any]:
    """k = 20 of 550 candidates for 500 metros: the quick answer, and the proven one by HiGHS."""
    from inventory.load import load
    from routing.distance import distances
    from routing.placement import Problem, marginal, quick, value_of
    from routing.placement_proof import prove

    inventory = load()
    metros, candidates = inventory.metros[:500], [*inventory.pops, *inventory.regions][:550]
    real = len(metros) == 500 and len(candidates) == 550
    if real:
        rtt_ms = distances(metros, candidates).rtt_ms
        weights = np.array([inventory.population[metro.id] for metro in metros], dtype=np.float64)
    else:
        rng = np.random.default_rng(1)
        rtt_ms, weights = rtts_ms(550)[:500] + 0, rng.pareto(1.2, 500) + 0.1
        rtt_ms[~np.isfinite(rtt_ms)] = 0
    ours: dict[str, Any] = {"places": "inventory, modelled RTTs" if real else "seeded random points"}
    for objective in ("p50", "within-budget", "p95"):
        problem = Problem(rtt_ms=rtt_ms, weights=weights, k=20, objective=objective, budget_ms=20.0)  # type: ignore[arg-type]
        quick_s, chosen = timed(lambda problem=problem: quick(problem), repeats=3)
        marginal_s, _ = timed(lambda problem=problem, chosen=chosen: marginal(problem, chosen), repeats=3)
        proven_s, proven = timed(lambda problem=problem: prove(problem, clock=time.monotonic), repeats=1)
        ours[objective] = {
            "seconds_quick": quick_s,
            "seconds_marginal_of_all": marginal_s,
            "value_quick": value_of(problem, chosen),
            "seconds_proven": proven_s,
            "value_proven": proven.value,
            "bound": proven.bound,
            "gap": proven.gap,
        }
    return {"claim": "20 of 550 sites for 500 metros: quick, and proven by HiGHS in at most 30 s", "ours": ours}


def route() -> dict[str, Any]:
    """One route with quantiles from a process that has the network: 350 PoPs x 240 regions, measured in both senses."""
    import random

    from app import answers
    from inventory.load import load
    from records.link import LinkEstimate
    from records.place import fibre_floor_ns
    from routing.gates import grade
    from routing.request import Request

    inventory, rng = load(), random.Random(1)
    pops, regions = inventory.pops[:350], inventory.regions[:240]
    links = []
    for pop in pops:
        for region in regions:
            ns = round(900_000 + fibre_floor_ns(pop, region) * rng.lognormvariate(0.588, 0.3))
            quantiles = {"rtt_min_ns": round(ns * 0.97), "rtt_p50_ns": ns, "rtt_p95_ns": round(ns * 1.2), "rtt_p99_ns": round(ns * 1.4)}
            links.append(
                LinkEstimate(src=pop.id, dst=region.id, medium="internet", loss_ratio=0.001, sample_count=100, age_s=5.0, **quantiles)
            )
    known = answers.Links(tuple(grade(links, inventory.sites)), inventory.sites, 1, "memory")
    planner = answers.planner_of(known)
    workload = answers.workload_of("chat")
    ours: dict[str, Any] = {"links": len(links)}
    for kind, sources in (("pop", pops[:60]), ("metro", inventory.metros[:60])):
        for turn in ("first", "again"):
            each = [timed(lambda site=site: planner.plan(Request(source=site.id, workload=workload)), repeats=1)[0] for site in sources]
            ours[f"ms_from_{kind}_{turn}"] = {"p50": statistics.median(each) * 1e3, "max": max(each) * 1e3}
    return {"claim": "one route with quantiles, alternatives and a backup, from a warm process", "ours": ours}


def command() -> dict[str, Any]:
    """`isochrone route` from start to end, least and median of some runs, over warehouses of three sizes, every pair measured."""
    tool = Path(sys.executable).with_name("isochrone")
    ours: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        from inventory.load import load

        pops, regions = load().pops, load().regions
        for places in ((*pops[:40], *regions[:30]), (*pops[:350], *regions[:200]), (*pops, *regions)):
            rows = io.StringIO()
            rows.write("src,dst,rtt_ms\n")
            rtt_ms = rtts_ms(len(places))
            rows.writelines(
                f"{a.id},{b.id},{rtt_ms[i, j] + 150:.3f}\n" for i, a in enumerate(places) for j, b in enumerate(places) if a is not b
            )
            file, warehouse = Path(folder) / f"{len(places)}.csv", Path(folder) / f"w{len(places)}"
            file.write_text(rows.getvalue())
            subprocess.run([tool, "import", "rtt-matrix", file, "--warehouse", warehouse], check=True, capture_output=True)
            ask = [tool, "route", "--from", places[0].id, "--warehouse", warehouse, "--json"]
            each = [timed(lambda ask=ask: subprocess.run(ask, check=True, capture_output=True), repeats=1)[0] for _ in range(7)]
            ours[f"{len(places)}_sites"] = {
                "links": len(places) * (len(places) - 1),
                "seconds_least": min(each),
                "seconds_median": statistics.median(each),
            }
    return {"claim": "one route asked from the command line, start included", "ours": ours}


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sites", type=int, default=550)
    parser.add_argument("--large", type=int, default=5000)
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--large-child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.large_child:
        large_child(options.large_child)
        return
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "pairs": lambda: pairs(options.sites),
        "failures": lambda: failures(options.sites),
        "large": lambda: large(options.large),
        "sweep": lambda: sweep(options.sites),
        "placement": placement,
        "route": route,
        "command": command,
    }
    found = {name: runs[name]() for name in options.only or PARTS}
    first = next(iter(found))
    document = found.pop(first) | {
        "also": found,
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "numpy": np.__version__, "system": platform.platform()},
    }
    document = {"claim": document["claim"], "ours": document["ours"], "others": {}, "ratio": {}} | document
    if options.json:
        print(json.dumps(document, indent=2))
        return
    for part in ({name: value for name, value in document.items() if name not in ("also", "machine")}, *found.values()):
        show(part)


def show(part: dict[str, Any]) -> None:
    """One part for a person."""
    print(part["claim"])
    for name, value in part["ours"].items():
        print(f"  ours {name}: {_text(value)}")
    for name, value in (part.get("others") or {}).items():
        times = part.get("ratio", {}).get(name)
        print(f"  {name}: {_text(value)}{'' if times is None else f', {times:.3g} times ours'}")
    for name, value in part.get("ratio", {}).items():
        if name not in (part.get("others") or {}):
            print(f"  {name}: {value:.3g} times")
    if part.get("agree"):
        print(f"  answers agree: {', '.join(f'{name} {value}' for name, value in part['agree'].items())}")
    for row in part.get("limit_of_relays", ()):
        print(f"  against any number of relays: {_text(row)}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
