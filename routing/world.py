"""The world a plan or a scenario is about: places, graded links, pools, demand, rules, prices; and what is down in it.

Everything is kept beside a set of what is down, so that a failure and its repair are the identity. A World is a value:
edits (routing.edits) make new ones. `sites`, `links` and `pools` are what stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

from records.link import LinkEstimate
from records.place import Site
from records.residency import ResidencyRule
from records.serving import EgressScope, PerfProfile, ServingPool, Workload
from routing.columns import LinkColumns
from routing.cost import EgressPrices, LinkPrices

__all__ = ["MODES", "Burst", "Group", "Mode", "PriceChange", "Push", "Stock", "World"]

Mode = Literal["any", "edge", "cloud", "hybrid"]
#: Where requests may be served: anywhere, at PoPs, in cloud regions, or (hybrid) at PoPs, and in the cloud what they cannot take.
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What edits may take from: profiles, prices of devices, workloads, rules. Empty: edits that need one are refused.

    link_prices  what private links cost, where they have a price of their own; no edit changes them
    """

    profiles: tuple[PerfProfile, ...] = ()
    device_usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    rules: Mapping[str, ResidencyRule] = field(default_factory=dict)
    link_prices: LinkPrices = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Sites and links that fail together: a building, a cable, a power feed."""

    sites: frozenset[str] = frozenset()
    links: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceChange:
    """A price set (usd) or scaled (factor). scope: an egress scope or `device`; None of provider, site, accelerator: all."""

    scope: EgressScope | Literal["device"]
    usd: float | None = None
    factor: float | None = None
    provider: str | None = None
    site: str | None = None
    accelerator: str | None = None

    def of(self, price: float | None) -> float | None:
        """The price after the change; an unknown price scaled stays unknown."""
        if self.usd is not None:
            return self.usd
        return None if price is None or self.factor is None else price * self.factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Demand that rises to `factor` times, holds and falls again, in seconds from the start; site None: everywhere."""

    factor: float
    start_s: float
    rise_s: float
    hold_s: float
    fall_s: float
    site: str | None = None

    def at(self, second: float) -> float:
        """What demand is multiplied by at a second: a trapezoid."""
        since = second - self.start_s
        if since < 0 or since > self.rise_s + self.hold_s + self.fall_s:
            return 1.0
        if since < self.rise_s:
            share = since / self.rise_s
        elif since <= self.rise_s + self.hold_s:
            share = 1.0
        else:
            share = 1 - (since - self.rise_s - self.hold_s) / self.fall_s
        return 1 + (self.factor - 1) * share


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Sending a model from where it is trained to every PoP that serves it: GB (10^9 bytes) a push, pushes a month."""

    origin: str
    model_gb: float
    per_month: float


@dataclass(frozen=True, kw_only=True)
class World:
    """See the module. `all_*` is everything there is; `down` the sites that fail; `cut` directed pairs without any link.

    demand            site id -> requests a second
    workload          what is asked for; None where only routes of given requests are planned
    cache_hit_ratio   share of a prompt that a pool which knows the user holds already
    """

    all_sites: Mapping[str, Site]
    all_links: Sequence[LinkEstimate]
    all_pools: tuple[ServingPool, ...]
    down: frozenset[str] = frozenset()
    cut: frozenset[tuple[str, str]] = frozenset()
    demand: Mapping[str, float] = field(default_factory=dict)
    workload: Workload | None = None
    residency: tuple[ResidencyRule, ...] = ()
    mode: Mode = "any"
    push: Push | None = None
    cache_hit_ratio: float = 0.0
    prices: tuple[PriceChange, ...] = ()
    bursts: tuple[Burst, ...] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)
    stock: Stock = field(default_factory=Stock)

    @classmethod
    def of(cls, sites: Mapping[str, Site], links: Iterable[LinkEstimate], pools: Iterable[ServingPool], **more: object) -> World:
        """The world as it is."""
        kept = links if isinstance(links, LinkColumns) else tuple(links)  # half a million links as objects take ten seconds
        return cls(all_sites=dict(sites), all_links=kept, all_pools=tuple(pools), **more)  # type: ignore[arg-type]

    @cached_property
    def sites(self) -> dict[str, Site]:
        """The sites that stand."""
        return {name: site for name, site in self.all_sites.items() if name not in self.down}

    @cached_property
    def failed(self) -> dict[str, Site]:
        """The sites that are down."""
        return {name: site for name, site in self.all_sites.items() if name in self.down}

    @cached_property
    def links(self) -> Sequence[LinkEstimate]:
        """The links of which both ends stand and that are not cut."""
        if not self.down and not self.cut:
            return self.all_links
        if not self.cut and isinstance(self.all_links, LinkColumns):
            return self.all_links.without(self.down)
        gone, cut = self.down, self.cut
        return tuple(link for link in self.all_links if link.src not in gone and link.dst not in gone and (link.src, link.dst) not in cut)

    @cached_property
    def pools(self) -> tuple[ServingPool, ...]:
        """The pools that stand, where the mode lets requests be served."""
        kinds = {"edge": ("pop",), "cloud": ("region",)}.get(self.mode, ("pop", "region", "metro"))
        return tuple(pool for pool in self.all_pools if (site := self.sites.get(pool.site)) is not None and site.kind in kinds)

    def egress(self, prices: EgressPrices) -> EgressPrices:
        """The prices given, with the world's changes."""
        changes = [change for change in self.prices if change.scope != "device"]
        if not changes:
            return prices

        def price(site: str, scope: EgressScope, month_gb: float) -> float | None:
            found = prices(site, scope, month_gb)
            provider = self.all_sites[site].provider if site in self.all_sites else None
            for change in changes:
                if change.scope == scope and change.site in (None, site) and change.provider in (None, provider):
                    found = change.of(found)
            return found

        return price

    def price_of(self, pool: ServingPool) -> float | None:
        """USD per hour of all devices of a pool, with the world's changes (a price set is one device's); None: not known."""
        price = pool.usd_per_hour
        provider = self.all_sites[pool.site].provider if pool.site in self.all_sites else None
        for change in self.prices:
            matches = (
                change.site in (None, pool.site) and change.provider in (None, provider) and change.accelerator in (None, pool.accelerator)
            )
            if change.scope == "device" and matches:
                price = change.usd * pool.device_count if change.usd is not None else change.of(price)
        return price
