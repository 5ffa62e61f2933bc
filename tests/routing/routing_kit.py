"""What the routing tests share: small worlds, and the public RTT grid read by itself, without the product's importer."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from records.link import LinkEstimate
from records.place import PROVIDERS, Site
from records.serving import PerfProfile, ServingPool, Workload
from records.units import MS

DATA = Path(__file__).parents[2].parent / "shared" / "data"
GRID = DATA / "skyplane" / "latency_2022-04.csv"
REGIONS = DATA / "cloud-regions" / "cloud_regions_6clouds_unique.csv"


def link(src: str, dst: str, p50_ms: float | None = None, **more) -> LinkEstimate:
    """A measured internet link with a median RTT in ms."""
    more.setdefault("medium", "internet")
    return LinkEstimate(src=src, dst=dst, rtt_p50_ns=None if p50_ms is None else round(p50_ms * MS), **more)


def site(name: str, lat: float = 0.0, lon: float = 0.0, kind: str = "pop", provider: str | None = None) -> Site:
    """A site; a region's provider is the prefix of its id."""
    prefix = name.partition(":")[0]
    if prefix in PROVIDERS:
        kind, provider = "region", prefix
    return Site(id=name, kind=kind, name=name, lat=lat, lon=lon, provider=provider)


def profile(**more) -> PerfProfile:
    """1 ms a token, prefill 10 ms + 0.01 ms a token, measured without error unless said otherwise."""
    values = {
        "accelerator": "gpu",
        "model": "m",
        "quantisation": "bf16",
        "engine": "e",
        "alpha_ns": MS,
        "beta_ns": 0,
        "gamma_ns": 10 * MS,
        "delta_ns": 10_000,
        "max_batch": 8,
        "provenance": "measured",
        "error_ratio": 0.0,
        "source": "test",
        "as_of": "2025",
    }
    return PerfProfile(**(values | more))


def pool(where: str, name: str | None = None, usd_per_hour: float | None = 3.6, devices: int = 1, **more) -> ServingPool:
    """A pool at a site."""
    made = profile(**more)
    return ServingPool(
        id=name or f"{where}-pool",
        site=where,
        accelerator=made.accelerator,
        device_count=devices,
        model=made.model,
        profile=made,
        usd_per_hour=usd_per_hour,
    )


def workload(**more) -> Workload:
    """1,000 tokens in, 101 out, a prompt that fits the first window."""
    values = {
        "name": "w",
        "title": "W",
        "model": "m",
        "input_tokens": 1000,
        "output_tokens": 101,
        "upload_bytes": 4000,
        "download_bytes": 50_000,
        "ttft_budget_ns": None,
        "e2e_budget_ns": None,
        "note": "",
    }
    return Workload(**(values | more))


def _region_of(name: str) -> str:
    """The grid names Google's zones: gcp:europe-west6-a is in the region gcp:europe-west6."""
    return name.rsplit("-", 1)[0] if name.startswith("gcp:") else name


def grid_sites() -> dict[str, Site]:
    """The regions' coordinates from the public list."""
    if not REGIONS.exists():
        pytest.skip(f"no {REGIONS}: the public list of regions is not here")
    with REGIONS.open() as file:
        return {
            name: Site(id=name, kind="region", name=row["name"], lat=float(row["lat"]), lon=float(row["lon"]), provider=row["cloud"])
            for row in csv.DictReader(file)
            for name in [f"{row['cloud']}:{row['region']}"]
        }


def grid_links(*, premium: bool) -> list[list[LinkEstimate]]:
    """The grid's rows as links, one list for each pair of network tiers so that no list holds a pair twice."""
    if not GRID.exists():
        pytest.skip(f"no {GRID}: the public grid is not here")
    tiers: dict[tuple[str, str], list[LinkEstimate]] = {}
    with GRID.open() as file:
        for row in csv.DictReader(file):
            tier = (row["src_tier"], row["dst_tier"])
            if premium and tier != ("PREMIUM", "PREMIUM"):
                continue
            tiers.setdefault(tier, []).append(
                LinkEstimate(
                    src=_region_of(row["src_region"]),
                    dst=_region_of(row["dst_region"]),
                    medium="internet",
                    rtt_min_ns=round(float(row["min_rtt"]) * MS),
                    rtt_p50_ns=round(float(row["avg_rtt"]) * MS),
                )
            )
    return list(tiers.values())
