"""A small fleet: five places with users, four PoPs, two regions, three pools; and random ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from routing_kit import link, pool, site, workload

from records.units import MS
from routing.world import World

COUNTRY = {"a": "DE", "b": "FR", "c": "SG", "d": "US", "aws:us-east-1": "US", "gcp:europe-west9": "FR"}


def placed(name, lat, lon, country, **more):
    return replace(site(name, lat, lon, **more), country=country, metro=name.rpartition(":")[2])


SITES = {
    s.id: s
    for s in (
        placed("a", 50, 8, "DE"),
        placed("b", 48, 2, "FR"),
        placed("c", 1, 104, "SG"),
        placed("d", 40, -75, "US"),
        placed("aws:us-east-1", 39, -77, "US"),
        placed("gcp:europe-west9", 48.5, 2, "FR"),
        placed("metro:berlin", 52, 13, "DE", kind="metro"),
        placed("metro:paris", 48.8, 2.3, "FR", kind="metro"),
        placed("metro:jakarta", -6, 107, "ID", kind="metro"),
        placed("metro:boston", 42, -71, "US", kind="metro"),
    )
}
LINKS = (
    link("a", "b", 10, sample_count=50),
    link("a", "d", 85),
    link("b", "aws:us-east-1", 80),
    link("d", "aws:us-east-1", 4),
    link("a", "aws:us-east-1", 110),
    link("c", "a", 160),
    link("c", "gcp:europe-west9", 190),
    link("a", "gcp:europe-west9", 11),
    link("metro:berlin", "a", 8),
    link("metro:berlin", "b", 20),
    link("metro:jakarta", "c", 14),
    link("metro:boston", "d", 9),
)
POOLS = (
    pool("a", devices=1, usd_per_hour=4.0),
    pool("aws:us-east-1", devices=2, usd_per_hour=7.2),
    pool("gcp:europe-west9", usd_per_hour=3.6),
)
DEMAND = {"metro:berlin": 15.0, "metro:paris": 20.0, "metro:jakarta": 10.0, "metro:boston": 12.0, "b": 3.0}


def price(site_id, scope, _month_gb):
    return {"internet": 0.1, "inter-region": 0.02, "direct-connect": 0.01}[scope] if ":" in site_id else None


def world(**more):
    more.setdefault("demand", DEMAND)
    more.setdefault("workload", workload(ttft_budget_ns=400 * MS))
    return World.of(SITES, LINKS, POOLS, **more)


def random_world(seed, *, places=6, pops=6, regions=3):
    """Random coordinates, a third of the links measured, some pools, some PoPs with users of their own."""
    rng = np.random.default_rng(seed)

    def somewhere(name, **more):
        return placed(name, float(rng.uniform(-60, 60)), float(rng.uniform(-170, 170)), str(rng.choice(["DE", "FR", "US", "SG"])), **more)

    sites = [somewhere(f"p{i}") for i in range(pops)]
    sites += [somewhere(f"{('aws', 'gcp', 'azure')[i % 3]}:r{i}") for i in range(regions)]
    sites += [somewhere(f"metro:m{i}", kind="metro") for i in range(places)]
    by_id = {s.id: s for s in sites}
    links = []
    for a in sites:
        for b in sites:
            if a.id == b.id or b.kind == "metro" or rng.random() > 0.33:
                continue
            if a.kind == "metro" and b.kind == "region" and rng.random() < 0.7:
                continue
            p50 = float(rng.uniform(2, 300))
            links.append(link(a.id, b.id, p50, rtt_p95_ns=round(p50 * rng.uniform(1.0, 1.5) * MS)))
    serving = [s.id for s in sites if s.kind != "metro" and rng.random() < 0.5] or ["p0"]
    pools = [pool(name, devices=int(rng.integers(1, 4)), usd_per_hour=float(rng.uniform(1, 9))) for name in serving]
    demand = {f"metro:m{i}": float(rng.uniform(0.5, 12)) for i in range(places)} | {"p1": 2.0}
    return World.of(by_id, links, pools, demand=demand, workload=workload(ttft_budget_ns=300 * MS))
