"""The rows that `isochrone inventory list` shows, by kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from inventory.model import Inventory
from inventory.prices import in_usd
from records.place import Site
from records.residency import ACTIVITIES
from records.units import US, ms

__all__ = ["KINDS"]


def _place(site: Site) -> dict[str, object]:
    return {"id": site.id, "name": site.name, "metro": site.metro, "country": site.country, "lat": site.lat, "lon": site.lon}


def _pops(inv: Inventory) -> list[dict[str, Any]]:
    return [
        _place(site)
        | {
            "jurisdiction": inv.jurisdiction_of(site),
            "node_classes": list(inv.node_classes[site.id]) if site.id in inv.node_classes else None,
            "attachment": inv.attachment.get(site.id),
        }
        for site in inv.pops
    ]


def _regions(inv: Inventory) -> list[dict[str, Any]]:
    return [{"provider": site.provider, **_place(site), "jurisdiction": inv.jurisdiction_of(site)} for site in inv.regions]


def _endpoints(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(endpoint) for endpoint in inv.endpoints]


def _onramps(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(ramp) | {"regions": None if ramp.regions is None else list(ramp.regions)} for ramp in inv.onramps]


def _links(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(link) | {"usd_per_gb": inv.link_usd_per_gb(link)} for link in inv.links]


def _metros(inv: Inventory) -> list[dict[str, Any]]:
    return [_place(site) | {"population": inv.population.get(site.id)} for site in inv.metros]


def _prices(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(price) for price in inv.egress]


def _compute(inv: Inventory) -> list[dict[str, Any]]:
    return [
        asdict(price) | {"usd_per_device_hour": None if usd is None else usd / price.device_count}
        for price in inv.compute
        for usd in (in_usd(price.price_per_hour, price.currency, inv.currencies),)
    ]


def _currencies(inv: Inventory) -> list[dict[str, Any]]:
    return [{"currency": currency, "usd_per_unit": rate} for currency, rate in inv.currencies.items()]


def _accelerators(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(accelerator) for accelerator in inv.accelerators.values()]


def _models(inv: Inventory) -> list[dict[str, Any]]:
    return [asdict(model) for model in inv.models.values()]


def _profiles(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {
            "accelerator": p.accelerator,
            "model": p.model,
            "quantisation": p.quantisation,
            "engine": p.engine,
            "alpha_ms": ms(p.alpha_ns),
            "beta_ms": ms(p.beta_ns),
            "gamma_ms": ms(p.gamma_ns),
            "delta_us": p.delta_ns / US,
            "max_batch": p.max_batch,
            "provenance": p.provenance,
            "error_ratio": p.error_ratio,
            "source": p.source,
            "as_of": p.as_of,
        }
        for p in inv.profiles
    ]


def _workloads(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {
            "name": w.name,
            "title": w.title,
            "model": w.model,
            "input_tokens": w.input_tokens,
            "output_tokens": w.output_tokens,
            "upload_bytes": w.upload_bytes,
            "download_bytes": w.download_bytes,
            "ttft_budget_ms": ms(w.ttft_budget_ns),
            "e2e_budget_ms": ms(w.e2e_budget_ns),
            "data_class": w.data_class,
            "availability": w.availability,
            "peak_to_mean": w.peak_to_mean,
            "note": w.note,
        }
        for w in inv.workloads.values()
    ]


def _applications(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {
            "name": a.name,
            "title": a.title,
            "workload": a.workload,
            "sources": a.sources,
            "stream_mbps": a.stream_bps / 1e6,
            "active_ratio": a.active_ratio,
            "kept_ratio": a.kept_ratio,
            "requests_per_hour": a.requests_per_hour,
            "rtt_budget_ms": ms(a.rtt_budget_ns),
            "stream_tb_per_month": a.stream_bytes_per_month / 1e12,
            "kept_tb_per_month": a.kept_bytes_per_month / 1e12,
            "note": a.note,
        }
        for a in inv.applications.values()
    ]


def _pools(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {
            "id": pool.id,
            "site": pool.site,
            "accelerator": pool.accelerator,
            "device_count": pool.device_count,
            "model": pool.model,
            "quantisation": pool.profile.quantisation,
            "usd_per_hour": pool.usd_per_hour,
        }
        for pool in inv.pools
    ]


def _rules(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {
            "id": rule.id,
            "title": rule.title,
            "jurisdiction": rule.jurisdiction,
            "data_class": rule.data_class,
            "applies_to": sorted(rule.applies_to),
            **{activity: "any" if (mask := rule.mask(activity)) is None else sorted(mask) for activity in ACTIVITIES},
            "conditions": rule.conditions,
            "in_force_from": rule.in_force_from,
            "variant_of": rule.variant_of,
            "source": rule.source,
            "as_of": rule.as_of,
            "note": rule.note,
        }
        for rule in inv.rules.values()
    ]


def _jurisdictions(inv: Inventory) -> list[dict[str, Any]]:
    return [{"country": country, "jurisdiction": jurisdiction} for country, jurisdiction in inv.jurisdictions.named.items()]


def _groups(inv: Inventory) -> list[dict[str, Any]]:
    return [
        {"id": group.id, "title": group.title, "countries": sorted(group.countries), "source": group.source, "as_of": group.as_of}
        for group in inv.jurisdictions.groups.values()
    ]


#: Kind -> its rows. The long texts (source, note) are in the JSON only.
KINDS: dict[str, Callable[[Inventory], list[dict[str, Any]]]] = {
    "pops": _pops,
    "regions": _regions,
    "metros": _metros,
    "endpoints": _endpoints,
    "onramps": _onramps,
    "links": _links,
    "prices": _prices,
    "compute-prices": _compute,
    "currencies": _currencies,
    "accelerators": _accelerators,
    "models": _models,
    "profiles": _profiles,
    "workloads": _workloads,
    "applications": _applications,
    "pools": _pools,
    "jurisdictions": _jurisdictions,
    "country-groups": _groups,
    "rules": _rules,
}
