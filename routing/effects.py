"""What each edit does to a world.

Edits are applied in order. A failure stays until `restore_site`; what `remove_site` took is gone. An edit that cannot be
meant (a site nobody knows, a second site of one id, resizing what was removed) raises UserError with the next step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from records.errors import UnknownSite, UserError
from records.histogram import Histogram, bucket_of, bucket_value_ns
from records.link import LinkEstimate
from records.place import PROVIDERS, Site, great_circle_km
from records.serving import PerfProfile, ServingPool
from records.units import MS
from routing.columns import LinkColumns
from routing.edits import (
    AddSite,
    BurstDemand,
    Degrade,
    Edit,
    FailGroup,
    FailLink,
    FailProvider,
    FailRegion,
    FailSite,
    RemoveSite,
    Resize,
    RestoreSite,
    SetCache,
    SetDemand,
    SetMode,
    SetModel,
    SetPrice,
    SetResidency,
    SetWorkload,
)
from routing.evidence import Evidence
from routing.modelled import model_link
from routing.world import Burst, Group, PriceChange, Push, World

__all__ = ["apply_edit", "slower"]


def apply_edit(edit: Edit, world: World) -> World:
    """The world after one edit. Raises UnknownSite and UserError for what the world cannot take."""
    match edit:
        case FailSite(site):
            _need(site, world)
            return replace(world, down=world.down | {site})
        case RestoreSite():
            _need(edit.site, world)
            if edit.site not in world.down:
                raise UserError(f"restore_site {edit.site}: it has not failed; a site is restored after a fail_ edit that took it")
            return replace(world, down=world.down - {edit.site})
        case FailLink():
            return _fail_link(edit, world)
        case FailProvider() | FailRegion() | FailGroup():
            sites, links = _members(edit, world)
            return replace(world, down=world.down | sites, cut=world.cut | links | {(b, a) for a, b in links})
        case Degrade():
            return _degrade(edit, world)
        case AddSite():
            return _add_site(edit, world)
        case RemoveSite():
            _need(edit.site, world)
            if edit.site in world.demand:
                raise UserError(f"remove_site {edit.site}: users are there; set_demand moves them, fail_site re-homes them")
            return replace(
                world,
                all_sites={name: site for name, site in world.all_sites.items() if name != edit.site},
                all_links=world.all_links.without({edit.site})
                if isinstance(world.all_links, LinkColumns)
                else tuple(link for link in world.all_links if edit.site not in (link.src, link.dst)),
                all_pools=tuple(pool for pool in world.all_pools if pool.site != edit.site),
                down=world.down - {edit.site},
            )
        case Resize():
            return _resize(edit, world)
        case SetPrice():
            if edit.site is not None:
                _need(edit.site, world)
            change = PriceChange(
                scope=edit.scope,
                usd=edit.usd,
                factor=edit.factor,
                provider=edit.provider,
                site=edit.site,
                accelerator=edit.accelerator,
            )
            return replace(world, prices=(*world.prices, change))
        case SetResidency():
            unknown = [name for name in edit.rules if name not in world.stock.rules]
            if unknown:
                raise UserError(f"set_residency: no rule {unknown[0]!r}; known are {', '.join(sorted(world.stock.rules)) or 'none'}")
            return replace(world, residency=tuple(world.stock.rules[name] for name in dict.fromkeys(edit.rules)))
        case SetDemand():
            return _set_demand(edit, world)
        case BurstDemand():
            if edit.site is not None:
                _need_demand(edit.site, world)
            burst = Burst(
                factor=edit.factor, start_s=edit.start_s, rise_s=edit.rise_s, hold_s=edit.hold_s, fall_s=edit.fall_s, site=edit.site
            )
            return replace(world, bursts=(*world.bursts, burst))
        case SetWorkload():
            if edit.workload not in world.stock.workloads:
                raise UserError(f"set_workload: no workload {edit.workload!r}; known are {', '.join(world.stock.workloads) or 'none'}")
            return replace(world, workload=world.stock.workloads[edit.workload])
        case SetModel():
            return _set_model(edit, world)
        case SetCache():
            return replace(world, cache_hit_ratio=edit.hit_ratio)
        case SetMode():
            push = None
            if edit.origin is not None:
                _need(edit.origin, world)
                if edit.model_gb is None or edit.pushes_per_month is None:
                    raise UserError("set_mode: a push from `origin` needs model_gb and pushes_per_month")
                push = Push(origin=edit.origin, model_gb=edit.model_gb, per_month=edit.pushes_per_month)
            return replace(world, mode=edit.mode, push=push)


def _need(name: str, world: World) -> Site:
    if name not in world.all_sites:
        raise UnknownSite(name, world.all_sites)
    return world.all_sites[name]


def _need_demand(name: str, world: World) -> None:
    _need(name, world)
    if name not in world.demand:
        raise UserError(f"no demand comes from {name}; demand comes from {', '.join(sorted(world.demand)[:5])} and others")


def _fail_link(edit: FailLink, world: World) -> World:
    _need(edit.src, world)
    _need(edit.dst, world)
    if edit.src == edit.dst:
        raise UserError(f"fail_link: {edit.src} has no link to itself")
    ends = {(edit.src, edit.dst), (edit.dst, edit.src)}
    if edit.medium is None:
        return replace(world, cut=world.cut | ends)
    kept = tuple(link for link in world.all_links if (link.src, link.dst) not in ends or link.medium != edit.medium)
    if len(kept) == len(world.all_links):
        raise UserError(f"fail_link: no {edit.medium} link between {edit.src} and {edit.dst} is known; without a medium the pair is cut")
    return replace(world, all_links=kept)


def _members(edit: FailProvider | FailRegion | FailGroup, world: World) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """Sites and links that a group edit takes; raises UserError where there are none."""
    places = [site for site in world.all_sites.values() if site.kind != "metro"]
    links: frozenset[tuple[str, str]] = frozenset()
    match edit:
        case FailProvider():
            if edit.provider not in PROVIDERS:
                raise UserError(f"fail_provider: {edit.provider!r} is not one of {', '.join(PROVIDERS)}")
            sites = frozenset(site.id for site in places if site.provider == edit.provider)
            what = f"fail_provider: no site of {edit.provider} is known here"
        case FailRegion():
            if edit.country is not None:
                sites = frozenset(site.id for site in places if site.country == edit.country)
                what = f"fail_region: no PoP or region is in {edit.country!r}; countries are ISO 3166-1 alpha-2, as in SG"
            elif edit.lat is not None and edit.lon is not None and edit.radius_km is not None:
                centre = Site(id="centre", kind="pop", name="centre", lat=edit.lat, lon=edit.lon)
                sites = frozenset(site.id for site in places if great_circle_km(site, centre) <= edit.radius_km)
                what = f"fail_region: no PoP or region lies within {edit.radius_km:g} km of {edit.lat:g}, {edit.lon:g}"
            else:
                raise UserError("fail_region takes a country, or lat, lon and radius_km")
        case FailGroup():
            group = world.groups.get(edit.group)
            if group is None and edit.group.startswith("metro/"):
                city = edit.group.removeprefix("metro/").lower()
                group = Group(sites=frozenset(site.id for site in places if (site.metro or "").lower() == city))
            if group is None:
                known = ", ".join(world.groups) or "none"
                raise UserError(
                    f"fail_group: no group {edit.group!r}; the scenario's `groups` are {known}, and metro/NAME is everything in a city"
                )
            for name in (*group.sites, *(end for link in group.links for end in link)):
                _need(name, world)
            sites, links = group.sites, group.links
            what = f"fail_group: {edit.group!r} has no member here"
    if not sites and not links:
        raise UserError(what)
    return sites, links


def slower(link: LinkEstimate, edit: Degrade) -> LinkEstimate:
    """A link after a degradation: RTT x rtt_factor + add_ms, loss 1 - (1 - a)(1 - b), throughput x throughput_factor.

    The histogram moves with it, bucket by bucket (within its relative error). An unknown loss becomes the one added, an
    unknown throughput stays unknown. The RTT is no longer what was measured: evidence `measured` becomes `assumed`.
    """

    def rtt(value_ns: int | None) -> int | None:
        return None if value_ns is None else round(value_ns * edit.rtt_factor + edit.add_ms * MS)

    histogram = link.histogram
    if histogram is not None:
        histogram = Histogram.from_counts(
            (bucket_of(max(1.0, bucket_value_ns(bucket) * edit.rtt_factor + edit.add_ms * MS)), count)
            for bucket, count in histogram.buckets
        )
    loss = link.loss_ratio if edit.loss_ratio == 0 else 1 - (1 - (link.loss_ratio or 0.0)) * (1 - edit.loss_ratio)
    return replace(
        link,
        rtt_min_ns=rtt(link.rtt_min_ns),
        rtt_p50_ns=rtt(link.rtt_p50_ns),
        rtt_p95_ns=rtt(link.rtt_p95_ns),
        rtt_p99_ns=rtt(link.rtt_p99_ns),
        loss_ratio=loss,
        throughput_bps=None if link.throughput_bps is None else link.throughput_bps * edit.throughput_factor,
        histogram=histogram,
        inflation=None if link.inflation is None else link.inflation * edit.rtt_factor,
        evidence="assumed" if link.evidence == "measured" else link.evidence,
    )


def _degrade(edit: Degrade, world: World) -> World:
    if (edit.site is None) == (edit.src is None or edit.dst is None) or (edit.site is not None and (edit.src or edit.dst)):
        raise UserError("degrade takes a site, or src and dst")
    if edit.rtt_factor == 1 and edit.add_ms == 0 and edit.loss_ratio == 0 and edit.throughput_factor == 1:
        raise UserError("degrade changes nothing; give rtt_factor, add_ms, loss_ratio or throughput_factor")
    if edit.site is not None:
        centre = _need(edit.site, world)
        touched = {(edit.site, name) for name in world.all_sites} | {(name, edit.site) for name in world.all_sites}
        pairs = [(centre, other) for other in world.all_sites.values() if other.id != edit.site]
    else:
        assert edit.src is not None
        assert edit.dst is not None
        a, b = _need(edit.src, world), _need(edit.dst, world)
        if a == b:
            raise UserError(f"degrade: {a.id} has no link to itself")
        touched, pairs = {(a.id, b.id), (b.id, a.id)}, [(a, b)]
    links = [slower(link, edit) if (link.src, link.dst) in touched else link for link in world.all_links]
    evidence = Evidence(world.all_links)
    # Pairs that nobody measured are modelled when they are needed: those get slower too, as links given with their evidence.
    # A direction that was not measured beside one that was needs no link: it is assumed from that one, which is slower now.
    links += [
        slower(model_link(src, dst), edit)
        for one, other in pairs
        for src, dst in ((one, other), (other, one))
        if evidence.known(src.id, dst.id) is None and (src.id, dst.id) not in evidence.given
    ]
    return replace(world, all_links=tuple(links))


def _profile(world: World, accelerator: str, model: str, quantisation: str | None = None) -> PerfProfile:
    for profile in world.stock.profiles:
        if (profile.accelerator, profile.model) == (accelerator, model) and quantisation in (None, profile.quantisation):
            return profile
    known = sorted({profile.accelerator for profile in world.stock.profiles if profile.model == model})
    raise UserError(f"no profile of {model} on {accelerator!r}; known accelerators for it are {', '.join(known) or 'none'}")


def _pool(world: World, site: str, accelerator: str, devices: int, model: str | None, usd_per_hour: float | None) -> ServingPool:
    asked = model or (None if world.workload is None else world.workload.model)
    if asked is None:
        raise UserError(f"a pool at {site} needs a model")
    each = usd_per_hour if usd_per_hour is not None else world.stock.device_usd_per_hour.get(accelerator)
    return ServingPool(
        id=f"{site}-{accelerator}-{asked}",
        site=site,
        accelerator=accelerator,
        device_count=devices,
        model=asked,
        profile=_profile(world, accelerator, asked),
        usd_per_hour=None if each is None else each * devices,
    )


def _add_site(edit: AddSite, world: World) -> World:
    if edit.site in world.all_sites:
        raise UserError(f"add_site: {edit.site} is there already; resize changes its devices, restore_site brings a failed one back")
    site = Site(
        id=edit.site,
        kind=edit.kind,
        name=edit.name or edit.site,
        lat=edit.lat,
        lon=edit.lon,
        country=edit.country,
        provider=edit.provider,
        metro=edit.name,
    )
    world = replace(world, all_sites={**world.all_sites, edit.site: site})
    if edit.accelerator is None:
        return world
    return replace(
        world, all_pools=(*world.all_pools, _pool(world, edit.site, edit.accelerator, edit.devices, edit.model, edit.usd_per_hour))
    )


def _resize(edit: Resize, world: World) -> World:
    _need(edit.site, world)
    asked = edit.model or (None if world.workload is None else world.workload.model)
    chosen = [
        pool
        for pool in world.all_pools
        if pool.site == edit.site and asked in (None, pool.model) and edit.accelerator in (None, pool.accelerator)
    ]
    if len(chosen) > 1:
        raise UserError(f"resize {edit.site}: {len(chosen)} pools are meant ({', '.join(pool.id for pool in chosen)}); name an accelerator")
    if not chosen:
        if edit.accelerator is None or edit.devices == 0:
            raise UserError(f"resize {edit.site}: it has no pool for {asked or 'any model'}; an accelerator makes one")
        return replace(world, all_pools=(*world.all_pools, _pool(world, edit.site, edit.accelerator, edit.devices, edit.model, None)))
    old = chosen[0]
    price = None if old.usd_per_hour is None else old.usd_per_hour * edit.devices / old.device_count
    new = () if edit.devices == 0 else (replace(old, device_count=edit.devices, usd_per_hour=price),)
    return replace(world, all_pools=tuple(kept for pool in world.all_pools for kept in (new if pool is old else (pool,))))


def _set_demand(edit: SetDemand, world: World) -> World:
    demand: Mapping[str, float] = world.demand
    if edit.to is not None:
        if edit.site is None or edit.share is None:
            raise UserError("set_demand: moving demand needs site (from), to and share")
        _need_demand(edit.site, world)
        _need(edit.to, world)
        if edit.to == edit.site:
            where = f"`to` is {edit.to}, where the demand is already"
            raise UserError(f"set_demand: {where}; it moves to another site, and factor or rps changes it where it is")
        moved = demand[edit.site] * edit.share
        return replace(world, demand={**demand, edit.site: demand[edit.site] - moved, edit.to: demand.get(edit.to, 0.0) + moved})
    if (edit.factor is None) == (edit.rps is None):
        raise UserError("set_demand takes a factor, or rps, or to and share")
    if edit.factor is not None:
        if edit.site is not None:
            _need_demand(edit.site, world)
        return replace(world, demand={name: rps * (edit.factor if edit.site in (None, name) else 1.0) for name, rps in demand.items()})
    assert edit.rps is not None
    if edit.site is None:
        total = math.fsum(demand.values())
        if total == 0:
            raise UserError("set_demand rps: there is no demand to scale; name a site")
        return replace(world, demand={name: rps * edit.rps / total for name, rps in demand.items()})
    _need(edit.site, world)
    return replace(world, demand={**demand, edit.site: edit.rps})


def _set_model(edit: SetModel, world: World) -> World:
    if world.workload is None:
        raise UserError("set_model: there is no workload to change; set_workload first")
    pools = []
    for pool in world.all_pools:
        found = next(
            (
                p
                for p in world.stock.profiles
                if (p.accelerator, p.model) == (pool.accelerator, edit.model) and edit.quantisation in (None, p.quantisation)
            ),
            None,
        )
        # A pool serves what its device has a profile for; the others keep what they serve.
        pools.append(pool if found is None else replace(pool, model=edit.model, profile=found))
    if not any(pool.model == edit.model for pool in pools):
        models = sorted({profile.model for profile in world.stock.profiles})
        raise UserError(f"set_model: no pool's device has a profile of {edit.model!r}; profiles are of {', '.join(models) or 'none'}")
    return replace(world, all_pools=tuple(pools), workload=replace(world.workload, model=edit.model))
